package facts

import (
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/sysfs"

	"shard_to_ssd/bench"
)

func (o Options) machineFacts() bench.Facts {
	f := bench.Facts{
		Kernel: readText(o.procPath("sys", "kernel", "osrelease")), CPUs: runtime.NumCPU(), Governor: o.cpuGovernor(),
	}
	proc, err := procfs.NewFS(o.procPath())
	if err != nil {
		return f
	}
	if info, err := proc.Meminfo(); err == nil && info.MemTotalBytes != nil {
		bytes := int64(*info.MemTotalBytes)
		f.Memory = &bytes
	}
	if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
		f.CPU, f.CPUs = knownText(cpus[0].ModelName), len(cpus)
		f.Virtual = o.virtualMachine(slices.Contains(cpus[0].Flags, "hypervisor"))
	}
	return f
}

// cpuGovernor returns the frequency governor of the CPUs, or several if they differ. A
// virtual machine has no governor.
func (o Options) cpuGovernor() *string {
	files, _ := filepath.Glob(o.sysPath("devices", "system", "cpu", "cpu[0-9]*", "cpufreq", "scaling_governor"))
	var list []string
	for _, file := range files {
		if s := readText(file); s != nil {
			list = append(list, *s)
		}
	}
	slices.Sort(list)
	return knownText(strings.Join(slices.Compact(list), ", "))
}

// virtualMachine returns the kind of virtual machine, or nil on real hardware. Xen has a
// file of its own. Other kinds set the CPU flag, at least on x86, and their name is the
// vendor and product of the machine.
func (o Options) virtualMachine(flag bool) *string {
	if xen := readText(o.sysPath("hypervisor", "type")); xen != nil {
		return xen
	}
	if !flag {
		return nil
	}
	unnamed := "a virtual machine of unknown kind"
	s, err := sysfs.NewFS(o.sysPath())
	if err != nil {
		return &unnamed
	}
	dmi, err := s.DMIClass()
	if err != nil || dmi.SystemVendor == nil {
		return &unnamed
	}
	name := *dmi.SystemVendor
	if dmi.ProductName != nil {
		name += " " + *dmi.ProductName
	}
	return knownText(name)
}

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

func (r Roots) machine() bench.Facts {
	f := bench.Facts{
		Kernel: text(r.proc("sys", "kernel", "osrelease")), CPUs: runtime.NumCPU(), Governor: r.governor(),
	}
	proc, err := procfs.NewFS(r.proc())
	if err != nil {
		return f
	}
	if info, err := proc.Meminfo(); err == nil && info.MemTotalBytes != nil {
		bytes := int64(*info.MemTotalBytes)
		f.Memory = &bytes
	}
	if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
		f.CPU, f.CPUs = known(cpus[0].ModelName), len(cpus)
		f.Virtual = r.virtual(slices.Contains(cpus[0].Flags, "hypervisor"))
	}
	return f
}

// governor is that of the CPUs, several if they differ. A virtual machine has none.
func (r Roots) governor() *string {
	files, _ := filepath.Glob(r.sys("devices", "system", "cpu", "cpu[0-9]*", "cpufreq", "scaling_governor"))
	var list []string
	for _, file := range files {
		if s := text(file); s != nil {
			list = append(list, *s)
		}
	}
	slices.Sort(list)
	return known(strings.Join(slices.Compact(list), ", "))
}

// virtual names the virtual machine: Xen by its own word, others by the name that they
// give the machine. The flag alone is set by all that run on x86.
func (r Roots) virtual(flag bool) *string {
	if xen := text(r.sys("hypervisor", "type")); xen != nil {
		return xen
	}
	if !flag {
		return nil
	}
	unnamed := "a virtual machine that does not say which"
	s, err := sysfs.NewFS(r.sys())
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
	return known(name)
}

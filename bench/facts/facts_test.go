package facts_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/facts"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
)

// machine is a fake /sys and /proc, and a directory in their mountinfo.
type machine struct {
	options facts.Options // where the fake is
	dir     string
}

// fakeMachine makes a machine; mounted is its line of mountinfo without ids.
func fakeMachine(t *testing.T, mounted string, steps ...testkit.Step) machine {
	t.Helper()
	root, dir := t.TempDir(), t.TempDir()
	line := fmt.Sprintf("%d 1 %s\n", mountID(t, dir), mounted)
	testkit.Apply(t, root, testkit.Dir("sys", 0o755), testkit.TextFile("proc/self/mountinfo", line))
	testkit.Apply(t, root, steps...)
	return machine{facts.Options{Sys: root + "/sys", Proc: root + "/proc"}, dir}
}

func mountID(t *testing.T, dir string) uint64 {
	t.Helper()
	d, err := sys.Open(dir, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	id, ok, err := d.MountID()
	if err != nil || !ok {
		t.Fatalf("no mount id: %v", err)
	}
	return id
}

// collect returns the facts, without those of the real file system below dir.
func (m machine) collect(t *testing.T) bench.Facts {
	t.Helper()
	f, err := facts.Collect(m.dir, m.options)
	if err != nil {
		t.Fatal(err)
	}
	if f.Size == nil || f.Free == nil || *f.Free > *f.Size || *f.Free <= 0 {
		t.Errorf("got size %v, free %v, want free within size", f.Size, f.Free)
	}
	f.Size, f.Free = nil, nil
	return f
}

// filesIn returns steps for files below a directory, from lines "name value".
func filesIn(dir string, lines ...string) (steps []testkit.Step) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, " ")
		steps = append(steps, testkit.TextFile(dir+"/"+name, value+"\n"))
	}
	return steps
}

func joinSteps(lists ...[]testkit.Step) (all []testkit.Step) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

const (
	port   = "sys/devices/pci0000:00/0000:00:1d.0"
	pci    = port + "/0000:01:00.0"
	nvme   = pci + "/nvme/nvme0"
	nvmeNS = nvme + "/nvme0n1"
)

// nvmeDrive is a drive in a slot that is slower than the drive, with a partition. A sensor
// of another device precedes its own.
func nvmeDrive() []testkit.Step {
	return joinSteps(
		filesIn(port, "current_link_speed 2.5 GT/s PCIe", "current_link_width 1"),
		filesIn(pci, "current_link_speed 16.0 GT/s PCIe", "current_link_width 4", "max_link_speed 32.0 GT/s PCIe", "max_link_width 4"),
		filesIn(nvme, "model Example Drive A 2TB                       ", "firmware_rev EXA1    ", "serial  S0EXAMPLE        ", "transport pcie",
			"hwmon2/name other", "hwmon2/temp1_input 99000",
			"hwmon3/name nvme", "hwmon3/temp1_input 41850", "hwmon3/temp1_alarm 0"),
		filesIn(nvmeNS, "size 3907029168", "dev 259:0", "queue/rotational 0", "queue/nr_requests 1023",
			"queue/scheduler [none] mq-deadline kyber", "nvme0n1p2/partition 2", "nvme0n1p2/size 1000"),
		[]testkit.Step{
			testkit.Symlink("../../nvme0", nvmeNS+"/device"),
			testkit.Symlink("../../devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0/nvme0n1", "sys/dev/block/259:0"),
			testkit.Symlink("../../devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p2", "sys/dev/block/259:2"),
		})
}

func nvmeFacts() bench.Facts {
	return bench.Facts{
		Device: ptr("nvme0n1"), Model: ptr("Example Drive A 2TB"), Firmware: ptr("EXA1"), Serial: ptr("S0EXAMPLE"),
		Capacity: ptr(int64(2000398934016)), Transport: ptr("nvme"), LinkSpeed: ptr("16.0 GT/s PCIe"), LinkWidth: ptr(4),
		LinkSpeedMax: ptr("32.0 GT/s PCIe"), LinkWidthMax: ptr(4), Rotational: ptr(false), Scheduler: ptr("none"),
		QueueDepth: ptr(1023), FileSystem: ptr("xfs"), Mount: ptr("attr2,noatime,noquota,rw"), CPUs: runtime.NumCPU(),
	}
}

func ptr[T any](v T) *T { return &v }

func requireFacts(t *testing.T, want, got bench.Facts) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts: want -, got +:\n%s", diff)
	}
}

const onNVMe = "259:2 / / rw,noatime shared:1 - xfs /dev/nvme0n1p2 rw,attr2,noquota"

func TestNVMe(t *testing.T) {
	m := fakeMachine(t, onNVMe, nvmeDrive()...)
	requireFacts(t, nvmeFacts(), m.collect(t))
	hidden := nvmeFacts()
	hidden.Serial = nil
	m.options.HideSerial = true
	requireFacts(t, hidden, m.collect(t))
}

// Without one of the files, its fact is missing and no other fact.
func TestMissingFiles(t *testing.T) {
	for _, c := range []struct {
		file string
		lost func(f *bench.Facts)
	}{
		{nvme + "/model", func(f *bench.Facts) { f.Model = nil }},
		{nvme + "/firmware_rev", func(f *bench.Facts) { f.Firmware = nil }},
		{nvme + "/serial", func(f *bench.Facts) { f.Serial = nil }},
		{nvme + "/transport", func(f *bench.Facts) {}},
		{nvmeNS + "/size", func(f *bench.Facts) { f.Capacity = nil }},
		{nvmeNS + "/queue/rotational", func(f *bench.Facts) { f.Rotational = nil }},
		{nvmeNS + "/queue/nr_requests", func(f *bench.Facts) { f.QueueDepth = nil }},
		{nvmeNS + "/queue/scheduler", func(f *bench.Facts) { f.Scheduler = nil }},
		{pci + "/current_link_width", func(f *bench.Facts) { f.LinkWidth = nil }},
		{pci + "/max_link_speed", func(f *bench.Facts) { f.LinkSpeedMax = nil }},
		{"sys/dev/block/259:2", func(f *bench.Facts) {
			*f = bench.Facts{FileSystem: f.FileSystem, Mount: f.Mount, CPUs: f.CPUs}
		}},
		{"proc/self/mountinfo", func(f *bench.Facts) { *f = bench.Facts{CPUs: f.CPUs} }},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			m := fakeMachine(t, onNVMe, nvmeDrive()...)
			if err := os.Remove(filepath.Join(filepath.Dir(m.options.Sys), c.file)); err != nil {
				t.Fatal(err)
			}
			want := nvmeFacts()
			c.lost(&want)
			requireFacts(t, want, m.collect(t))
		})
	}
}

// Values that the kernel writes for "unknown" are not facts.
func TestUnknownValues(t *testing.T) {
	m := fakeMachine(t, onNVMe, joinSteps(nvmeDrive(),
		filesIn(pci, "current_link_speed Unknown", "current_link_width 0", "max_link_width 255"),
		filesIn(nvmeNS, "size 0", "queue/scheduler none mq-deadline", "queue/nr_requests many"),
		filesIn(nvme, "model  "))...)
	want := nvmeFacts()
	want.LinkSpeed, want.LinkWidth, want.LinkWidthMax = nil, nil, nil
	want.Capacity, want.Scheduler, want.QueueDepth, want.Model = nil, nil, nil, nil
	requireFacts(t, want, m.collect(t))
}

// With multipathing, the disk belongs to a subsystem, and the link to its controller.
func TestNVMeMultipath(t *testing.T) {
	head := "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
	steps := joinSteps(nvmeDrive(),
		filesIn(head, "model Example Drive A 2TB", "firmware_rev EXA1", "serial S0EXAMPLE"),
		filesIn(head+"/nvme0n9", "size 3907029168", "queue/rotational 0", "queue/nr_requests 1023", "queue/scheduler [none] kyber"),
		[]testkit.Step{
			testkit.Symlink("..", head+"/nvme0n9/device"),
			testkit.Symlink("../../../pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0", head+"/nvme0"),
			testkit.Symlink("../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n9", "sys/dev/block/259:7"),
		})
	mounted := strings.Replace(onNVMe, "259:2", "259:7", 1)
	want := nvmeFacts()
	want.Device = ptr("nvme0n9")
	requireFacts(t, want, fakeMachine(t, mounted, steps...).collect(t))

	// With two controllers it has two links, and the right one is unknown.
	steps = append(steps, testkit.Symlink("../../../nvme1", head+"/nvme1"))
	want.Transport, want.LinkSpeed, want.LinkWidth, want.LinkSpeedMax, want.LinkWidthMax = nil, nil, nil, nil, nil
	requireFacts(t, want, fakeMachine(t, mounted, steps...).collect(t))
}

func TestNVMeOverTCP(t *testing.T) {
	m := fakeMachine(t, onNVMe, joinSteps(nvmeDrive(), filesIn(nvme, "transport tcp"))...)
	want := nvmeFacts()
	want.Transport, want.LinkSpeed, want.LinkWidth, want.LinkSpeedMax, want.LinkWidthMax = ptr("nvme-tcp"), nil, nil, nil, nil
	requireFacts(t, want, m.collect(t))
}

const (
	ata    = "sys/devices/pci0000:00/0000:00:17.0/ata3"
	target = ata + "/host2/target2:0:0/2:0:0:0"
)

// sataDrive is a drive with a partition. SCSI cuts its model off.
func sataDrive() []testkit.Step {
	return joinSteps(
		filesIn("sys/devices/pci0000:00/0000:00:17.0", "current_link_speed 8.0 GT/s PCIe", "current_link_width 8"),
		filesIn(ata, "link3/ata_link/link3/sata_spd 6.0 Gbps"),
		filesIn(target, "model EXAMPLE SATA SSD", "rev 9Z01", "vendor ATA     ", "vpd_pg80 \x00\x80\x00\x09S1SATA-80",
			"hwmon/hwmon1/name drivetemp", "hwmon/hwmon1/temp1_input 33000"),
		filesIn(target+"/block/sda", "size 1000215216", "queue/rotational 0", "queue/nr_requests 64",
			"queue/scheduler none [mq-deadline]", "sda1/partition 1"),
		[]testkit.Step{
			testkit.Symlink("../../../2:0:0:0", target+"/block/sda/device"),
			testkit.Symlink("../../"+strings.TrimPrefix(target, "sys/")+"/block/sda/sda1", "sys/dev/block/8:1"),
		})
}

// ataPage returns the answer to IDENTIFY DEVICE: the characters of each word are swapped.
func ataPage(serial, firmware, model string) string {
	page := make([]byte, 60+512)
	put := func(word, words int, s string) {
		for i, c := range []byte(fmt.Sprintf("%-*s", 2*words, s)) {
			page[60+2*word+(i^1)] = c
		}
	}
	put(10, 10, serial)
	put(23, 4, firmware)
	put(27, 20, model)
	return string(page)
}

func TestSATA(t *testing.T) {
	const mounted = "8:1 / / rw - ext4 /dev/sda1 rw,discard"
	want := bench.Facts{
		Device: ptr("sda"), Model: ptr("EXAMPLE SATA SSD"), Firmware: ptr("9Z01"), Serial: ptr("S1SATA-80"),
		Capacity: ptr(int64(512110190592)), Transport: ptr("sata"), LinkSpeed: ptr("6.0 Gbps"), Rotational: ptr(false),
		Scheduler: ptr("mq-deadline"), QueueDepth: ptr(64), FileSystem: ptr("ext4"), Mount: ptr("discard,rw"), CPUs: runtime.NumCPU(),
	}
	requireFacts(t, want, fakeMachine(t, mounted, sataDrive()...).collect(t))

	whole := append(sataDrive(), testkit.TextFile(target+"/vpd_pg89", ataPage("S1SATA-89", "9Z01F2A", "EXAMPLE SATA SSD 870 512GB")))
	want.Model, want.Firmware, want.Serial = ptr("EXAMPLE SATA SSD 870 512GB"), ptr("9Z01F2A"), ptr("S1SATA-89")
	requireFacts(t, want, fakeMachine(t, mounted, whole...).collect(t))
}

func TestVirtio(t *testing.T) {
	const vda = "sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda"
	m := fakeMachine(t, "254:0 / / rw,relatime - ext4 /dev/vda rw", joinSteps(
		filesIn("sys/devices/pci0000:00/0000:00:02.0", "current_link_speed 2.5 GT/s PCIe", "current_link_width 1"),
		filesIn("sys/devices/pci0000:00/0000:00:02.0/virtio1", "vendor 0x1af4"),
		filesIn(vda, "size 2048", "serial disk0", "queue/rotational 1", "queue/nr_requests 256", "queue/scheduler none"),
		[]testkit.Step{
			testkit.Symlink("../../../virtio1", vda+"/device"),
			testkit.Symlink("../../"+strings.TrimPrefix(vda, "sys/"), "sys/dev/block/254:0"),
		})...)
	requireFacts(t, bench.Facts{
		Device: ptr("vda"), Serial: ptr("disk0"), Capacity: ptr(int64(1 << 20)), Transport: ptr("virtio"),
		Rotational: ptr(true), Scheduler: ptr("none"), QueueDepth: ptr(256), FileSystem: ptr("ext4"), Mount: ptr("relatime,rw"),
		CPUs: runtime.NumCPU(),
	}, m.collect(t))
}

// lvm is a volume on an encrypted partition of the NVMe drive.
func lvm() []testkit.Step {
	const dm = "sys/devices/virtual/block/"
	return joinSteps(nvmeDrive(),
		filesIn(dm+"dm-1", "dm/uuid LVM-abcdef", "dm/name vg-shards", "size 4096", "queue/scheduler mq-deadline"),
		filesIn(dm+"dm-0", "dm/uuid CRYPT-LUKS2-abcdef", "dm/name secret"),
		[]testkit.Step{
			testkit.Symlink("../../dm-0", dm+"dm-1/slaves/dm-0"),
			testkit.Symlink("../../../../../"+strings.TrimPrefix(nvmeNS, "sys/")+"/nvme0n1p2", dm+"dm-0/slaves/nvme0n1p2"),
			testkit.Symlink("../../devices/virtual/block/dm-1", "sys/dev/block/253:1"),
			testkit.Symlink("../../devices/virtual/block/dm-1", "sys/class/block/dm-1"),
		})
}

func TestDeviceMapper(t *testing.T) {
	want := nvmeFacts()
	want.Layers = []string{"lvm", "crypt"}
	requireFacts(t, want, fakeMachine(t, strings.Replace(onNVMe, "259:2", "253:1", 1), lvm()...).collect(t))
}

// For a device that combines two drives, the facts name that device and nothing below.
func TestTwoDrives(t *testing.T) {
	steps := append(lvm(), testkit.Symlink("../../elsewhere", "sys/devices/virtual/block/dm-0/slaves/sdz"))
	f := fakeMachine(t, strings.Replace(onNVMe, "259:2", "253:1", 1), steps...).collect(t)
	want := bench.Facts{Device: ptr("dm-0"), Layers: []string{"lvm", "crypt"},
		FileSystem: ptr("xfs"), Mount: ptr("attr2,noatime,noquota,rw"), CPUs: runtime.NumCPU()}
	requireFacts(t, want, f)
}

// The number of a btrfs is not that of a device: the pool names its device.
func TestBtrfs(t *testing.T) {
	const mounted = "0:45 /@shards / rw,noatime - btrfs /dev/mapper/vg-shards rw,space_cache=v2"
	pool := testkit.Symlink("../../../../devices/virtual/block/dm-1", "sys/fs/btrfs/0b1c/devices/dm-1")
	want := nvmeFacts()
	want.Layers, want.FileSystem, want.Mount = []string{"lvm", "crypt"}, ptr("btrfs"), ptr("noatime,rw,space_cache=v2")
	requireFacts(t, want, fakeMachine(t, mounted, append(lvm(), pool)...).collect(t))

	other := testkit.Symlink("../../../../devices/virtual/block/dm-0", "sys/fs/btrfs/0b1c/devices/sdz")
	f := fakeMachine(t, mounted, append(lvm(), pool, other)...).collect(t)
	requireFacts(t, bench.Facts{FileSystem: want.FileSystem, Mount: want.Mount, CPUs: want.CPUs}, f)
}

func TestNoDevice(t *testing.T) {
	m := fakeMachine(t, "0:31 / / rw,nosuid - tmpfs tmpfs rw,size=1024k", nvmeDrive()...)
	requireFacts(t, bench.Facts{FileSystem: ptr("tmpfs"), Mount: ptr("nosuid,rw,size=1024k"), CPUs: runtime.NumCPU()}, m.collect(t))
	if facts.FindThermometer(m.dir, m.options) != nil {
		t.Error("tmpfs: got a thermometer, want none")
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := facts.Collect(filepath.Join(t.TempDir(), "absent"), facts.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

func TestMachine(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Log("left out: the fake /proc/cpuinfo is that of an amd64")
		return
	}
	cpu := func(flags string) testkit.Step {
		one := "processor\t: %d\nvendor_id\t: Example\nmodel name\t: Example CPU 3000\nflags\t\t: fpu " + flags + "\n\n"
		return testkit.TextFile("proc/cpuinfo", fmt.Sprintf(one+one, 0, 1))
	}
	base := joinSteps(
		filesIn("proc", "sys/kernel/osrelease 6.99.0-example", "meminfo MemTotal:       1024 kB"),
		filesIn("sys/devices/system/cpu", "cpu0/cpufreq/scaling_governor powersave", "cpu1/cpufreq/scaling_governor performance", "cpufreq/boost 1"),
	)
	for _, c := range []struct {
		name    string
		steps   []testkit.Step
		virtual *string
	}{
		{"real hardware", []testkit.Step{cpu("sse")}, nil},
		{"unnamed", []testkit.Step{cpu("hypervisor")}, ptr("a virtual machine of unknown kind")},
		{"named", append(filesIn("sys/class/dmi/id", "sys_vendor QEMU", "product_name Standard PC"), cpu("hypervisor")), ptr("QEMU Standard PC")},
		{"real hardware, named", append(filesIn("sys/class/dmi/id", "sys_vendor Example Inc."), cpu("sse")), nil},
		{"xen", append(filesIn("sys/hypervisor", "type xen"), cpu("hypervisor")), ptr("xen")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fakeMachine(t, "0:31 / / rw - tmpfs tmpfs rw", joinSteps(base, c.steps)...).collect(t)
			requireFacts(t, bench.Facts{
				FileSystem: ptr("tmpfs"), Mount: ptr("rw"), Kernel: ptr("6.99.0-example"), CPU: ptr("Example CPU 3000"), CPUs: 2,
				Governor: ptr("performance, powersave"), Memory: ptr(int64(1 << 20)), Virtual: c.virtual,
			}, f)
		})
	}
}

// The facts of this machine agree with its own tools.
func TestReal(t *testing.T) {
	dir := t.TempDir()
	f, err := facts.Collect(dir, facts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(testkit.RunCommand(t, "uname", "-r")); f.Kernel == nil || *f.Kernel != want {
		t.Errorf("got kernel %v, want %s", f.Kernel, want)
	}
	if want := strings.TrimSpace(testkit.RunCommand(t, "stat", "-f", "-c", "%b %S", dir)); f.Size == nil || product(t, want) != *f.Size {
		t.Errorf("got size %v, want %s", f.Size, want)
	}
	if want := strings.TrimSpace(testkit.RunCommand(t, "findmnt", "-n", "-o", "FSTYPE", "-T", dir)); f.FileSystem == nil || *f.FileSystem != want {
		t.Errorf("got file system %v, want %s", f.FileSystem, want)
	}
	if f.CPUs < 1 || f.Memory == nil || *f.Memory <= 0 || f.Mount == nil {
		t.Errorf("got %+v, want CPUs, memory and mount options", f)
	}
}

func product(t *testing.T, s string) int64 {
	var a, b int64
	if _, err := fmt.Sscan(s, &a, &b); err != nil {
		t.Fatal(err)
	}
	return a * b
}

// A real loop device is found through the real sysfs.
func TestRealLoop(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := testkit.Mount(t, kind, 400<<20)
			f, err := facts.Collect(dir, facts.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if f.Device == nil || !strings.HasPrefix(*f.Device, "loop") || f.FileSystem == nil || *f.FileSystem != kind {
				t.Errorf("got %+v, want a loop device with %s", f, kind)
			}
			if f.Capacity == nil || *f.Capacity < 100<<20 || *f.Capacity > 1<<30 {
				t.Errorf("got capacity %v, want about 400 MiB", f.Capacity)
			}
			if f.Model != nil || f.Transport != nil || f.LinkSpeed != nil {
				t.Errorf("got facts of a drive for a loop device: %+v", f)
			}
		})
	}
}

func TestThermometer(t *testing.T) {
	m := fakeMachine(t, onNVMe, nvmeDrive()...)
	thermometer := facts.FindThermometer(m.dir, m.options)
	began := time.Unix(1000, 0)
	ticks := make(chan time.Time, 2)
	sensor := filepath.Join(filepath.Dir(m.options.Sys), nvme, "hwmon3")
	write := func(name, value string) {
		if err := os.WriteFile(filepath.Join(sensor, name), []byte(value), 0o600); err != nil {
			t.Error(err)
		}
	}
	ticks <- began.Add(500 * time.Millisecond)
	ticks <- began.Add(time.Second)
	close(ticks)
	first := thermometer.WatchHeat(t.Context(), began, ticks)
	if len(first) != 2 || first[0].Second != 0.5 || first[1].Second != 1 || first[0].Celsius != 41.85 || *first[0].Alarm {
		t.Errorf("got %+v, want 41.85 °C without alarm after 0.5 s and 1 s", first)
	}

	write("temp1_input", "88000\n")
	write("temp1_alarm", "1\n")
	hot, ok := thermometer.ReadHeat()
	if !ok || hot.Celsius != 88 || !*hot.Alarm {
		t.Errorf("got %+v, %v, want 88 °C with alarm", hot, ok)
	}
	write("temp1_input", "\n")
	if _, ok := thermometer.ReadHeat(); ok {
		t.Error("an empty sensor: got a temperature, want none")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if list := thermometer.WatchHeat(ended, began, nil); list != nil {
		t.Errorf("after the end: got %+v, want nothing", list)
	}
}

func TestThermometersElsewhere(t *testing.T) {
	m := fakeMachine(t, "8:1 / / rw - ext4 /dev/sda1 rw", sataDrive()...)
	heat, ok := facts.FindThermometer(m.dir, m.options).ReadHeat()
	if !ok || heat.Celsius != 33 || heat.Alarm != nil {
		t.Errorf("SATA: got %+v, %v, want 33 °C", heat, ok)
	}
	var none *facts.Thermometer
	if _, ok := none.ReadHeat(); ok || none.WatchHeat(t.Context(), time.Now(), nil) != nil {
		t.Error("without a thermometer: got a temperature, want none")
	}
}

package facts

import (
	"os"
	"path/filepath"
	"strings"

	"shard_to_ssd/bench"
)

// disk is a directory of /sys/block, and what is behind it.
type disk struct {
	root  string // of sysfs, without symbolic links
	dir   string // the disk, likewise
	drive string // its device: a controller of NVMe, a SCSI device; "" if it has none
}

// sector is what sizes are counted in, whatever the drive's own is.
const sector = 512

// deep is more than anybody stacks, so that this ends on any sysfs.
const deep = 16

// disk goes from what is mounted down to a disk, and notes what it goes through.
func (r Roots) disk(m mount, f *bench.Facts) (disk, bool) {
	root, err := filepath.EvalSymlinks(r.sys())
	dir := r.device(m)
	if err != nil || dir == "" {
		return disk{}, false
	}
	for range deep {
		if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
			dir = filepath.Dir(dir)
		}
		if name := layer(dir); name != "" {
			f.Layers = append(f.Layers, name)
		}
		slaves := names(filepath.Join(dir, "slaves"))
		if len(slaves) != 1 {
			break
		}
		next, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", slaves[0]))
		if err != nil {
			break
		}
		dir = next
	}
	return disk{root, dir, drive(dir)}, true
}

// layer is what a device that is made of others is.
func layer(dir string) string {
	// The device mapper's ids begin with who made it: LVM-, CRYPT-LUKS2-, mpath-.
	if id := text(filepath.Join(dir, "dm", "uuid")); id != nil {
		kind, _, _ := strings.Cut(*id, "-")
		return strings.ToLower(kind)
	}
	if level := text(filepath.Join(dir, "md", "level")); level != nil {
		return *level
	}
	if len(names(filepath.Join(dir, "slaves"))) > 0 {
		return filepath.Base(dir)
	}
	return ""
}

// drive is the device of a disk. With NVMe's multipathing that is a subsystem: its
// controller, if it has one only.
func drive(dir string) string {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return ""
	}
	if !strings.HasPrefix(filepath.Base(real), "nvme-subsys") {
		return real
	}
	var controllers []string
	for _, name := range names(real) {
		if bus(name) == "nvme" {
			controllers = append(controllers, name)
		}
	}
	if len(controllers) != 1 {
		return real
	}
	if one, err := filepath.EvalSymlinks(filepath.Join(real, controllers[0])); err == nil {
		return one
	}
	return real
}

func (d disk) describe(f *bench.Facts) {
	f.Device = known(filepath.Base(d.dir))
	if n := number(filepath.Join(d.dir, "size")); n != nil && *n > 0 {
		bytes := *n * sector
		f.Capacity = &bytes
	}
	d.queue(f)
	d.identify(f)
	f.Transport = d.transport()
	d.link(f)
}

func (d disk) queue(f *bench.Facts) {
	if n := number(filepath.Join(d.dir, "queue", "rotational")); n != nil {
		turns := *n != 0
		f.Rotational = &turns
	}
	if n := number(filepath.Join(d.dir, "queue", "nr_requests")); n != nil {
		depth := int(*n)
		f.QueueDepth = &depth
	}
	f.Scheduler = scheduler(text(filepath.Join(d.dir, "queue", "scheduler")))
}

// scheduler is the one in brackets: none [mq-deadline] kyber.
func scheduler(list *string) *string {
	if list == nil {
		return nil
	}
	if _, rest, more := strings.Cut(*list, "["); more {
		if name, _, closed := strings.Cut(rest, "]"); closed {
			return known(name)
		}
	}
	if !strings.ContainsAny(*list, " [") {
		return list // a device that can have one only
	}
	return nil
}

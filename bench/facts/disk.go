package facts

import (
	"os"
	"path/filepath"
	"strings"

	"shard_to_ssd/bench"
)

// disk is a directory of /sys/block, and the device behind it.
type disk struct {
	root  string // of sysfs, without symbolic links
	dir   string // the disk, without symbolic links
	drive string // its device: a controller of NVMe, a SCSI device; "" if it has none
}

// sectorSize is the unit of sizes in sysfs, independent of the drive's sectors.
const sectorSize = 512

// mostLayers limits the search on a broken sysfs. Real stacks are much lower.
const mostLayers = 16

// findDisk goes from the mounted device down to a disk, and notes the layers between.
func (o Options) findDisk(m mount, f *bench.Facts) (disk, bool) {
	root, err := filepath.EvalSymlinks(o.sysPath())
	dir := o.deviceDir(m)
	if err != nil || dir == "" {
		return disk{}, false
	}
	for range mostLayers {
		if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
			dir = filepath.Dir(dir)
		}
		if name := layerName(dir); name != "" {
			f.Layers = append(f.Layers, name)
		}
		slaves := entryNames(filepath.Join(dir, "slaves"))
		if len(slaves) != 1 {
			break
		}
		next, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", slaves[0]))
		if err != nil {
			break
		}
		dir = next
	}
	return disk{root, dir, driveDir(dir)}, true
}

// layerName returns the kind of a device that consists of others, "" for a disk.
func layerName(dir string) string {
	// An id of the device mapper begins with the program that made it: LVM-,
	// CRYPT-LUKS2-, mpath-.
	if id := readText(filepath.Join(dir, "dm", "uuid")); id != nil {
		kind, _, _ := strings.Cut(*id, "-")
		return strings.ToLower(kind)
	}
	if level := readText(filepath.Join(dir, "md", "level")); level != nil {
		return *level
	}
	if len(entryNames(filepath.Join(dir, "slaves"))) > 0 {
		return filepath.Base(dir)
	}
	return ""
}

// driveDir returns the device of a disk. With NVMe multipathing, that is a subsystem. If
// the subsystem has only one controller, it returns the controller.
func driveDir(dir string) string {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return ""
	}
	if !strings.HasPrefix(filepath.Base(real), "nvme-subsys") {
		return real
	}
	var controllers []string
	for _, name := range entryNames(real) {
		if busName(name) == "nvme" {
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

func (d disk) addFacts(f *bench.Facts) {
	f.Device = knownText(filepath.Base(d.dir))
	if n := readNumber(filepath.Join(d.dir, "size")); n != nil && *n > 0 {
		bytes := *n * sectorSize
		f.Capacity = &bytes
	}
	d.addQueue(f)
	d.addIdentity(f)
	f.Transport = d.transportName()
	d.addLink(f)
}

func (d disk) addQueue(f *bench.Facts) {
	if n := readNumber(filepath.Join(d.dir, "queue", "rotational")); n != nil {
		rotational := *n != 0
		f.Rotational = &rotational
	}
	if n := readNumber(filepath.Join(d.dir, "queue", "nr_requests")); n != nil {
		depth := int(*n)
		f.QueueDepth = &depth
	}
	f.Scheduler = activeScheduler(readText(filepath.Join(d.dir, "queue", "scheduler")))
}

// activeScheduler returns the scheduler in brackets: none [mq-deadline] kyber.
func activeScheduler(list *string) *string {
	if list == nil {
		return nil
	}
	if _, rest, more := strings.Cut(*list, "["); more {
		if name, _, closed := strings.Cut(rest, "]"); closed {
			return knownText(name)
		}
	}
	if !strings.ContainsAny(*list, " [") {
		return list // a device with only one possible scheduler
	}
	return nil
}

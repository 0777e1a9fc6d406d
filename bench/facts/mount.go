package facts

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/sys"
)

// mount is a line of mountinfo; nil means unknown.
type mount struct{ *procfs.MountInfo }

func (o Options) findMount(d *sys.File) mount {
	id, ok, err := d.MountID()
	if err != nil || !ok {
		return mount{}
	}
	proc, err := procfs.NewFS(o.procPath())
	if err != nil {
		return mount{}
	}
	list, err := proc.GetMounts()
	if err != nil {
		return mount{}
	}
	for _, m := range list {
		if uint64(m.MountID) == id {
			return mount{m}
		}
	}
	return mount{}
}

func (m mount) addFacts(f *bench.Facts) {
	if m.MountInfo == nil {
		return
	}
	f.FileSystem = knownText(m.FSType)
	// The library returns maps, so the kernel's order is lost.
	options := map[string]bool{}
	for _, of := range []map[string]string{m.Options, m.SuperOptions} {
		for name, value := range of {
			if value != "" {
				name += "=" + value
			}
			options[name] = true
		}
	}
	f.Mount = knownText(strings.Join(slices.Sorted(maps.Keys(options)), ","))
}

// deviceDir returns the directory in sysfs of the mounted block device. It returns "" without
// a device, as below tmpfs or NFS, and for more than one.
func (o Options) deviceDir(m mount) string {
	if m.MountInfo == nil {
		return ""
	}
	path := o.sysPath("dev", "block", m.MajorMinorVer)
	if m.FSType == "btrfs" {
		// The number belongs to the file system. Its devices are below fs/btrfs.
		path = o.btrfsDevice(filepath.Base(m.Source))
	}
	if path == "" {
		return "" // EvalSymlinks would take that for the current directory
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return real
}

// btrfsDevice returns the device of that name, if it is the only device of its pool.
func (o Options) btrfsDevice(name string) string {
	pools, _ := filepath.Glob(o.sysPath("fs", "btrfs", "*", "devices"))
	for _, pool := range pools {
		devices := entryNames(pool)
		if len(devices) != 1 {
			continue
		}
		path := o.sysPath("class", "block", devices[0])
		mapped := readText(filepath.Join(path, "dm", "name"))
		if devices[0] == name || mapped != nil && *mapped == name {
			return path
		}
	}
	return ""
}

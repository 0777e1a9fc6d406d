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

// mount is a line of mountinfo; nil: not known.
type mount struct{ *procfs.MountInfo }

func (r Roots) mountOf(d *sys.File) mount {
	id, ok, err := d.MountID()
	if err != nil || !ok {
		return mount{}
	}
	proc, err := procfs.NewFS(r.proc())
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

func (m mount) describe(f *bench.Facts) {
	if m.MountInfo == nil {
		return
	}
	f.FileSystem = known(m.FSType)
	// The library has them as maps, so the order is not the kernel's.
	options := map[string]bool{}
	for _, of := range []map[string]string{m.Options, m.SuperOptions} {
		for name, value := range of {
			if value != "" {
				name += "=" + value
			}
			options[name] = true
		}
	}
	f.Mount = known(strings.Join(slices.Sorted(maps.Keys(options)), ","))
}

// device is the directory in sysfs of the block device that is mounted, "" if there is
// none, as below tmpfs or NFS, or more than one.
func (r Roots) device(m mount) string {
	if m.MountInfo == nil {
		return ""
	}
	path := r.sys("dev", "block", m.MajorMinorVer)
	if m.FSType == "btrfs" {
		// The number is the file system's own. What it is on is below fs/btrfs.
		path = r.pool(filepath.Base(m.Source))
	}
	if path == "" {
		return "" // and not the current directory
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return real
}

// pool is the device of a btrfs that is on no other than the one named so.
func (r Roots) pool(name string) string {
	pools, _ := filepath.Glob(r.sys("fs", "btrfs", "*", "devices"))
	for _, pool := range pools {
		devices := names(pool)
		if len(devices) != 1 {
			continue
		}
		path := r.sys("class", "block", devices[0])
		mapped := text(filepath.Join(path, "dm", "name"))
		if devices[0] == name || mapped != nil && *mapped == name {
			return path
		}
	}
	return ""
}

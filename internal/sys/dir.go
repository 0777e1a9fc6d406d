package sys

import (
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenDir opens a directory, following symbolic links.
func OpenDir(path string) (*File, error) {
	return Open(path, unix.O_RDONLY|unix.O_DIRECTORY)
}

// OpenDirAt opens the directory name in d.
func (d *File) OpenDirAt(name string) (*File, error) {
	return d.OpenAt(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// RealPath is path, absolute and without symbolic links, as the kernel has it.
func RealPath(path string) (real string, err error) {
	f, err := open(unix.AT_FDCWD, place{name: path}, path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // nothing can be written to it
	return readlink(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(f.fd), f.where)
}

// maxWalk is the longest path given to the kernel at once; PATH_MAX is 4096
// with its NUL.
const maxWalk = 4000

// OpenBelow opens the directory at the slash-separated path rel below d, of any
// depth, following no symbolic link on the way. An empty rel is d itself, opened
// again. The result must be closed.
func (d *File) OpenBelow(rel string) (*File, error) {
	return d.walkDown(rel, unix.RESOLVE_NO_SYMLINKS)
}

// OpenWithin is OpenBelow for who deletes: what is mounted on the way, or at its end,
// is not entered. It is EXDEV.
func (d *File) OpenWithin(rel string) (*File, error) {
	return d.walkDown(rel, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
}

func (d *File) walkDown(rel string, resolve uint64) (*File, error) {
	if rel == "" {
		return d.openBelow(".", resolve)
	}
	at := d
	for {
		head, tail := splitPath(rel, maxWalk)
		next, err := at.openBelow(head, resolve)
		if at != d {
			at.Close() //nolint:errcheck // opened for reading: nothing to lose
		}
		if err != nil || tail == "" {
			return next, err
		}
		at, rel = next, tail
	}
}

// splitPath cuts rel after as many whole components as fit into limit bytes.
func splitPath(rel string, limit int) (head, tail string) {
	if len(rel) <= limit {
		return rel, ""
	}
	i := strings.LastIndexByte(rel[:limit], '/')
	return rel[:i], rel[i+1:]
}

// openBelow uses openat2 (Linux 5.6) to refuse symbolic links, and mounts where that
// is asked for, in the kernel, in one call; where it is missing, or a sandbox forbids
// it, it goes name by name.
func (d *File) openBelow(rel string, resolve uint64) (*File, error) {
	f := &File{where: d.where}
	if rel != "." {
		f.where = place{name: place{d.Path(), rel}.String()}
	}
	err := call("open", f.where, func() (err error) {
		f.fd, err = unix.Openat2(d.fd, rel, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: resolve,
		})
		return err
	})
	switch {
	case err == nil:
		return f, nil
	case Is(err, unix.ENOSYS, unix.EPERM):
		return d.openStepwise(rel, resolve)
	}
	return nil, err
}

func (d *File) openStepwise(rel string, resolve uint64) (*File, error) {
	at := d
	for name := range strings.SplitSeq(rel, "/") {
		next, err := at.OpenDirAt(name)
		if err == nil && name != "." && resolve&unix.RESOLVE_NO_XDEV != 0 {
			if err = at.sameMount(next); err != nil {
				next.Close() //nolint:errcheck // opened for reading: nothing to lose
			}
		}
		if at != d {
			at.Close() //nolint:errcheck // opened for reading: nothing to lose
		}
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// sameMount is EXDEV if next, a directory in d, is the root of a mount. Before Linux
// 5.8 only the device tells: a bind mount may share it, a subvolume of btrfs may not.
func (d *File) sameMount(next *File) error {
	above, err := d.Stat()
	if err != nil {
		return err
	}
	s, err := next.Stat()
	if err == nil && (s.Dev != above.Dev || s.MountPoint) {
		err = &fs.PathError{Op: "open", Path: next.Path(), Err: unix.EXDEV}
	}
	return err
}

// Names lists the directory from its start, sorted by bytes, without "." and
// "..". scratch is a buffer for the kernel's records.
func (d *File) Names(scratch []byte) ([]string, error) {
	var names []string
	err := call("list", d.where, func() error {
		_, err := unix.Seek(d.fd, 0, 0)
		return err
	})
	for err == nil {
		var n int
		err = call("list", d.where, func() (err error) {
			n, err = unix.Getdents(d.fd, scratch)
			return err
		})
		if n <= 0 || err != nil {
			break
		}
		_, _, names = unix.ParseDirent(scratch[:n], -1, names)
	}
	slices.Sort(names)
	return names, err
}

// MkdirAt makes the directory name in d.
func (d *File) MkdirAt(name string, mode uint32) error {
	return call("mkdir", place{d.Path(), name}, func() error { return unix.Mkdirat(d.fd, name, mode) })
}

// SymlinkAt makes name in d a symbolic link to target.
func (d *File) SymlinkAt(target, name string) error {
	return call("symlink", place{d.Path(), name}, func() error { return unix.Symlinkat(target, d.fd, name) })
}

// LinkAt gives the file name in from a second name in d.
func (d *File) LinkAt(from *File, name, newName string) error {
	return call("link", place{d.Path(), newName}, func() error {
		return unix.Linkat(from.fd, name, d.fd, newName, 0)
	})
}

// ReadlinkAt returns the target of the symbolic link name in d.
func (d *File) ReadlinkAt(name string) (target string, err error) {
	return readlink(d.fd, name, place{d.Path(), name})
}

func readlink(dirfd int, name string, where place) (target string, err error) {
	err = call("readlink", where, func() error {
		buf := make([]byte, 4096) // a target is at most PATH_MAX-1 bytes
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err == nil {
			target = string(buf[:n])
		}
		return err
	})
	return target, err
}

// UnlinkAt removes the name of a file or link.
func (d *File) UnlinkAt(name string) error {
	return call("unlink", place{d.Path(), name}, func() error { return unix.Unlinkat(d.fd, name, 0) })
}

// UnlinkIfThere is UnlinkAt of a name that may be missing.
func (d *File) UnlinkIfThere(name string) error {
	err := d.UnlinkAt(name)
	if Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// RmdirAt removes the empty directory name.
func (d *File) RmdirAt(name string) error {
	return call("rmdir", place{d.Path(), name}, func() error {
		return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
	})
}

// How RenameAt treats a target that exists.
const (
	NoReplace = unix.RENAME_NOREPLACE // fail with EEXIST
	Exchange  = unix.RENAME_EXCHANGE  // swap the two, both must exist
	Replace   = 0
)

// RenameAt renames name in d to newName in to; how is NoReplace, Exchange or
// Replace.
func (d *File) RenameAt(name string, to *File, newName string, how uint) error {
	return call("rename", place{d.Path(), name}, func() error {
		return unix.Renameat2(d.fd, name, to.fd, newName, how)
	})
}

// ChownAt sets owner and group of name, of a symbolic link itself.
func (d *File) ChownAt(name string, uid, gid uint32) error {
	return call("chown", place{d.Path(), name}, func() error {
		return unix.Fchownat(d.fd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// SetTimesAt sets access and modification time of name, of a symbolic link
// itself.
func (d *File) SetTimesAt(name string, atime, mtime Time) error {
	ts := []unix.Timespec{{Sec: atime.Sec, Nsec: int64(atime.Nsec)}, {Sec: mtime.Sec, Nsec: int64(mtime.Nsec)}}
	return call("set times of", place{d.Path(), name}, func() error {
		return unix.UtimesNanoAt(d.fd, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// SetTimes is SetTimesAt of the open file, whatever its name leads to by now.
func (f *File) SetTimes(atime, mtime Time) error {
	ts := []unix.Timespec{{Sec: atime.Sec, Nsec: int64(atime.Nsec)}, {Sec: mtime.Sec, Nsec: int64(mtime.Nsec)}}
	path := "/proc/self/fd/" + strconv.Itoa(f.fd)
	return call("set times of", f.where, func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, 0) })
}

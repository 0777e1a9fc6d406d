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

// OpenDirAt opens the directory name in d. A symbolic link is ELOOP or ENOTDIR.
func (d *File) OpenDirAt(name string) (*File, error) {
	return d.OpenAt(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// RealPath returns the absolute path without symbolic links, as the kernel reports it.
func RealPath(path string) (real string, err error) {
	f, err := openFile(unix.AT_FDCWD, place{name: path}, path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readlinkAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(f.fd), f.where)
}

// maxWalk is the longest path given to the kernel at once, in bytes. PATH_MAX is 4096,
// with the NUL at the end.
const maxWalk = 4000

// OpenBelow opens the directory at the slash-separated path rel below d, at any depth.
// It follows no symbolic link on the way. If rel is empty, it opens d itself again. The
// caller must close the result.
func (d *File) OpenBelow(rel string) (*File, error) {
	return d.openStepsBelow(rel, unix.RESOLVE_NO_SYMLINKS)
}

// OpenWithin is OpenBelow for callers that delete. It enters no mount, neither on the
// way nor at the end: a mount is EXDEV.
func (d *File) OpenWithin(rel string) (*File, error) {
	return d.openStepsBelow(rel, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
}

func (d *File) openStepsBelow(rel string, resolve uint64) (*File, error) {
	if rel == "" {
		return d.openBelow(".", resolve)
	}
	at := d
	for {
		head, tail := splitPath(rel, maxWalk)
		next, err := at.openBelow(head, resolve)
		if at != d {
			at.Close()
		}
		if err != nil || tail == "" {
			return next, err
		}
		at, rel = next, tail
	}
}

// splitPath cuts rel after as many whole components as fit into limit bytes. tail is
// the rest.
func splitPath(rel string, limit int) (head, tail string) {
	if len(rel) <= limit {
		return rel, ""
	}
	i := strings.LastIndexByte(rel[:limit], '/')
	return rel[:i], rel[i+1:]
}

// openBelow uses openat2 (Linux 5.6), so that the kernel refuses symbolic links in one
// call, and mounts too if resolve says so. If openat2 is missing, or a sandbox forbids
// it, openBelow opens one directory after the other.
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
	case IsErrno(err, unix.ENOSYS, unix.EPERM):
		return d.openStepwise(rel, resolve)
	}
	return nil, err
}

func (d *File) openStepwise(rel string, resolve uint64) (*File, error) {
	at := d
	for name := range strings.SplitSeq(rel, "/") {
		next, err := at.openStep(name, resolve)
		if at != d {
			at.Close()
		}
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// openStep opens the directory name in d as openat2 with resolve would.
func (d *File) openStep(name string, resolve uint64) (*File, error) {
	next, err := d.OpenDirAt(name)
	if err != nil || name == "." || resolve&unix.RESOLVE_NO_XDEV == 0 {
		return next, err
	}
	if err := d.refuseMount(next); err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

// refuseMount returns EXDEV if next, a directory in d, is the root of a mount. Before
// Linux 5.8 it can compare only the device numbers: so it misses a bind mount of the
// same device, and refuses a subvolume of btrfs.
func (d *File) refuseMount(next *File) error {
	above, err := d.Stat()
	if err != nil {
		return err
	}
	s, err := next.Stat()
	if err != nil {
		return err
	}
	if s.Dev != above.Dev || s.MountPoint {
		return &fs.PathError{Op: "open", Path: next.Path(), Err: unix.EXDEV}
	}
	return nil
}

// ListNames lists the names in the directory, sorted by bytes, without "." and "..". It
// reads the directory from its start each time. scratch is a buffer for the kernel's
// records.
func (d *File) ListNames(scratch []byte) ([]string, error) {
	err := call("list", d.where, func() error {
		_, err := unix.Seek(d.fd, 0, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for {
		n, err := transfer("list", d.where, 0, func(int) (int, error) { return unix.Getdents(d.fd, scratch) })
		if n <= 0 || err != nil {
			slices.Sort(names)
			return names, err
		}
		_, _, names = unix.ParseDirent(scratch[:n], -1, names)
	}
}

// MkdirAt makes the directory name in d.
func (d *File) MkdirAt(name string, mode uint32) error {
	return call("mkdir", place{d.Path(), name}, func() error { return unix.Mkdirat(d.fd, name, mode) })
}

// SymlinkAt makes name in d a symbolic link to target.
func (d *File) SymlinkAt(target, name string) error {
	return call("symlink", place{d.Path(), name}, func() error { return unix.Symlinkat(target, d.fd, name) })
}

// LinkAt gives the file called name in from one more name, newName in d.
func (d *File) LinkAt(from *File, name, newName string) error {
	return call("link", place{d.Path(), newName}, func() error {
		return unix.Linkat(from.fd, name, d.fd, newName, 0)
	})
}

// ReadlinkAt returns the target of the symbolic link name in d.
func (d *File) ReadlinkAt(name string) (target string, err error) {
	return readlinkAt(d.fd, name, place{d.Path(), name})
}

func readlinkAt(dirfd int, name string, where place) (target string, err error) {
	err = call("readlink", where, func() error {
		buf := make([]byte, 4096) // a target is at most PATH_MAX-1 bytes
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err != nil {
			return err
		}
		target = string(buf[:n])
		return nil
	})
	return target, err
}

// UnlinkAt removes the name of a file or a symbolic link.
func (d *File) UnlinkAt(name string) error {
	return call("unlink", place{d.Path(), name}, func() error { return unix.Unlinkat(d.fd, name, 0) })
}

// UnlinkIfExists is UnlinkAt, except that a missing name is no error.
func (d *File) UnlinkIfExists(name string) error {
	err := d.UnlinkAt(name)
	if IsErrno(err, unix.ENOENT) {
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
	Exchange  = unix.RENAME_EXCHANGE  // swap the two; both must exist
	Replace   = 0                     // replace it, as rename(2) does
)

// RenameAt renames name in d to newName in to. how is NoReplace, Exchange or Replace.
func (d *File) RenameAt(name string, to *File, newName string, how uint) error {
	return call("rename", place{d.Path(), name}, func() error {
		return unix.Renameat2(d.fd, name, to.fd, newName, how)
	})
}

// ChownAt sets owner and group of name in d. It follows no symbolic link.
func (d *File) ChownAt(name string, uid, gid uint32) error {
	return call("chown", place{d.Path(), name}, func() error {
		return unix.Fchownat(d.fd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// SetTimesAt sets access and modification time of name in d. It follows no symbolic
// link.
func (d *File) SetTimesAt(name string, atime, mtime Time) error {
	ts := []unix.Timespec{{Sec: atime.Sec, Nsec: int64(atime.Nsec)}, {Sec: mtime.Sec, Nsec: int64(mtime.Nsec)}}
	return call("set times of", place{d.Path(), name}, func() error {
		return unix.UtimesNanoAt(d.fd, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// SetTimes sets access and modification time of the open file. Its name may lead to
// another file by now.
func (f *File) SetTimes(atime, mtime Time) error {
	ts := []unix.Timespec{{Sec: atime.Sec, Nsec: int64(atime.Nsec)}, {Sec: mtime.Sec, Nsec: int64(mtime.Nsec)}}
	path := "/proc/self/fd/" + strconv.Itoa(f.fd)
	return call("set times of", f.where, func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, 0) })
}

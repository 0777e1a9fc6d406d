package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// Time is a time of a file as the kernel stores it: seconds since 1970, which may be
// negative, and nanoseconds. A time.Time would be three times as large.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Time converts t to a time.Time.
func (t Time) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// Stat is the metadata of a file, as statx reports it.
type Stat struct {
	Dev, Ino   uint64
	Mode       uint32 // type and permission bits, as in st_mode
	Nlink      uint32
	UID, GID   uint32
	Size       int64 // bytes
	Blocks     int64 // allocated, in units of 512 bytes
	Atime      Time
	Mtime      Time
	Ctime      Time
	Btime      Time // time of birth; zero if the file system has none
	MountPoint bool // it is the root of a mount (Linux 5.8)
	// DirectAlign is the alignment that direct I/O needs, in bytes. It is 0 if direct
	// I/O is refused, and -1 if the kernel does not tell (before Linux 6.1, or a file
	// system that does not answer). Only File.Stat sets it.
	DirectAlign int
}

// IsDir reports whether the file is a directory.
func (s *Stat) IsDir() bool { return s.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports whether the file is a regular file.
func (s *Stat) IsRegular() bool { return s.Mode&unix.S_IFMT == unix.S_IFREG }

// IsSymlink reports whether the file is a symbolic link.
func (s *Stat) IsSymlink() bool { return s.Mode&unix.S_IFMT == unix.S_IFLNK }

// Perm returns the permission bits, the set-id bits and the sticky bit.
func (s *Stat) Perm() uint32 { return s.Mode & 0o7777 }

// SameFile reports whether s and t are the same inode.
func (s *Stat) SameFile(t *Stat) bool { return s.Dev == t.Dev && s.Ino == t.Ino }

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// StatAt returns the metadata of name in d. It follows no symbolic link.
func (d *File) StatAt(name string) (Stat, error) {
	return statxAt(d.fd, name, place{d.Path(), name}, unix.AT_SYMLINK_NOFOLLOW, statMask)
}

// Stat returns the metadata of the open file.
func (f *File) Stat() (Stat, error) {
	return statxAt(f.fd, "", f.where, unix.AT_EMPTY_PATH, statMask|unix.STATX_DIOALIGN)
}

// StatPath returns the metadata of path. It does not follow a symbolic link at its end.
func StatPath(path string) (Stat, error) {
	return statxAt(unix.AT_FDCWD, path, place{name: path}, unix.AT_SYMLINK_NOFOLLOW, statMask)
}

func statxAt(fd int, name string, where place, flags, mask int) (Stat, error) {
	var x unix.Statx_t
	err := call("stat", where, func() error { return unix.Statx(fd, name, flags, mask, &x) })
	if err != nil {
		return Stat{}, err
	}
	s := Stat{
		Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino,
		Mode: uint32(x.Mode), Nlink: x.Nlink, UID: x.Uid, GID: x.Gid,
		Size: int64(x.Size), Blocks: int64(x.Blocks),
		Atime: toTime(x.Atime), Mtime: toTime(x.Mtime), Ctime: toTime(x.Ctime),
		MountPoint:  x.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
		DirectAlign: -1,
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		s.Btime = toTime(x.Btime)
	}
	if x.Mask&unix.STATX_DIOALIGN != 0 {
		s.DirectAlign = int(max(x.Dio_offset_align, x.Dio_mem_align))
		if x.Dio_offset_align == 0 {
			s.DirectAlign = 0
		}
	}
	return s, nil
}

func toTime(t unix.StatxTimestamp) Time { return Time{t.Sec, t.Nsec} }

// Space is the size of a file system and its free space.
type Space struct {
	Type      int64  // the file system's magic number, see statfs(2)
	BlockSize int64  // bytes
	Size      int64  // bytes in all
	Free      int64  // bytes that this process may still use
	Inodes    uint64 // in all; 0 if the file system makes them on demand
	FreeNodes uint64 // free inodes
}

// Space returns size and free space of the file system that f is on.
func (f *File) Space() (Space, error) {
	var s unix.Statfs_t
	err := call("statfs", f.where, func() error { return unix.Fstatfs(f.fd, &s) })
	size := int64(s.Frsize)
	if size == 0 {
		size = int64(s.Bsize)
	}
	return Space{Type: int64(s.Type), BlockSize: size, Size: int64(s.Blocks) * size, Free: int64(s.Bavail) * size,
		Inodes: s.Files, FreeNodes: s.Ffree}, err
}

package sys

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// CreateUnnamed opens a new file on d's file system that has no name yet
// (O_TMPFILE), with mode less the umask; name is the one that LinkUnnamed will
// give it. Without that it is gone with its last descriptor. Not every file
// system can (EOPNOTSUPP, EISDIR).
func (d *File) CreateUnnamed(name string, mode uint32) (*File, error) {
	f := &File{where: place{d.Path(), name}}
	err := call("create", f.where, func() (err error) {
		f.fd, err = unix.Openat(d.fd, ".", unix.O_TMPFILE|unix.O_RDWR|openFlags, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// LinkUnnamed gives f its name in d, EEXIST if there is one. It goes through
// /proc: AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH.
func (d *File) LinkUnnamed(f *File, name string) error {
	return call("link", place{d.Path(), name}, func() error {
		from := "/proc/self/fd/" + strconv.Itoa(f.fd)
		return unix.Linkat(unix.AT_FDCWD, from, d.fd, name, unix.AT_SYMLINK_FOLLOW)
	})
}

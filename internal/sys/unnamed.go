package sys

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// CreateUnnamed creates a file without a name on d's file system (O_TMPFILE), with mode
// without the bits of the umask. name is the one that LinkUnnamed will give it; errors
// mention it. A file that never gets a name vanishes with its last descriptor. Some
// file systems cannot do that (EOPNOTSUPP, EISDIR).
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

// LinkUnnamed gives f its name in d. It fails with EEXIST if the name is taken. It goes
// through /proc, since AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH.
func (d *File) LinkUnnamed(f *File, name string) error {
	return call("link", place{d.Path(), name}, func() error {
		from := "/proc/self/fd/" + strconv.Itoa(f.fd)
		return unix.Linkat(unix.AT_FDCWD, from, d.fd, name, unix.AT_SYMLINK_FOLLOW)
	})
}

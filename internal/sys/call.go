// Package sys is the thin layer between this project and the kernel. Every
// system call that touches a shard, a state dir or a user file goes through
// call, the one place that repeats interrupted calls and names errors with
// operation and path; one call is one system call. In a test build (-tags faults)
// that is also where they are counted, and where one dies or fails, see faults.go.
//
// Files are reached relative to open directories and symbolic links are not
// followed unless a function says so, so that a path swapped by another process
// cannot lead outside.
//
// It does not hide what the kernel says: a short count, an unsupported call or
// a full disk comes back to the caller as it is.
package sys

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// call runs one system call on where, again for as long as a signal interrupts
// it. Its error is an *fs.PathError with op and the path of where.
func call(op string, where place, f func() error) error {
	_, err := transfer(op, where, 0, func(int) (int, error) { return 0, f() })
	return err
}

// transfer is call for one that moves up to n bytes and returns how many it did.
func transfer(op string, where place, n int, f func(n int) (int, error)) (done int, err error) {
	for {
		done, err = attempt(op, where, n, f)
		if err == nil {
			return done, nil
		}
		if err != unix.EINTR {
			return 0, &fs.PathError{Op: op, Path: where.String(), Err: err}
		}
	}
}

// place is a name in a directory. The whole path is put together only when a
// message needs it: most places are never named.
type place struct{ dir, name string }

func (p place) String() string {
	switch {
	case p.dir == "":
		return p.name
	case p.name == "":
		return p.dir
	case p.dir == "/":
		return "/" + p.name
	}
	return p.dir + "/" + p.name
}

// Is reports whether err comes from a system call that failed with one of the
// numbers.
func Is(err error, numbers ...unix.Errno) bool {
	var got unix.Errno
	if !errors.As(err, &got) {
		return false
	}
	for _, n := range numbers {
		if got == n {
			return true
		}
	}
	return false
}

// NoSpace reports whether err means that the file system or a quota is full. An
// extended attribute that is too large for ext4 or btrfs is ENOSPC as well, and
// does not count.
func NoSpace(err error) bool {
	var at *fs.PathError
	if errors.As(err, &at) && strings.HasPrefix(at.Op, setXattr) {
		return false
	}
	return Is(err, unix.ENOSPC, unix.EDQUOT)
}

// Package sys is the thin layer between this project and the kernel. Every system
// call that touches a shard, a state dir or a user file goes through it:
//
//  1. A method of [File], or a function, makes the system call through call, or
//     through transfer if the call moves bytes. One of these is one system call.
//  2. call repeats a system call that a signal interrupted.
//  3. call turns a failure into an *fs.PathError, see 'Failed calls'.
//  4. In a test build (-tags faults), callOnce counts the calls, and kills the
//     process or fails the call at a chosen one, see faults.go.
//
// Files are reached relative to open directories. Symbolic links are not followed
// unless a function says so. So if another process replaces a path, it cannot lead
// outside.
//
// The package does not hide the answer of the kernel. The caller gets a short count,
// an unsupported call or a full disk as it is.
//
// # Failed calls
//
// Op of the *fs.PathError is the operation: the system call's name if people know it
// ("open", "rename", "fsync"), else a verb with its preposition ("punch hole in",
// "set times of"), so that "Op Path: Err" reads as a sentence. A test build knows the
// call by the same name.
//
// Path is the whole path: that of the open directory and the name in it. For rename
// it is the old path, for link the new one. A call that touches no file has a thing in
// place of the path: "allocate 4194304 bytes".
//
// Err is the kernel's error number; reads and writes put "at offset N" in front of it.
// Callers test it with [IsErrno].
package sys

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// call makes one system call on where, and repeats it while a signal interrupts it.
// Its error is an *fs.PathError with op and the path of where.
func call(op string, where place, f func() error) error {
	_, err := transfer(op, where, 0, func(int) (int, error) { return 0, f() })
	return err
}

// transfer is call for a system call that moves up to n bytes. It returns how many
// bytes were moved.
func transfer(op string, where place, n int, f func(n int) (int, error)) (done int, err error) {
	for {
		done, err = callOnce(op, where, n, f)
		switch err {
		case nil:
			return done, nil
		case unix.EINTR: // again
		default:
			return 0, &fs.PathError{Op: op, Path: where.String(), Err: err}
		}
	}
}

// asError returns the error of a raw system call, or nil for 0.
func asError(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// place is a name in a directory. Its whole path is joined only when a message needs
// it: most places never appear in one.
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

// IsErrno reports whether err comes from a system call that failed with one of the error
// numbers.
func IsErrno(err error, numbers ...unix.Errno) bool {
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

// IsNoSpace reports whether err means that the file system or a quota is full. ENOSPC
// of an extended attribute does not count: ext4 and btrfs return it if the attribute
// is too large.
func IsNoSpace(err error) bool {
	var at *fs.PathError
	if errors.As(err, &at) && strings.HasPrefix(at.Op, setXattrOp) {
		return false
	}
	return IsErrno(err, unix.ENOSPC, unix.EDQUOT)
}

package sys

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is an open file or directory. It is not an os.File: it has no poller and
// no finalizer, and it keeps its path only for messages.
//
// Methods may be called from several goroutines, except Close.
type File struct {
	fd    int
	where place

	// DontCache asks reads and writes to leave nothing in the page cache
	// (RWF_DONTCACHE, Linux 6.14). It is cleared when the file system refuses.
	DontCache atomic.Bool
	// Pace, if not nil, bounds how bytes are read and written. It is set before the
	// file is used.
	Pace Pace
	// Request, if not 0, is the most bytes that one call reads or writes, a multiple of
	// Align. It is set before the file is used.
	Request int
	// Direct says that the descriptor has O_DIRECT: offsets, lengths and
	// buffers must be aligned to Align. SetDirect changes it.
	Direct atomic.Bool
}

// Align is what offsets, lengths and memory of direct I/O are aligned to, in
// bytes. It satisfies every logical block size in use (512 and 4096).
const Align = 4096

// A Pace bounds how many bytes a second the files that have it move, how many at once,
// and in how many calls at a time.
type Pace interface {
	// Begin waits until some of the bytes may be moved, and returns how many: as many
	// as are asked for, or a multiple of 2 × Align. An error is the transfer's.
	Begin(bytes int) (int, error)
	// End says that what was begun without an error is done.
	End()
}

// paced moves some of n bytes, as many as may be moved at once.
func (f *File) paced(n int, move func(n int) (int, error)) (int, error) {
	if f.Request > 0 {
		n = min(n, f.Request)
	}
	if f.Pace == nil || n == 0 {
		return move(n)
	}
	n, err := f.Pace.Begin(n)
	if err != nil {
		return 0, err
	}
	defer f.Pace.End()
	return move(n)
}

const openFlags = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY

// Open opens path, following symbolic links. O_CLOEXEC, O_NONBLOCK and O_NOCTTY
// are always added, so that neither a child inherits it nor a FIFO blocks it.
func Open(path string, flags int) (*File, error) {
	return open(unix.AT_FDCWD, place{name: path}, path, flags|openFlags&^unix.O_NOFOLLOW, 0)
}

// OpenAt opens name in directory d; a symbolic link is ELOOP. With O_CREAT the
// new file has mode less the umask.
func (d *File) OpenAt(name string, flags int, mode uint32) (*File, error) {
	return open(d.fd, place{d.Path(), name}, name, flags|openFlags, mode)
}

func open(dirfd int, where place, name string, flags int, mode uint32) (*File, error) {
	f := &File{where: where}
	f.Direct.Store(flags&unix.O_DIRECT != 0)
	err := call("open", where, func() (err error) {
		f.fd, err = unix.Openat(dirfd, name, flags, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	if flags&unix.O_DIRECTORY != 0 { // its path is part of many others: put it together once
		f.where = place{name: where.String()}
	}
	return f, nil
}

// Path is where the file was opened, for messages.
func (f *File) Path() string { return f.where.String() }

// Fd is the descriptor, for what this package does not wrap. It stays the
// file's.
func (f *File) Fd() int { return f.fd }

// Close closes the descriptor. Its error is one of the file's writes and counts.
func (f *File) Close() error {
	fd := f.fd
	f.fd = -1
	_, err := attempt("close", f.where, 0, func(int) (int, error) { return 0, unix.Close(fd) })
	if err == nil || err == unix.EINTR { // on Linux the descriptor is gone after EINTR too
		return nil
	}
	return &fs.PathError{Op: "close", Path: f.Path(), Err: err}
}

// ReadAt reads at least want bytes at off into buf, or fewer at the end of the
// file. buf may be longer than want: direct I/O needs whole aligned blocks.
func (f *File) ReadAt(buf []byte, want int, off int64) (int, error) {
	n := 0
	for n < want {
		// A short direct read may end anywhere, the next must start aligned:
		// step back, and take no progress as the end of the file.
		from := n
		if f.Direct.Load() {
			from = n &^ (Align - 1)
		}
		k, err := f.pread(buf[from:], off+int64(from))
		if err != nil {
			return n, atOffset(err, off+int64(from))
		}
		if k == 0 || from+k <= n {
			break
		}
		n = from + k
	}
	return n, nil
}

func (f *File) pread(buf []byte, off int64) (int, error) {
	return f.paced(len(buf), func(n int) (int, error) { return f.readOnce(buf[:n], off) })
}

func (f *File) readOnce(buf []byte, off int64) (int, error) {
	if f.DontCache.Load() {
		n, err := transfer("read", f.where, len(buf), func(n int) (int, error) {
			return unix.Preadv2(f.fd, [][]byte{buf[:n]}, off, unix.RWF_DONTCACHE)
		})
		if !Is(err, unix.EOPNOTSUPP, unix.ENOSYS) {
			return n, err
		}
		f.DontCache.Store(false)
	}
	return transfer("read", f.where, len(buf), func(n int) (int, error) { return unix.Pread(f.fd, buf[:n], off) })
}

// WriteAt writes all of buf at off. A write that makes no progress is an error.
func (f *File) WriteAt(buf []byte, off int64) error {
	for n := 0; n < len(buf); {
		from := n
		if f.Direct.Load() {
			from = n &^ (Align - 1)
		}
		k, err := f.pwrite(buf[from:], off+int64(from))
		if err != nil {
			return atOffset(err, off+int64(from))
		}
		if from+k <= n {
			return &fs.PathError{Op: "write", Path: f.Path(),
				Err: fmt.Errorf("wrote %d of %d bytes at offset %d and cannot go on", n, len(buf), off)}
		}
		n = from + k
	}
	return nil
}

func (f *File) pwrite(buf []byte, off int64) (int, error) {
	return f.paced(len(buf), func(n int) (int, error) { return f.writeOnce(buf[:n], off) })
}

func (f *File) writeOnce(buf []byte, off int64) (int, error) {
	if f.DontCache.Load() {
		n, err := transfer("write", f.where, len(buf), func(n int) (int, error) {
			return unix.Pwritev2(f.fd, [][]byte{buf[:n]}, off, unix.RWF_DONTCACHE)
		})
		if !Is(err, unix.EOPNOTSUPP, unix.ENOSYS) {
			return n, err
		}
		f.DontCache.Store(false)
	}
	return transfer("write", f.where, len(buf), func(n int) (int, error) { return unix.Pwrite(f.fd, buf[:n], off) })
}

// atOffset says where in the file a transfer failed.
func atOffset(err error, off int64) error {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return err
	}
	return &fs.PathError{Op: at.Op, Path: at.Path, Err: fmt.Errorf("at offset %d: %w", off, at.Err)}
}

// SetDirect turns O_DIRECT on or off for the open descriptor.
func (f *File) SetDirect(on bool) error {
	const op = "set O_DIRECT of"
	flags := 0
	err := call(op, f.where, func() (err error) {
		flags, err = unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
		return err
	})
	if err != nil {
		return err
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	err = call(op, f.where, func() error {
		_, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, flags)
		return err
	})
	if err == nil {
		f.Direct.Store(on)
	}
	return err
}

// Allocate reserves size bytes from offset 0 and makes the file that long.
// supported is false where the file system has no fallocate.
func (f *File) Allocate(size int64) (supported bool, err error) {
	err = call("fallocate", f.where, func() error { return unix.Fallocate(f.fd, 0, 0, size) })
	if Is(err, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV) {
		return false, nil
	}
	return true, err
}

// Punch makes n bytes at off a hole. supported is false where the file system
// cannot.
func (f *File) Punch(off, n int64) (supported bool, err error) {
	err = call("punch hole in", f.where, func() error {
		return unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if Is(err, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV) {
		return false, nil
	}
	return true, err
}

// Truncate sets the length of the file in bytes.
func (f *File) Truncate(size int64) error {
	return call("truncate", f.where, func() error { return unix.Ftruncate(f.fd, size) })
}

// Clone makes f share all extents of src (FICLONE): no data moves.
func (f *File) Clone(src *File) error {
	return call("clone", f.where, func() error { return unix.IoctlFileClone(f.fd, src.fd) })
}

// CopyRange asks the kernel to copy up to n bytes at off of src to the same
// place of f (copy_file_range), and returns how many it did.
func (f *File) CopyRange(src *File, off int64, n int) (done int, err error) {
	if f.Pace == nil {
		return f.paced(n, func(n int) (int, error) { return f.copyRange(src, off, n) })
	}
	// The bytes are read and written.
	return f.paced(2*n, func(both int) (int, error) { return f.copyRange(src, off, both/2) })
}

func (f *File) copyRange(src *File, off int64, n int) (int, error) {
	return transfer("copy_file_range", f.where, n, func(n int) (int, error) {
		from, to := off, off
		return unix.CopyFileRange(src.fd, &from, f.fd, &to, n, 0)
	})
}

// Data returns the first range of data at or after off: [start, end). At the end
// of the file, or in a last hole, ok is false. A file system that does not know
// holes shows one range.
func (f *File) Data(off int64) (start, end int64, ok bool, err error) {
	seek := func(from int64, whence int) (to int64, err error) {
		err = call("seek", f.where, func() (err error) {
			to, err = unix.Seek(f.fd, from, whence)
			return err
		})
		return to, err
	}
	start, err = seek(off, unix.SEEK_DATA)
	if Is(err, unix.ENXIO) {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, err
	}
	end, err = seek(start, unix.SEEK_HOLE)
	return start, end, err == nil, err
}

// Sync flushes data and metadata of the file to stable storage.
func (f *File) Sync() error {
	return call("fsync", f.where, func() error { return unix.Fsync(f.fd) })
}

// SyncData flushes the data and what is needed to read it back.
func (f *File) SyncData() error {
	return call("fdatasync", f.where, func() error { return unix.Fdatasync(f.fd) })
}

// SyncFS flushes the whole file system that f is on. It reports write-back
// errors only of writes since f was opened.
func (f *File) SyncFS() error {
	return call("syncfs", f.where, func() error { return unix.Syncfs(f.fd) })
}

// Chmod sets the permission bits, set-id bits and the sticky bit.
func (f *File) Chmod(mode uint32) error {
	return call("chmod", f.where, func() error { return unix.Fchmod(f.fd, mode) })
}

// Chown sets owner and group.
func (f *File) Chown(uid, gid uint32) error {
	return call("chown", f.where, func() error { return unix.Fchown(f.fd, int(uid), int(gid)) })
}

// Lock takes the file's flock for one holder; without wait it fails with
// EWOULDBLOCK when another has it.
func (f *File) Lock(wait bool) error {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	return call("flock", f.where, func() error { return unix.Flock(f.fd, how) })
}

// Unlock gives the file's flock back.
func (f *File) Unlock() error {
	return call("unlock", f.where, func() error { return unix.Flock(f.fd, unix.LOCK_UN) })
}

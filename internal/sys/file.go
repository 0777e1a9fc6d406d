package sys

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is an open file or directory. Unlike an os.File it has no poller and no
// finalizer, and keeps its path only for messages.
//
// Several goroutines may call its methods at once, except Close.
type File struct {
	fd    int
	where place

	// DontCache asks the kernel to keep nothing of reads and writes in the page cache
	// (RWF_DONTCACHE, Linux 6.14). It is cleared if the file system refuses.
	DontCache atomic.Bool
	// RateLimiter, if not nil, limits the rate of reads and writes. It must be set before the
	// file is used.
	RateLimiter RateLimiter
	// Request, if not 0, is the most bytes that one call reads or writes, a multiple of
	// Align. It must be set before the file is used.
	Request int
	// Direct is true if the descriptor has O_DIRECT: offsets, lengths and buffers must
	// then be aligned to Align. ClearDirect changes it.
	Direct atomic.Bool
}

// Align is the alignment of offsets, lengths and memory in direct I/O, in bytes. It is
// a multiple of every logical block size in use (512 and 4096).
const Align = 4096

// A RateLimiter limits all files that have it together: how many bytes they move a second,
// how many bytes one call moves, and how many calls run at a time.
type RateLimiter interface {
	// Begin waits until some of the bytes may be moved, and returns how many: all of
	// them, or a multiple of 2 × Align. Its error becomes the error of the transfer.
	Begin(bytes int) (int, error)
	// End must be called after the transfer, if Begin returned no error.
	End()
}

// withinLimits moves some of n bytes, as many as Request and the rate limit allow.
func (f *File) withinLimits(n int, move func(n int) (int, error)) (int, error) {
	if f.Request > 0 {
		n = min(n, f.Request)
	}
	if f.RateLimiter == nil || n == 0 {
		return move(n)
	}
	n, err := f.RateLimiter.Begin(n)
	if err != nil {
		return 0, err
	}
	defer f.RateLimiter.End()
	return move(n)
}

const openFlags = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY

// Open opens path, following symbolic links. It always adds O_CLOEXEC, O_NONBLOCK and
// O_NOCTTY, so that no child process inherits the descriptor and no FIFO blocks. If another
// process has a lease on a regular file, Open waits until it is broken, see openLeased.
func Open(path string, flags int) (*File, error) {
	return openFile(unix.AT_FDCWD, place{name: path}, path, flags|openFlags&^unix.O_NOFOLLOW, 0)
}

// OpenAt opens name in directory d. A symbolic link is ELOOP. A file that O_CREAT
// creates gets mode without the bits of the umask.
func (d *File) OpenAt(name string, flags int, mode uint32) (*File, error) {
	return openFile(d.fd, place{d.Path(), name}, name, flags|openFlags, mode)
}

func openFile(dirfd int, where place, name string, flags int, mode uint32) (*File, error) {
	f := &File{where: where}
	f.Direct.Store(flags&unix.O_DIRECT != 0)
	err := call("open", where, func() (err error) {
		f.fd, err = unix.Openat(dirfd, name, flags, mode)
		return err
	})
	if IsErrno(err, unix.EAGAIN) && flags&unix.O_NONBLOCK != 0 {
		f.fd, err = openLeased(dirfd, where, name, flags, err)
	}
	if err != nil {
		return nil, err
	}
	if flags&unix.O_DIRECTORY != 0 { // many paths begin with this one: join it once
		f.where = place{name: where.String()}
	}
	return f, nil
}

// Path returns the path at which the file was opened, for messages.
func (f *File) Path() string { return f.where.String() }

// Fd returns the descriptor, for system calls that this package does not wrap. The
// caller must not close it.
func (f *File) Fd() int { return f.fd }

// Close closes the descriptor. An error means that earlier writes may be lost, so a
// file that was written to must be closed with a check.
func (f *File) Close() error {
	fd := f.fd
	f.fd = -1
	_, err := callOnce("close", f.where, 0, func(int) (int, error) { return 0, unix.Close(fd) })
	if err == nil || err == unix.EINTR { // Linux has closed the descriptor after EINTR too
		return nil
	}
	return &fs.PathError{Op: "close", Path: f.Path(), Err: err}
}

// ReadAt reads at least want bytes at off into buf, or fewer if the file ends before.
// It returns how many. buf may be longer than want: direct I/O needs whole aligned
// blocks.
func (f *File) ReadAt(buf []byte, want int, off int64) (int, error) {
	n := 0
	for n < want {
		// A short direct read may end anywhere, but the next must start aligned: step
		// back. A read that brings no new byte has reached the end of the file.
		from := n
		if f.Direct.Load() {
			from = n &^ (Align - 1)
		}
		k, err := f.readLimited(buf[from:], off+int64(from))
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

func (f *File) readLimited(buf []byte, off int64) (int, error) {
	return f.withinLimits(len(buf), func(n int) (int, error) { return f.readOnce(buf[:n], off) })
}

func (f *File) readOnce(buf []byte, off int64) (int, error) {
	if f.DontCache.Load() {
		n, err := transfer("read", f.where, len(buf), func(n int) (int, error) {
			return unix.Preadv2(f.fd, [][]byte{buf[:n]}, off, unix.RWF_DONTCACHE)
		})
		if !IsErrno(err, unix.EOPNOTSUPP, unix.ENOSYS) {
			return n, err
		}
		f.DontCache.Store(false)
	}
	return transfer("read", f.where, len(buf), func(n int) (int, error) { return unix.Pread(f.fd, buf[:n], off) })
}

// WriteAt writes all of buf at off. It fails if a write makes no progress.
func (f *File) WriteAt(buf []byte, off int64) error {
	for n := 0; n < len(buf); {
		from := n
		if f.Direct.Load() {
			from = n &^ (Align - 1)
		}
		k, err := f.writeLimited(buf[from:], off+int64(from))
		if err != nil {
			return atOffset(err, off+int64(from))
		}
		if from+k <= n {
			return &fs.PathError{Op: "write", Path: f.Path(),
				Err: fmt.Errorf("wrote only %d of %d bytes at offset %d", n, len(buf), off)}
		}
		n = from + k
	}
	return nil
}

func (f *File) writeLimited(buf []byte, off int64) (int, error) {
	return f.withinLimits(len(buf), func(n int) (int, error) { return f.writeOnce(buf[:n], off) })
}

func (f *File) writeOnce(buf []byte, off int64) (int, error) {
	if f.DontCache.Load() {
		n, err := transfer("write", f.where, len(buf), func(n int) (int, error) {
			return unix.Pwritev2(f.fd, [][]byte{buf[:n]}, off, unix.RWF_DONTCACHE)
		})
		if !IsErrno(err, unix.EOPNOTSUPP, unix.ENOSYS) {
			return n, err
		}
		f.DontCache.Store(false)
	}
	return transfer("write", f.where, len(buf), func(n int) (int, error) { return unix.Pwrite(f.fd, buf[:n], off) })
}

// atOffset adds to the error of a transfer the offset at which it failed.
func atOffset(err error, off int64) error {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return err
	}
	return &fs.PathError{Op: at.Op, Path: at.Path, Err: fmt.Errorf("at offset %d: %w", off, at.Err)}
}

// ClearDirect turns O_DIRECT off for the open descriptor.
func (f *File) ClearDirect() error {
	const op = "clear O_DIRECT of"
	flags := 0
	err := call(op, f.where, func() (err error) {
		flags, err = unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
		return err
	})
	if err != nil {
		return err
	}
	err = call(op, f.where, func() error {
		_, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, flags&^unix.O_DIRECT)
		return err
	})
	if err != nil {
		return err
	}
	f.Direct.Store(false)
	return nil
}

// Allocate reserves size bytes from offset 0 and makes the file that long. supported is
// false if the file system has no fallocate.
func (f *File) Allocate(size int64) (supported bool, err error) {
	err = call("fallocate", f.where, func() error { return unix.Fallocate(f.fd, 0, 0, size) })
	if IsErrno(err, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV) {
		return false, nil
	}
	return true, err
}

// PunchHole turns n bytes at off into a hole. supported is false if the file system cannot
// do that.
func (f *File) PunchHole(off, n int64) (supported bool, err error) {
	err = call("punch hole in", f.where, func() error {
		return unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if IsErrno(err, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV) {
		return false, nil
	}
	return true, err
}

// Truncate sets the length of the file in bytes.
func (f *File) Truncate(size int64) error {
	return call("truncate", f.where, func() error { return unix.Ftruncate(f.fd, size) })
}

// CloneFrom makes f share all extents of src (FICLONE). No data is copied.
func (f *File) CloneFrom(src *File) error {
	return call("clone", f.where, func() error { return unix.IoctlFileClone(f.fd, src.fd) })
}

// CopyRange asks the kernel to copy up to n bytes at off of src to the same offset of f
// (copy_file_range). It returns how many bytes were copied.
func (f *File) CopyRange(src *File, off int64, n int) (done int, err error) {
	if f.RateLimiter == nil {
		return f.withinLimits(n, func(n int) (int, error) { return f.copyRangeOnce(src, off, n) })
	}
	// The bytes count twice: they are read and written.
	return f.withinLimits(2*n, func(both int) (int, error) { return f.copyRangeOnce(src, off, both/2) })
}

func (f *File) copyRangeOnce(src *File, off int64, n int) (int, error) {
	return transfer("copy_file_range", f.where, n, func(n int) (int, error) {
		from, to := off, off
		return unix.CopyFileRange(src.fd, &from, f.fd, &to, n, 0)
	})
}

// NextData returns the first range of data at or after off: [start, end). ok is false if
// only a hole, or nothing, follows. On a file system without holes the whole file is
// one range.
func (f *File) NextData(off int64) (start, end int64, ok bool, err error) {
	seek := func(from int64, whence int) (to int64, err error) {
		err = call("seek", f.where, func() (err error) {
			to, err = unix.Seek(f.fd, from, whence)
			return err
		})
		return to, err
	}
	start, err = seek(off, unix.SEEK_DATA)
	if IsErrno(err, unix.ENXIO) {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, err
	}
	end, err = seek(start, unix.SEEK_HOLE)
	return start, end, err == nil, err
}

// Sync writes data and metadata of the file to stable storage.
func (f *File) Sync() error {
	return call("fsync", f.where, func() error { return unix.Fsync(f.fd) })
}

// SyncData writes the data, and the metadata needed to read it, to stable storage.
func (f *File) SyncData() error {
	return call("fdatasync", f.where, func() error { return unix.Fdatasync(f.fd) })
}

// SyncFS writes the whole file system of f to stable storage. It reports only errors
// of writes that were made since f was opened.
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

// Lock takes the exclusive flock of the file. If another open file holds it, Lock waits.
func (f *File) Lock() error { return f.flock(unix.LOCK_EX) }

// TryLock takes the exclusive flock of the file. If another open file holds it, TryLock
// fails with EWOULDBLOCK.
func (f *File) TryLock() error { return f.flock(unix.LOCK_EX | unix.LOCK_NB) }

func (f *File) flock(how int) error {
	return call("flock", f.where, func() error { return unix.Flock(f.fd, how) })
}

// Unlock releases the flock of the file.
func (f *File) Unlock() error {
	return call("unlock", f.where, func() error { return unix.Flock(f.fd, unix.LOCK_UN) })
}

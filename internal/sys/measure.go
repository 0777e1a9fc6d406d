package sys

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
)

// DropCaches drops all clean pages, names and inodes that the kernel of this machine
// has cached. It needs root.
func DropCaches() error { return writeProc("/proc/sys/vm/drop_caches", "3") }

// ResetPeakMemory sets PeakMemory back to the memory that is resident now.
func ResetPeakMemory() error { return writeProc("/proc/self/clear_refs", "5") }

func writeProc(path, text string) error {
	f, err := Open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	return errs.Join(f.WriteAt([]byte(text), 0), f.Close())
}

// PeakMemory returns the peak resident memory of this process, in bytes: VmHWM, see
// proc(5).
func PeakMemory() (int64, error) {
	const path = "/proc/self/status"
	f, err := Open(path, unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 16<<10)
	n, err := f.ReadAt(buf, len(buf), 0)
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(buf[:n]), "VmHWM:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0, &fs.PathError{Op: "read", Path: path, Err: errors.New("no line VmHWM")}
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}

// CPUTime returns the processor time that this process has used, user and system
// together.
func CPUTime() (used time.Duration, err error) {
	var u unix.Rusage
	err = call("get usage of", place{name: "this process"}, func() error { return unix.Getrusage(unix.RUSAGE_SELF, &u) })
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// The number of the ioctl FS_IOC_FIEMAP, and its flags, see linux/fiemap.h.
const (
	fiemapRequest = 0xc020660b
	fiemapSync    = 1      // write the file back first: delayed data has no extents yet
	extentLast    = 0x1    // the last extent of the file
	extentShared  = 0x2000 // another file has this extent too
)

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

type fiemap struct {
	start, length       uint64
	flags, mapped, room uint32
	_                   uint32
	extents             [64]fiemapExtent
}

// SharesExtents reports whether the file shares an extent with another file, as a clone does.
// known is false if the file system does not tell.
func (f *File) SharesExtents() (shared, known bool, err error) {
	for start := uint64(0); ; {
		m := fiemap{start: start, length: ^uint64(0) - start, flags: fiemapSync}
		m.room = uint32(len(m.extents))
		err := call("map extents of", f.where, func() error { return fiemapIoctl(f.fd, &m) })
		if IsErrno(err, unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS, unix.EINVAL) {
			return false, false, nil
		}
		if err != nil || m.mapped == 0 {
			return false, err == nil, err
		}
		for _, e := range m.extents[:min(int(m.mapped), len(m.extents))] {
			if e.flags&extentShared != 0 {
				return true, true, nil
			}
			if e.flags&extentLast != 0 {
				return false, true, nil
			}
			start = e.logical + e.length
		}
	}
}

func fiemapIoctl(fd int, m *fiemap) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fiemapRequest, uintptr(unsafe.Pointer(m)))
	return asError(errno)
}

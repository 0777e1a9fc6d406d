package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenFiles is how many descriptors this process may have (RLIMIT_NOFILE).
func OpenFiles() (limit int, err error) {
	var r unix.Rlimit
	err = call("get limit of", place{name: "open files"}, func() error { return unix.Getrlimit(unix.RLIMIT_NOFILE, &r) })
	return int(min(r.Cur, 1<<20)), err
}

// mincore is mincore(2), which x/sys/unix does not wrap: a byte for each page of
// m, its lowest bit set if the page is resident.
func mincore(m, seen []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE,
		uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&seen[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

// hugePage is the size of one on most machines, in bytes.
const hugePage = 2 << 20

// Buffer is size bytes of memory aligned for direct I/O, outside the garbage
// collector's heap, which would otherwise grow to twice the buffers. Give it back
// with FreeBuffer.
//
// A large one is of huge pages where the kernel has some: direct I/O pins and maps a
// thousand pages of 4 KiB for each block otherwise, half of its system time.
func Buffer(size int) (b []byte, err error) {
	err = call("allocate", place{name: fmt.Sprint(size, " bytes")}, func() (err error) {
		b, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		return err
	})
	if err != nil || size < hugePage {
		return b, err
	}
	call("advise", place{name: "memory"}, func() error { //nolint:errcheck // without them it works as well
		return unix.Madvise(b, unix.MADV_HUGEPAGE)
	})
	return b, nil
}

// FreeBuffer gives a Buffer back; nobody may use it any more.
func FreeBuffer(b []byte) error {
	return call("free", place{name: "memory"}, func() error { return unix.Munmap(b) })
}

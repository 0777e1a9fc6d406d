package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxOpenFiles returns how many descriptors this process may have (RLIMIT_NOFILE).
func MaxOpenFiles() (limit int, err error) {
	var r unix.Rlimit
	err = call("get limit of", place{name: "open files"}, func() error { return unix.Getrlimit(unix.RLIMIT_NOFILE, &r) })
	return int(min(r.Cur, 1<<20)), err
}

// mincoreCall makes mincore(2), which x/sys/unix does not wrap. It sets a byte of seen
// for each page of m; the lowest bit is 1 if the page is resident.
func mincoreCall(m, seen []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE,
		uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&seen[0])))
	return asError(errno)
}

// hugePage is the size of a huge page on most machines, in bytes.
const hugePage = 2 << 20

// AllocBuffer allocates size bytes of memory aligned for direct I/O. The memory is outside
// Go's heap, which the garbage collector would let grow to twice the buffers. The
// caller must free it with FreeBuffer.
//
// A large buffer gets huge pages if the kernel has some. Otherwise direct I/O pins and
// maps a thousand pages of 4 KiB for each block, which takes half of its system time.
func AllocBuffer(size int) (b []byte, err error) {
	err = call("allocate", place{name: fmt.Sprint(size, " bytes")}, func() (err error) {
		b, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		return err
	})
	if err != nil || size < hugePage {
		return b, err
	}
	_ = call("advise", place{name: "memory"}, func() error { // huge pages only save time
		return unix.Madvise(b, unix.MADV_HUGEPAGE)
	})
	return b, nil
}

// FreeBuffer frees the memory of a Buffer, which must no longer be used.
func FreeBuffer(b []byte) error {
	return call("free", place{name: "memory"}, func() error { return unix.Munmap(b) })
}

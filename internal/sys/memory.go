package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

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

// Buffer is size bytes of memory aligned for direct I/O.
func Buffer(size int) []byte {
	b := make([]byte, size+Align)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & (Align - 1))
	return b[skip : skip+size : skip+size]
}

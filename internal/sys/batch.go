package sys

import (
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Batch reads from many files in one system call, with Linux AIO. Direct reads of
// small files that lie beside each other on a disk become few requests to it, and one
// thread waits for all of them. It is for one goroutine.
//
// It is only ever a faster way: what it did not read has to be read with ReadAt, and
// where there is no AIO (a sandbox may forbid it) that is everything.
type Batch struct {
	context uint64 // aio_context_t; 0: none
	blocks  []controlBlock
	list    []*controlBlock
	events  []event
}

// Read is one read of a Batch: the start of a file opened for direct I/O, into a
// buffer that is aligned for it and outside Go's heap.
type Read struct {
	File *File
	Buf  []byte
	N    int   // bytes that came, -1 if the file has to be read in another way
	Err  error // the device's

	forced error // by a test build
}

// controlBlock and event are struct iocb and struct io_event of linux/aio_abi.h. What
// has no name here is 0: key and flags, the priority, the offset, and others.
type controlBlock struct {
	data      uint64
	_         [2]uint32
	opcode    uint16
	_         int16
	file      uint32
	buf, size uint64
	_         [3]uint64
}

type event struct {
	data   uint64
	_      uint64
	result int64
	_      int64
}

// readAtOnce is what a test build counts, shortens or fails of each file.
const readAtOnce = "read at once"

const opRead = 0 // IOCB_CMD_PREAD

// aio names the calls that are of no one file.
var aio = place{name: "AIO"}

// NewBatch makes a Batch of up to size reads. Close it.
func NewBatch(size int) (*Batch, error) {
	b := &Batch{blocks: make([]controlBlock, size), list: make([]*controlBlock, size), events: make([]event, size)}
	err := call("set up", aio, func() error {
		_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, uintptr(size), uintptr(unsafe.Pointer(&b.context)), 0)
		return asError(errno)
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Size is how many reads it takes at once; of one that is nil or closed 0.
func (b *Batch) Size() int {
	if b == nil || b.context == 0 {
		return 0
	}
	return len(b.blocks)
}

// Close gives the kernel's part back, after it has waited for what is still being
// read: only then may the buffers be used for something else.
func (b *Batch) Close() error {
	if b == nil || b.context == 0 {
		return nil
	}
	context := b.context
	b.context = 0
	return call("tear down", aio, func() error {
		_, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, uintptr(context), 0, 0)
		return asError(errno)
	})
}

// Read reads, and says of each read how far it came. Its own error means that the
// buffers must not be used any more.
func (b *Batch) Read(reads []Read) error {
	for i := range reads {
		reads[i].N, reads[i].Err = -1, nil
	}
	reads = reads[:min(len(reads), len(b.blocks))]
	if b.context == 0 || len(reads) == 0 {
		return nil
	}
	for done := b.submit(reads); done > 0; {
		n, err := b.collect(done)
		if err != nil || n == 0 {
			return b.Close() // never an error of a kernel; what is not read is read in another way
		}
		for _, e := range b.events[:n] {
			r := &reads[e.data]
			if errno, forced := r.forced.(unix.Errno); forced {
				e.result = -int64(errno)
			}
			r.take(e.result)
		}
		done -= n
	}
	return nil
}

// take is what the kernel says of a read.
func (r *Read) take(result int64) {
	switch errno := unix.Errno(-result); {
	case result >= 0:
		r.N = int(result)
	case Is(errno, unix.EINVAL, unix.EAGAIN, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINTR, unix.ENOMEM):
	default: // the device's: no second try may cover it up
		r.Err = &fs.PathError{Op: "read", Path: r.File.Path(), Err: fmt.Errorf("at offset 0: %w", errno)}
	}
}

// submit begins the reads, as many as the kernel takes.
func (b *Batch) submit(reads []Read) int {
	for i := range reads {
		r := &reads[i]
		size := 0
		size, r.forced = attempt(readAtOnce, r.File.where, len(r.Buf), func(n int) (int, error) { return n, nil })
		b.blocks[i] = controlBlock{data: uint64(i), opcode: opRead, file: uint32(r.File.fd),
			buf: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(r.Buf)))), size: uint64(size)}
		b.list[i] = &b.blocks[i]
	}
	n, err := transfer("submit reads of", reads[0].File.where, len(reads), func(n int) (int, error) {
		done, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(b.context), uintptr(n), uintptr(unsafe.Pointer(&b.list[0])))
		return int(done), asError(errno)
	})
	if err != nil {
		return 0
	}
	return n
}

// collect waits until at least one of n reads is through, or all.
func (b *Batch) collect(n int) (int, error) {
	return transfer("wait for reads of", aio, n, func(n int) (int, error) {
		got, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(b.context), uintptr(n), uintptr(n),
			uintptr(unsafe.Pointer(&b.events[0])), 0, 0)
		return int(got), asError(errno)
	})
}

func asError(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

package sys

import (
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Batch reads from many files in one system call, with Linux AIO. Direct reads of
// small files that lie beside each other on a disk become few requests to the disk,
// and one thread waits for all of them. A Batch is for one goroutine.
//
// A Batch only saves time. The caller must read with ReadAt each file that the Batch
// did not read. Without AIO (a sandbox may forbid it) those are all files.
type Batch struct {
	context uint64 // aio_context_t; 0: none
	blocks  []controlBlock
	list    []*controlBlock
	events  []event
}

// BatchRead is one read of a Batch: it reads the start of a file opened for direct I/O
// into a buffer that is aligned for direct I/O and outside Go's heap.
type BatchRead struct {
	File *File
	Buf  []byte
	N    int   // bytes read; -1: the file must be read with ReadAt
	Err  error // an error of the device

	forced error // by a test build; replaces the result
}

// controlBlock and event are struct iocb and struct io_event of linux/aio_abi.h. Fields
// without a name are 0 here: key and flags, the priority, the offset, and others.
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

// batchReadOp is the operation of each read of a batch: a test build counts, shortens
// or fails it.
const batchReadOp = "read at once"

const opRead = 0 // IOCB_CMD_PREAD

// aio stands in errors for the calls that belong to no single file.
var aio = place{name: "AIO"}

// NewBatch makes a Batch for up to size reads. The caller must close it.
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

// Size returns how many reads the Batch takes at once: 0 if it is nil or closed.
func (b *Batch) Size() int {
	if b == nil || b.context == 0 {
		return 0
	}
	return len(b.blocks)
}

// Close waits for the reads under way and frees the kernel's part of the Batch. Only
// then may the buffers be used for something else.
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

// Read makes the reads and sets N and Err of each. If Read itself fails, the buffers
// must no longer be used: the kernel may still write to them.
func (b *Batch) Read(reads []BatchRead) error {
	for i := range reads {
		reads[i].N, reads[i].Err = -1, nil
	}
	reads = reads[:min(len(reads), len(b.blocks))]
	if b.context == 0 || len(reads) == 0 {
		return nil
	}
	for done := b.submitReads(reads); done > 0; {
		n, err := b.waitForReads(done)
		if err != nil || n == 0 {
			return b.Close() // no kernel fails here; the caller reads the rest with ReadAt
		}
		for _, e := range b.events[:n] {
			r := &reads[e.data]
			if errno, forced := r.forced.(unix.Errno); forced {
				e.result = -int64(errno)
			}
			r.setResult(e.result)
		}
		done -= n
	}
	return nil
}

// setResult sets N, or Err, from the kernel's result of a read.
func (r *BatchRead) setResult(result int64) {
	switch errno := unix.Errno(-result); {
	case result >= 0:
		r.N = int(result)
	case IsErrno(errno, unix.EINVAL, unix.EAGAIN, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINTR, unix.ENOMEM):
	default: // an error of the device: a second attempt must not hide it
		r.Err = &fs.PathError{Op: "read", Path: r.File.Path(), Err: fmt.Errorf("at offset 0: %w", errno)}
	}
}

// submitReads begins the reads and returns how many of them the kernel accepted.
func (b *Batch) submitReads(reads []BatchRead) int {
	for i := range reads {
		r := &reads[i]
		size := 0
		size, r.forced = callOnce(batchReadOp, r.File.where, len(r.Buf), func(n int) (int, error) { return n, nil })
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

// waitForReads waits for all of n reads, or for a part of them, at least one. It
// returns how many are done.
func (b *Batch) waitForReads(n int) (int, error) {
	return transfer("wait for reads of", aio, n, func(n int) (int, error) {
		got, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(b.context), uintptr(n), uintptr(n),
			uintptr(unsafe.Pointer(&b.events[0])), 0, 0)
		return int(got), asError(errno)
	})
}

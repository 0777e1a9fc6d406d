package verify

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// ReadMode says where bytes came from when a file was read back.
type ReadMode string

// The modes, from the strongest to the weakest.
const (
	FromDevice ReadMode = "direct"   // O_DIRECT, past the page cache
	Dropped    ReadMode = "buffered" // through the page cache, which did not have it before
	FromCache  ReadMode = "cache"    // from memory: proves nothing about a device
)

// Weaker is the weaker of two modes; "" is that of nothing.
func Weaker(a, b ReadMode) ReadMode {
	for _, mode := range []ReadMode{FromCache, Dropped, FromDevice} {
		if a == mode || b == mode {
			return mode
		}
	}
	return ""
}

// Medium reads files from the device and keeps count of how.
type Medium struct {
	// Own says that the files are a stage: nobody else reads them, and what
	// writing has left of them in the page cache may be dropped. What services
	// have cached stays, unless a file can only be read through the cache.
	Own bool
	// Pace bounds the bytes a second that are read, see sys.File; nil: no bound.
	Pace sys.Pace
	// Request is the most bytes of one read, see sys.File; 0: a whole block.
	Request int

	direct, dropped, cached atomic.Int64 // bytes
	once                    sync.Once
	memory                  bool  // the file system has no device
	unknown                 error // what kind of file system it is
}

// Mode is the weakest mode in which more than a hundredth of the bytes were
// read: some file systems keep a few blocks of a directly read file. "" if
// nothing was read.
func (m *Medium) Mode() ReadMode {
	direct, dropped, cached := m.direct.Load(), m.dropped.Load(), m.cached.Load()
	all := direct + dropped + cached
	switch {
	case all == 0:
		return ""
	case cached*100 > all:
		return FromCache
	case dropped*100 > all:
		return Dropped
	}
	return FromDevice
}

// File is one file being read from the device. It implements the copier's
// BlockReader.
type File struct {
	medium  *Medium
	file    *sys.File
	size    int64
	before  atomic.Int64 // bytes that were in the page cache when they were about to be read
	through atomic.Int64 // bytes that came into it by being read

	mu     sync.Mutex
	moved  *sync.Cond
	next   int64 // the block that the digest waits for
	digest *xxhash.Digest
}

// Open opens the file name in dir, size bytes long, past the page cache.
func (m *Medium) Open(dir *sys.File, name string, size int64) (*File, error) {
	f, err := dir.OpenAt(name, unix.O_RDONLY|unix.O_DIRECT|unix.O_NOATIME, 0)
	if sys.Is(err, unix.EPERM) { // O_NOATIME is for the owner and root
		f, err = dir.OpenAt(name, unix.O_RDONLY|unix.O_DIRECT, 0)
	}
	if sys.Is(err, unix.EINVAL, unix.EOPNOTSUPP) {
		f, err = dir.OpenAt(name, unix.O_RDONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	f.Pace, f.Request = m.Pace, m.Request
	r := &File{medium: m, file: f, size: size, digest: xxhash.New()}
	r.moved = sync.NewCond(&r.mu)
	err = r.settleMode()
	if err == nil && size > tree.BlockSize {
		err = f.NoReadAhead()
	}
	if err != nil {
		f.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return r, nil
}

// File systems that are memory, by their magic number (linux/magic.h). They take
// O_DIRECT and it means nothing.
const (
	magicTmpfs = 0x01021994
	magicRamfs = 0x858458f6
)

// settleMode finds out what O_DIRECT is worth: some file systems take it and read
// through the page cache all the same (ext4 with data=journal), which statx says.
func (f *File) settleMode() error {
	m := f.medium
	m.once.Do(func() {
		var fs sys.Space
		fs, m.unknown = f.file.Space()
		m.memory = fs.Type == magicTmpfs || fs.Type == magicRamfs
	})
	if m.unknown != nil {
		return m.unknown
	}
	if m.Own && f.size <= tree.BlockSize { // the page cache will tell
		f.file.DontCache.Store(!f.file.Direct.Load())
		return nil
	}
	s, err := f.file.Stat()
	if err == nil && f.file.Direct.Load() && (s.DirectAlign == 0 || s.DirectAlign > sys.Align) {
		err = f.file.SetDirect(false)
	}
	f.file.DontCache.Store(!f.file.Direct.Load())
	return err
}

// Sum reads block i into buf, which is tree.BlockSize long and aligned for direct
// I/O, and returns its XXH64. A file that ends before the block does is
// io.ErrUnexpectedEOF.
func (f *File) Sum(i int64, buf []byte) (uint64, error) {
	if err := f.load(i, buf); err != nil {
		return 0, err
	}
	return xxhash.Sum64(buf[:tree.BlockLen(f.size, i)]), nil
}

// load is Sum without the sum.
func (f *File) load(i int64, buf []byte) error {
	off, want := i*tree.BlockSize, tree.BlockLen(f.size, i)
	if want > 0 && (f.medium.Own || !f.file.Direct.Load()) {
		if err := f.file.Forget(off, int64(want)); err != nil {
			return err
		}
	}
	n := 0
	before, through, err := f.file.LeaveCache(off, int64(want), func() (err error) {
		n, err = f.read(buf, want, off)
		return err
	})
	if err != nil {
		return err
	}
	f.before.Add(min(before, int64(want)))
	f.through.Add(min(through, int64(want)))
	if n < want {
		return fmt.Errorf("read %s: %w: it ends at byte %d of %d", f.file.Path(), io.ErrUnexpectedEOF, off+int64(n), f.size)
	}
	return nil
}

func (f *File) read(buf []byte, want int, off int64) (int, error) {
	if f.file.Direct.Load() {
		whole := (want + sys.Align - 1) &^ (sys.Align - 1)
		n, err := f.file.ReadAt(buf[:whole], want, off)
		if !sys.Is(err, unix.EINVAL) {
			return min(n, want), err
		}
		if err := f.file.SetDirect(false); err != nil { // O_DIRECT was taken but is not done
			return 0, err
		}
	}
	return f.file.ReadAt(buf[:want], want, off)
}

// Accept adds block i, which Sum has left in buf, to the sum of the file. Blocks
// are added in order: it waits until those before are, or ctx ends.
func (f *File) Accept(ctx context.Context, i int64, buf []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != i {
		stop := context.AfterFunc(ctx, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.moved.Broadcast()
		})
		defer stop()
	}
	for f.next != i {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.moved.Wait()
	}
	f.digest.Write(buf[:tree.BlockLen(f.size, i)]) //nolint:errcheck // a hash does not fail
	f.next++
	f.moved.Broadcast()
	return nil
}

// Close counts how the file was read and returns XXH64 of what was accepted.
func (f *File) Close() (uint64, error) {
	f.countMode()
	return f.digest.Sum64(), f.file.Close()
}

// countMode counts what the page cache says of how the file was read: whatever
// O_DIRECT said, pages that came there came through it.
func (f *File) countMode() {
	m, before := f.medium, min(f.before.Load(), f.size)
	through := min(f.through.Load(), f.size-before)
	switch direct := f.file.Direct.Load(); {
	case m.memory:
		m.cached.Add(f.size)
	case direct && !m.Own: // what was cached before is others', and was passed by
		m.direct.Add(f.size - through)
		m.dropped.Add(through)
	case direct:
		m.cached.Add(before)
		m.dropped.Add(through)
		m.direct.Add(f.size - before - through)
	default:
		m.cached.Add(before)
		m.dropped.Add(f.size - before)
	}
}

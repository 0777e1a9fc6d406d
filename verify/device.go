package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// ReadMode says where the bytes came from when a file was read back.
type ReadMode string

// The modes, from the strongest to the weakest.
const (
	FromDevice   ReadMode = "direct"   // O_DIRECT, past the page cache
	ThroughCache ReadMode = "buffered" // through the page cache, which did not have them before
	FromCache    ReadMode = "cache"    // from memory: proves nothing about a device
)

// WeakerMode returns the weaker of two modes. The mode "" means that nothing was read: then
// the other mode is returned.
func WeakerMode(a, b ReadMode) ReadMode {
	for _, mode := range []ReadMode{FromCache, ThroughCache, FromDevice} {
		if a == mode || b == mode {
			return mode
		}
	}
	return ""
}

// DeviceReader reads files from the device, and counts how many bytes were read in which mode.
type DeviceReader struct {
	// Exclusive says that the files are in a stage, where no other process reads them: the
	// pages that writing left in the page cache may be dropped. Otherwise the pages that
	// services have cached stay, unless a file can only be read through the cache.
	Exclusive bool
	// RateLimit limits the bytes that are read in a second, see sys.File; nil: no limit.
	RateLimit sys.RateLimiter
	// MaxRequest is the largest number of bytes of one read, see sys.File; 0: a block.
	MaxRequest int

	direct, dropped, cached atomic.Int64 // bytes
	once                    sync.Once    // sets memory and spaceErr
	memory                  bool         // the file system has no device
	spaceErr                error        // of asking for the type of the file system
}

// WeakestMode returns the weakest mode in which more than a hundredth of the bytes were read:
// some file systems keep a few blocks of a file that is read with O_DIRECT. It is "" if
// nothing was read.
func (m *DeviceReader) WeakestMode() ReadMode {
	direct, dropped, cached := m.direct.Load(), m.dropped.Load(), m.cached.Load()
	all := direct + dropped + cached
	switch {
	case all == 0:
		return ""
	case cached*100 > all:
		return FromCache
	case dropped*100 > all:
		return ThroughCache
	}
	return FromDevice
}

// File is one file that is being read from the device. It implements the copier's
// BlockReader.
type File struct {
	device  *DeviceReader
	file    *sys.File
	size    int64
	before  atomic.Int64 // bytes that were in the page cache just before they were read
	through atomic.Int64 // bytes that reading brought into the page cache

	mu     sync.Mutex
	moved  *sync.Cond // next has changed
	next   int64      // the block that digest needs next
	digest *xxhash.Digest
}

// Open opens the file name in dir, size bytes long, to be read past the page cache.
func (m *DeviceReader) Open(dir *sys.File, name string, size int64) (*File, error) {
	f, err := dir.OpenAt(name, unix.O_RDONLY|unix.O_DIRECT|unix.O_NOATIME, 0)
	if sys.IsErrno(err, unix.EPERM) { // O_NOATIME is for the owner and root
		f, err = dir.OpenAt(name, unix.O_RDONLY|unix.O_DIRECT, 0)
	}
	if sys.IsErrno(err, unix.EINVAL, unix.EOPNOTSUPP) {
		f, err = dir.OpenAt(name, unix.O_RDONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	f.RateLimiter, f.Request = m.RateLimit, m.MaxRequest
	r := &File{device: m, file: f, size: size, digest: xxhash.New()}
	r.moved = sync.NewCond(&r.mu)
	if err := r.chooseMode(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// chooseMode sets how the file is read.
func (f *File) chooseMode() error {
	if err := f.detectDirect(); err != nil {
		return err
	}
	if f.size <= tree.BlockSize {
		return nil
	}
	return f.file.NoReadAhead() // blocks are read in any order
}

// File systems in memory, by their magic number (linux/magic.h). They accept O_DIRECT,
// where it means nothing.
const (
	magicTmpfs = 0x01021994
	magicRamfs = 0x858458f6
)

// detectDirect finds out whether O_DIRECT works. Some file systems accept it and still
// read through the page cache (ext4 with data=journal); statx shows that.
func (f *File) detectDirect() error {
	m := f.device
	m.once.Do(func() {
		var fs sys.Space
		fs, m.spaceErr = f.file.Space()
		m.memory = fs.Type == magicTmpfs || fs.Type == magicRamfs
	})
	if m.spaceErr != nil {
		return m.spaceErr
	}
	if m.Exclusive && f.size <= tree.BlockSize { // the page cache shows it after the read
		f.file.DontCache.Store(!f.file.Direct.Load())
		return nil
	}
	s, err := f.file.Stat()
	if err != nil {
		return err
	}
	if f.file.Direct.Load() && (s.DirectAlign == 0 || s.DirectAlign > sys.Align) {
		if err := f.file.ClearDirect(); err != nil {
			return err
		}
	}
	f.file.DontCache.Store(!f.file.Direct.Load())
	return nil
}

// Sum reads block i into buf and returns its XXH64. The buffer is tree.BlockSize long and
// aligned for direct I/O. If the file ends before the block does, the error is
// io.ErrUnexpectedEOF.
func (f *File) Sum(i int64, buf []byte) (uint64, error) {
	if err := f.readBlock(i, buf); err != nil {
		return 0, err
	}
	return xxhash.Sum64(buf[:tree.BlockLen(f.size, i)]), nil
}

// readBlock is Sum without the checksum.
func (f *File) readBlock(i int64, buf []byte) error {
	off, want := i*tree.BlockSize, tree.BlockLen(f.size, i)
	if want > 0 && (f.device.Exclusive || !f.file.Direct.Load()) {
		if err := f.file.DropCached(off, int64(want)); err != nil {
			return err
		}
	}
	n := 0
	before, through, err := f.file.ReadUncached(off, int64(want), func() (err error) {
		n, err = f.readRange(buf, want, off)
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

// isShort reports whether err is that of a block that could not be read because the file
// ends early.
func isShort(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

// readRange reads want bytes at off into buf, fewer at the end of the file.
func (f *File) readRange(buf []byte, want int, off int64) (int, error) {
	if f.file.Direct.Load() {
		n, err := f.file.ReadAt(buf[:alignUp(int64(want))], want, off)
		if !sys.IsErrno(err, unix.EINVAL) {
			return min(n, want), err
		}
		if err := f.file.ClearDirect(); err != nil { // open accepted O_DIRECT, read does not
			return 0, err
		}
	}
	return f.file.ReadAt(buf[:want], want, off)
}

// alignUp returns the smallest length for direct I/O that has room for n bytes.
func alignUp(n int64) int64 { return (n + sys.Align - 1) &^ (sys.Align - 1) }

// Accept adds block i, which Sum has left in buf, to the checksum of the file. Blocks are
// added in order: it waits until all blocks before i were added, or ctx ends.
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
	_, _ = f.digest.Write(buf[:tree.BlockLen(f.size, i)]) // a hash does not fail
	f.next++
	f.moved.Broadcast()
	return nil
}

// Close closes the file, counts the modes in which it was read, and returns the XXH64 of
// the blocks that were accepted.
func (f *File) Close() (uint64, error) {
	f.countModes()
	return f.digest.Sum64(), f.file.Close()
}

// countModes counts the bytes of the file by mode, from the state of the page cache:
// pages that reading brought there were read through it, even with O_DIRECT.
func (f *File) countModes() {
	m, before := f.device, min(f.before.Load(), f.size)
	through := min(f.through.Load(), f.size-before)
	switch direct := f.file.Direct.Load(); {
	case m.memory:
		m.cached.Add(f.size)
	case direct && !m.Exclusive: // pages cached before belong to other processes, and were not read
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

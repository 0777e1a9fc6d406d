package copier

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// A largeFile has more than one block. Its blocks go to all workers, a segment
// at a time: when the last block of a segment is written the file is synced, and
// the segment is read back while later ones are still copied.
type largeFile struct {
	pair
	c    *copying
	item Item

	begun   time.Time // for the Timer
	opening sync.Once
	openErr error
	reader  BlockReader

	mu      sync.Mutex
	written map[int64]*segment // synced, waiting for an earlier one
	next    int64              // the segment to read back next
	kept    atomic.Int64       // bytes
}

// segment is a run of blocks of a large file: 256 MiB.
type segment struct {
	file  *largeFile
	index int64
	left  atomic.Int64  // blocks still to write, then to read back
	kept  atomic.Uint64 // a bit for each block that an interrupted copy has left
}

const segmentBlocks = 64

// segmentsInFlight bounds what is written but not read back yet, and with it
// the number of open files.
const segmentsInFlight = 32

func segments(blocks int64) int64 { return (blocks + segmentBlocks - 1) / segmentBlocks }

func (s *segment) first() int64 { return s.index * segmentBlocks }

func (s *segment) blocks() int64 {
	return min(segmentBlocks, tree.Blocks(s.file.size)-s.first())
}

// largeFiles returns the producer of blocks to copy and the one of blocks to
// read back. The second is through when as many segments have come to it as the
// plan has.
func (c *copying) largeFiles() (copyBlocks, readBackBlocks pool.Producer) {
	places := make(chan struct{}, segmentsInFlight)
	ready := make(chan *segment, segmentsInFlight) // never full: places bounds it
	copyBlocks = func(ctx context.Context, emit func(pool.Task) error) error {
		return c.plan.Each(ctx, func(it *Item) error {
			if it.Kind != tree.Regular || tree.Blocks(it.Size) < 2 {
				return nil
			}
			f := &largeFile{c: c, item: *it, written: map[int64]*segment{}}
			f.path, f.size, f.sparse = it.Below(), it.Size, it.Sparse()
			return f.emitCopies(ctx, places, ready, emit)
		})
	}
	readBackBlocks = func(ctx context.Context, emit func(pool.Task) error) error {
		for range c.plan.segments {
			select {
			case s := <-ready:
				if err := s.emitReadBack(places, emit); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	return copyBlocks, readBackBlocks
}

// reserveLarge makes the large files and reserves their space, before anything is
// written: a device that is full is found out now. What will be cloned needs none.
func (c *copying) reserveLarge(ctx context.Context, emit func(pool.Task) error) error {
	if c.plan.segments == 0 || c.stage.clones {
		return nil
	}
	want := func(it *Item) bool {
		return it.Kind == tree.Regular && tree.Blocks(it.Size) > 1 && !it.Sparse()
	}
	return c.inStage(ctx, emit, want, func(ctx context.Context, dst *sys.File, it *Item) error {
		f, err := c.openLargeCopy(ctx, dst, it, false)
		if err != nil {
			return err
		}
		_, err = f.Allocate(it.Size)
		if closed := f.Close(); err == nil {
			err = closed
		}
		return err
	})
}

func (f *largeFile) emitCopies(ctx context.Context, places chan<- struct{}, ready chan<- *segment, emit func(pool.Task) error) error {
	for i := range segments(tree.Blocks(f.size)) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s := &segment{file: f, index: i}
		n := s.blocks()
		s.left.Store(n)
		for b := s.first(); b < s.first()+n; b++ {
			err := emit(func(ctx context.Context, w *pool.Worker) error { return f.copyTask(ctx, s, b, ready, w) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *segment) emitReadBack(places <-chan struct{}, emit func(pool.Task) error) error {
	for b := s.first(); b < s.first()+s.blocks(); b++ {
		err := emit(func(ctx context.Context, w *pool.Worker) error {
			if err := s.file.readBack(ctx, s, b, w); err != nil || s.left.Add(-1) > 0 {
				return err
			}
			<-places
			if s.index+1 == segments(tree.Blocks(s.file.size)) {
				return s.file.finish()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copyTask copies block b, unless it was kept, and after the last one of its
// segment has that synced and read back.
func (f *largeFile) copyTask(ctx context.Context, s *segment, b int64, ready chan<- *segment, w *pool.Worker) error {
	if f.opening.Do(func() { f.openErr = f.open(ctx) }); f.openErr != nil {
		return f.openErr
	}
	n := int64(tree.BlockLen(f.size, b))
	kept, err := f.keep(s, b)
	if err == nil && !kept {
		_, err = f.copyBlock(ctx, b, w, false)
	}
	if err != nil {
		return err
	}
	if !kept {
		f.c.moved.Add(n)
	}
	f.c.Observer.Copied(n)
	if s.left.Add(-1) > 0 {
		return nil
	}
	if ctx.Err() != nil { // no new I/O
		return context.Cause(ctx)
	}
	return f.segmentWritten(s, ready)
}

// keep reports whether block b is in the stage from an interrupted copy.
func (f *largeFile) keep(s *segment, b int64) (bool, error) {
	if !f.c.stage.Resumed {
		return false, nil
	}
	sum, err := f.c.stage.journal.get(f.item.slot + b)
	if sum == 0 || err != nil {
		return false, err
	}
	s.kept.Or(1 << (b - s.first()))
	return true, nil
}

// copyBlock copies block b and records its sum; again is that of copying.copyBlock.
func (f *largeFile) copyBlock(ctx context.Context, b int64, w *pool.Worker, again bool) (sum uint64, err error) {
	off := b * tree.BlockSize
	err = f.c.uncached(f.in, off, int64(tree.BlockLen(f.size, b)), func() error {
		sum, err = f.c.copyBlock(ctx, &f.pair, b, w.Buf, again)
		return err
	})
	if err != nil {
		return 0, err
	}
	return sum, f.c.stage.journal.put(f.item.slot+b, sum)
}

// segmentWritten syncs the segment and queues what can be read back in order.
func (f *largeFile) segmentWritten(s *segment, ready chan<- *segment) error {
	if err := f.c.synced(f.out.SyncData); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written[s.index] = s
	for f.written[f.next] != nil {
		s := f.written[f.next]
		s.left.Store(s.blocks())
		delete(f.written, f.next)
		f.next++
		ready <- s
	}
	return nil
}

// readBack compares block b on the SSD with the source's sum. What differs is
// copied once more.
func (f *largeFile) readBack(ctx context.Context, s *segment, b int64, w *pool.Worker) error {
	want, err := f.c.stage.journal.get(f.item.slot + b)
	if err != nil {
		return err
	}
	kept := s.kept.Load()&(1<<(b-s.first())) != 0
	got, err := f.reader.Sum(b, w.Buf)
	if isShort(err) || (err == nil && got != want) {
		kept = false
		if want, err = f.copyBlock(ctx, b, w, true); err != nil {
			return err
		}
		if err := f.c.stage.journal.putAgain(f.item.slot+b, want); err != nil {
			return err
		}
		if err := f.out.SyncData(); err != nil {
			return err
		}
		got, err = f.reader.Sum(b, w.Buf)
	}
	if err != nil {
		return err
	}
	n := int64(tree.BlockLen(f.size, b))
	if got != want {
		return &DamageError{f.path, b * tree.BlockSize, b*tree.BlockSize + n}
	}
	if kept {
		f.kept.Add(n)
		f.c.resumed.Add(n)
	}
	f.c.Observer.ReadBack(n)
	return f.reader.Accept(ctx, b, w.Buf)
}

func isShort(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

// open opens the file on both sides and for reading back.
func (f *largeFile) open(ctx context.Context) error {
	c := f.c
	f.begun = c.now()
	src, err := c.openSourceDir(f.item.Path)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	dst, err := c.stage.open(f.item.Path)
	if err != nil {
		return err
	}
	defer dst.Close() //nolint:errcheck // opened for reading
	c.mu.Lock()
	c.large[f] = true
	c.mu.Unlock()
	direct := c.Engine != Buffered
	if f.in, err = c.openSource(src, c.src.name(f.item.Name), direct); err != nil {
		return sourceError(f.path, err)
	}
	if err := c.checkSource(&f.pair, &f.item); err != nil {
		return err
	}
	if err := f.in.NoReadAhead(); err != nil {
		return err
	}
	if f.out, err = c.openLargeCopy(ctx, dst, &f.item, direct); err != nil {
		return err
	}
	f.out.Pace, f.out.Request = c.Pace, c.Request
	if err := f.prepare(); err != nil {
		return err
	}
	f.reader, err = c.ReadBack.Open(dst, c.stage.name(f.item.Name), f.size)
	return err
}

// prepare is copying.prepare, unless the file was cloned already.
func (f *largeFile) prepare() error {
	f.c.mu.Lock()
	cloned := f.c.cloned[f.item.slot]
	f.c.mu.Unlock()
	if cloned {
		f.take(Clone, whyClone)
		return nil
	}
	return f.c.prepare(&f.pair)
}

// openLargeCopy opens the file of the stage, which has been reserved or is there
// from an interrupted copy. One that cannot be opened any more, or is no file, is
// made again: its blocks will read back wrong and be copied.
func (c *copying) openLargeCopy(ctx context.Context, dst *sys.File, it *Item, direct bool) (*sys.File, error) {
	name := c.stage.name(it.Name)
	open := func() (*sys.File, error) {
		if direct {
			return openDirect(dst, name, unix.O_RDWR|unix.O_CREAT, 0o600)
		}
		return dst.OpenAt(name, unix.O_RDWR|unix.O_CREAT, 0o600)
	}
	f, err := open()
	if !c.stage.Resumed {
		return f, err
	}
	switch is, err := isFile(f, err); {
	case err != nil:
		return nil, err
	case is:
		return f, nil
	}
	if err := tree.Remove(ctx, dst, name, 1); err != nil {
		return nil, err
	}
	c.mu.Lock()
	delete(c.cloned, it.slot) // if it was, it is not any more
	c.mu.Unlock()
	return open()
}

// isFile reports whether what was opened is a regular file; otherwise it is closed.
func isFile(f *sys.File, opened error) (bool, error) {
	if opened != nil {
		if sys.Is(opened, unix.EACCES, unix.ELOOP, unix.EISDIR, unix.ENXIO) {
			opened = nil
		}
		return false, opened
	}
	s, err := f.Stat()
	if err == nil && s.IsRegular() {
		return true, nil
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return false, err
}

// finish is called when every block of the file has been read back.
func (f *largeFile) finish() error {
	c := f.c
	sum, err := f.reader.Close()
	if err != nil {
		return err
	}
	f.reader = nil
	if err := c.stage.journal.put(f.item.slot+tree.Blocks(f.size), sum); err != nil {
		return err
	}
	if err := c.checkSource(&f.pair, &f.item); err != nil {
		return err
	}
	if err := f.seal(); err != nil {
		return err
	}
	c.count(&f.pair, f.size-f.kept.Load())
	c.fileDone(f.begun)
	return c.close(f)
}

func (f *largeFile) seal() error {
	c := f.c
	src, err := c.openSourceDir(f.item.Path)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	dst, err := c.stage.open(f.item.Path)
	if err != nil {
		return err
	}
	defer dst.Close() //nolint:errcheck // opened for reading
	if err := c.setMeta(src, dst, f.out, &f.item, birth{}); err != nil {
		return err
	}
	if c.syncEach {
		return c.synced(f.out.Sync)
	}
	return nil
}

// close closes what the file has open.
func (c *copying) close(f *largeFile) (err error) {
	c.mu.Lock()
	delete(c.large, f)
	c.mu.Unlock()
	if f.reader != nil {
		_, err = f.reader.Close()
	}
	for _, file := range []*sys.File{f.in, f.out} {
		if file == nil {
			continue
		}
		if closed := file.Close(); err == nil {
			err = closed
		}
	}
	return err
}

// closeLarge closes what a failed copy left open; its error is known already.
func (c *copying) closeLarge() {
	for f := range c.large {
		c.close(f) //nolint:errcheck // after a failure
	}
}

package copier

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/tree"
)

// largeFile is a file of more than one block. All workers share its blocks. They are
// written segment by segment. When the last block of a segment is written, the file is
// synced, and the segment is read back while later segments are still copied.
type largeFile struct {
	filePair
	run   *copyRun
	item  PlanEntry
	queue *segmentQueue

	begun   time.Time // for the Timer
	opening sync.Once
	openErr error
	reader  BlockReader

	mu      sync.Mutex
	written map[int64]*segment // synced, but an earlier segment is not
	next    int64              // the next segment to read back
	kept    atomic.Int64       // bytes
}

// segment is a run of blocks of a large file: 256 MiB.
type segment struct {
	file  *largeFile
	index int64
	left  atomic.Int64  // blocks to write, later blocks to read back
	kept  atomic.Uint64 // a bit for each block that an interrupted copy has left
}

const segmentBlocks = 64

func segmentCount(blocks int64) int64 { return (blocks + segmentBlocks - 1) / segmentBlocks }

func (s *segment) firstBlock() int64 { return s.index * segmentBlocks }

func (s *segment) blockCount() int64 {
	return min(segmentBlocks, tree.BlockCount(s.file.size)-s.firstBlock())
}

// segmentQueue takes the segments from the workers that write them to the producer that
// has them read back.
type segmentQueue struct {
	places chan struct{} // one for each segment in flight
	ready  chan *segment // never full: places bounds it
}

// maxSegmentsInFlight is the number of segments that are begun and not read back. It also
// bounds the number of open files.
const maxSegmentsInFlight = 32

// largeFiles returns two producers: one of the blocks to copy, and one of the blocks to
// read back. The second ends when it has received all segments of the plan.
func (c *copyRun) largeFiles() (copyBlocks, readBackBlocks pool.Producer) {
	queue := &segmentQueue{make(chan struct{}, maxSegmentsInFlight), make(chan *segment, maxSegmentsInFlight)}
	copyBlocks = func(ctx context.Context, emit func(pool.Task) error) error {
		return c.plan.EachEntry(ctx, func(it *PlanEntry) error {
			if it.Kind != tree.Regular || tree.BlockCount(it.Size) < 2 {
				return nil
			}
			f := &largeFile{run: c, item: *it, queue: queue, written: map[int64]*segment{}}
			f.path, f.size, f.sparse = it.RelativePath(), it.Size, it.IsSparse()
			return f.emitCopies(ctx, emit)
		})
	}
	readBackBlocks = func(ctx context.Context, emit func(pool.Task) error) error {
		for range c.plan.segments {
			select {
			case s := <-queue.ready:
				if err := s.emitReadBack(emit); err != nil {
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

func (f *largeFile) emitCopies(ctx context.Context, emit func(pool.Task) error) error {
	for i := range segmentCount(tree.BlockCount(f.size)) {
		select {
		case f.queue.places <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s := &segment{file: f, index: i}
		n := s.blockCount()
		s.left.Store(n)
		for b := s.firstBlock(); b < s.firstBlock()+n; b++ {
			err := emit(func(ctx context.Context, w *pool.Worker) error { return f.copyTask(ctx, s, b, w) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *segment) emitReadBack(emit func(pool.Task) error) error {
	for b := s.firstBlock(); b < s.firstBlock()+s.blockCount(); b++ {
		err := emit(func(ctx context.Context, w *pool.Worker) error { return s.readBackTask(ctx, b, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *segment) readBackTask(ctx context.Context, b int64, w *pool.Worker) error {
	if err := s.file.readBackBlock(ctx, s, b, w); err != nil || s.left.Add(-1) > 0 {
		return err
	}
	<-s.file.queue.places
	if s.index+1 < segmentCount(tree.BlockCount(s.file.size)) {
		return nil
	}
	return s.file.finish()
}

// copyTask copies block b, unless an interrupted copy has left it. After the last block of
// a segment it syncs the segment and queues it for reading back.
func (f *largeFile) copyTask(ctx context.Context, s *segment, b int64, w *pool.Worker) error {
	if f.opening.Do(func() { f.openErr = f.openFiles(ctx) }); f.openErr != nil {
		return f.openErr
	}
	n := int64(tree.BlockLen(f.size, b))
	kept, err := f.keepBlock(s, b)
	if err != nil {
		return err
	}
	if !kept {
		if _, err := f.copyBlock(ctx, b, w, byEngine); err != nil {
			return err
		}
		f.run.moved.Add(n)
	}
	f.run.Observer.Copied(n)
	if s.left.Add(-1) > 0 {
		return nil
	}
	if ctx.Err() != nil { // no new I/O
		return context.Cause(ctx)
	}
	return f.syncSegment(s)
}

// keepBlock reports whether an interrupted copy has left block b in the stage, and notes it in
// the segment.
func (f *largeFile) keepBlock(s *segment, b int64) (bool, error) {
	if !f.run.stage.Resumed {
		return false, nil
	}
	sum, err := f.run.stage.journal.sumAt(f.item.slot + b)
	if sum == 0 || err != nil {
		return false, err
	}
	s.kept.Or(1 << (b - s.firstBlock()))
	return true, nil
}

// copyBlock copies block b and writes its sum to the journal.
func (f *largeFile) copyBlock(ctx context.Context, b int64, w *pool.Worker, mode writeMode) (sum uint64, err error) {
	off := b * tree.BlockSize
	err = f.run.readLeavingCache(f.in, off, int64(tree.BlockLen(f.size, b)), func() error {
		sum, err = f.run.copyBlock(ctx, &f.filePair, b, w.Buf, mode)
		return err
	})
	if err != nil {
		return 0, err
	}
	return sum, f.run.stage.journal.putSum(f.item.slot+b, sum)
}

// syncSegment syncs the file, and queues the segments that can now be read back in order.
func (f *largeFile) syncSegment(s *segment) error {
	if err := f.run.timedSync(f.out.SyncData); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written[s.index] = s
	for f.written[f.next] != nil {
		s := f.written[f.next]
		s.left.Store(s.blockCount())
		delete(f.written, f.next)
		f.next++
		f.queue.ready <- s
	}
	return nil
}

// readBackBlock compares block b on the SSD with the sum of the source. A block that
// differs is copied again.
func (f *largeFile) readBackBlock(ctx context.Context, s *segment, b int64, w *pool.Worker) error {
	want, err := f.run.stage.journal.sumAt(f.item.slot + b)
	if err != nil {
		return err
	}
	kept := s.kept.Load()&(1<<(b-s.firstBlock())) != 0
	got, err := f.reader.Sum(b, w.Buf)
	if isTooShort(err) || (err == nil && got != want) {
		kept = false
		got, want, err = f.recopyBlock(ctx, b, w)
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
		f.run.resumed.Add(n)
	}
	f.run.Observer.ReadBack(n)
	return f.reader.Accept(ctx, b, w.Buf)
}

// recopyBlock copies block b again, syncs it, and reads it back. It returns the sum on the
// SSD and the sum of the source.
func (f *largeFile) recopyBlock(ctx context.Context, b int64, w *pool.Worker) (got, want uint64, err error) {
	if want, err = f.copyBlock(ctx, b, w, overwrite); err != nil {
		return 0, 0, err
	}
	if err := f.run.stage.journal.replaceSum(f.item.slot+b, want); err != nil {
		return 0, 0, err
	}
	if err := f.out.SyncData(); err != nil {
		return 0, 0, err
	}
	got, err = f.reader.Sum(b, w.Buf)
	return got, want, err
}

func isTooShort(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// readSize is the number of bytes that the reader beside a copy reads at once: a page.
const readSize = 4096

const readersStep = "random reads, alone and beside a copy"

// measureReaders measures how long a reader waits for random pages of the shard's
// largest file: first alone, then beside a copy of the shard.
func (r *runner) measureReaders(ctx context.Context, from *shard, alone time.Duration) (*Readers, error) {
	next := ""
	if r.set.share > 0 {
		next = sustainedStep
	}
	r.begin(2*from.plan.Bytes, readersStep, next)
	if _, err := r.cooler.cool(ctx, from); err != nil {
		return nil, err
	}
	file, err := from.openLargest()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader := r.newReader(file, from.largest.Size)
	readers := &Readers{}
	if readers.Alone, err = reader.readFor(ctx, alone); err != nil {
		return nil, err
	}
	r.copies++
	name := fmt.Sprint("copy-", r.copies)
	state, err := mkdir(r.work.File, name)
	if err != nil {
		return nil, err
	}
	var sample Sample
	readers.Beside, err = reader.readBeside(ctx, func() (err error) {
		sample, err = r.copyLargestCase(ctx, from, state)
		return err
	})
	if err = errs.Join(err, state.Close(), r.work.delete(ctx, name)); err != nil {
		return nil, err
	}
	r.written.Add(from.stored)
	readers.Rate = float64(from.plan.Bytes) / sample.Verified
	return readers, nil
}

// copyLargestCase copies the shard with the largest block size and the most workers
// of the matrix.
func (r *runner) copyLargestCase(ctx context.Context, from *shard, state *sys.File) (Sample, error) {
	how := copying{engine: copier.Direct, block: r.set.blocks[len(r.set.blocks)-1], jobs: r.set.jobs[len(r.set.jobs)-1], moved: r.moved,
		tool: r.Version, useProcessors: r.useProcessors}
	s, _, err := how.run(ctx, from.path, state)
	return s, err
}

// RandomReader reads random pages of a file, one after the other, and records how long
// each read takes. It reads past the page cache if the file system allows that.
type RandomReader struct {
	file   *sys.File
	size   int64
	random *rand.Rand
}

// OpenRandomReader opens a file for a RandomReader. The seed determines the order of
// the pages.
func OpenRandomReader(path string, seed uint64) (*RandomReader, error) {
	file, err := openPastCache(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return newRandomReader(file, info.Size, seed), nil
}

// openPastCache opens a file with O_DIRECT, or without where that is refused.
func openPastCache(path string) (*sys.File, error) {
	file, err := sys.Open(path, unix.O_RDONLY|unix.O_DIRECT)
	if sys.IsErrno(err, unix.EINVAL, unix.EOPNOTSUPP) {
		return sys.Open(path, unix.O_RDONLY)
	}
	return file, err
}

func newRandomReader(file *sys.File, size int64, seed uint64) *RandomReader {
	const stream = 3 // independent of the other random numbers of a run
	return &RandomReader{file: file, size: size, random: rand.New(rand.NewPCG(seed, stream))}
}

func (r *runner) newReader(file *sys.File, size int64) *RandomReader {
	return newRandomReader(file, size, r.Seed)
}

// Close closes the file that OpenRandomReader opened.
func (r *RandomReader) Close() error { return r.file.Close() }

// StartReading begins to read in another goroutine. The function that it returns ends
// that, and returns the latencies; it must be called once.
func (r *RandomReader) StartReading(ctx context.Context) (stop func() (Latency, error)) {
	reading, cancel := context.WithCancel(ctx)
	var h *hdrhistogram.Histogram
	done := make(chan error, 1)
	go func() {
		var err error
		h, err = r.readUntilDone(reading)
		done <- err
	}()
	return func() (Latency, error) {
		cancel()
		err := <-done
		return latencyOf(h), err
	}
}

// readFor reads for the duration, without anything beside.
func (r *RandomReader) readFor(ctx context.Context, d time.Duration) (Latency, error) {
	reading, end := context.WithTimeout(ctx, d)
	defer end()
	h, err := r.readUntilDone(reading)
	if err == nil {
		err = context.Cause(ctx)
	}
	return latencyOf(h), err
}

// readBeside reads until the work is done.
func (r *RandomReader) readBeside(ctx context.Context, work func() error) (Latency, error) {
	stop := r.StartReading(ctx)
	err := work()
	latency, readErr := stop()
	return latency, errs.Join(err, readErr)
}

// readUntilDone reads until ctx ends, which is not an error.
func (r *RandomReader) readUntilDone(ctx context.Context) (*hdrhistogram.Histogram, error) {
	h := newHistogram()
	buf, err := sys.AllocBuffer(readSize)
	if err != nil {
		return h, err
	}
	defer func() { _ = sys.FreeBuffer(buf) }() // unmapping own memory does not fail
	for ctx.Err() == nil {
		off := r.random.Int64N(max(r.size/readSize, 1)) * readSize
		start := time.Now()
		if _, err := r.file.ReadAt(buf, 1, off); err != nil {
			return h, err
		}
		record(h, time.Since(start))
	}
	return h, nil
}

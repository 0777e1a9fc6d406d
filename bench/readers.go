package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// readSize is what the reader beside a copy reads at once, in bytes: a page.
const readSize = 4096

const readersStep = "random reads, alone and beside a copy"

// measureReaders has a reader wait for random pages of the shard's largest file, alone
// for a while, and then beside a copy of the shard.
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
	defer file.Close() //nolint:errcheck // opened for reading
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
		sample, err = r.copyOnce(ctx, from, state)
		return err
	})
	if err = errs.Join(err, state.Close(), r.work.delete(ctx, name)); err != nil {
		return nil, err
	}
	r.written.Add(from.stored)
	readers.Rate = float64(from.plan.Bytes) / sample.Verified
	return readers, nil
}

// copyOnce copies the shard in the way that comes last in the matrix.
func (r *runner) copyOnce(ctx context.Context, from *shard, state *sys.File) (Sample, error) {
	how := copying{engine: copier.Direct, block: r.set.blocks[len(r.set.blocks)-1], jobs: r.set.jobs[len(r.set.jobs)-1], moved: r.moved,
		tool: r.Version, processors: r.processors}
	s, _, err := how.run(ctx, from.path, state)
	return s, err
}

// randomReader reads one page after the other past the page cache.
type randomReader struct {
	file   *sys.File
	size   int64
	random *rand.Rand
}

func (r *runner) newReader(file *sys.File, size int64) *randomReader {
	return &randomReader{file: file, size: size, random: rand.New(rand.NewPCG(r.Seed, 3))}
}

// readFor reads for a while.
func (r *randomReader) readFor(ctx context.Context, d time.Duration) (Latency, error) {
	reading, end := context.WithTimeout(ctx, d)
	defer end()
	h, err := r.read(reading)
	if err == nil {
		err = context.Cause(ctx)
	}
	return latencyOf(h), err
}

// readBeside reads until the work is done.
func (r *randomReader) readBeside(ctx context.Context, work func() error) (Latency, error) {
	reading, end := context.WithCancel(ctx)
	defer end()
	var h *hdrhistogram.Histogram
	read := make(chan error, 1)
	go func() {
		var err error
		h, err = r.read(reading)
		read <- err
	}()
	err := work()
	end()
	err = errs.Join(err, <-read)
	return latencyOf(h), err
}

// read reads until ctx ends.
func (r *randomReader) read(ctx context.Context) (*hdrhistogram.Histogram, error) {
	h := newHistogram()
	buf, err := sys.Buffer(readSize)
	if err != nil {
		return h, err
	}
	defer sys.FreeBuffer(buf) //nolint:errcheck // only memory
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

package bench

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shard_to_ssd/bench/internal/data"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// The files that the ceilings are measured with.
const (
	ceilingSource = "ceiling-read"
	ceilingCopy   = "ceiling-write"
)

// ceilingBench measures the rates of the drive without any other load. It reads a file
// that it wrote before, and writes a file with reserved space, as a copy does.
type ceilingBench struct {
	dir   *sys.File
	size  int64 // bytes of one sample
	seed  uint64
	moved func(bytes int64)

	useProcessors func(n int) // see runner
}

// writeSource writes the file for the reads.
func (b *ceilingBench) writeSource(ctx context.Context) error {
	w := data.Workload{Name: ceilingSource, Groups: []data.Group{{Name: ceilingSource, Files: 1, Min: b.size, Max: b.size}}}
	dir, err := mkdir(b.dir, ceilingSource)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := w.WriteFiles(ctx, dir, b.seed, 1, b.moved); err != nil {
		return err
	}
	return dir.SyncFS()
}

// addSample measures the ceiling c once and appends the sample to c.
func (b *ceilingBench) addSample(ctx context.Context, c *Ceiling) (err error) {
	var streams []*stream
	defer func() {
		for _, s := range streams {
			err = errs.Join(err, s.close(), s.file.Close())
		}
		err = errs.Join(err, b.dir.UnlinkIfExists(ceilingCopy))
	}()
	b.seed++
	b.useProcessors(2 * c.Depth)
	for _, way := range c.Way.directions() {
		file, err := b.openFile(way)
		if err != nil {
			return err
		}
		s, err := newStream(streamConfig{file, way, b.size, c.Block, c.Depth, b.seed, b.moved})
		if err != nil {
			return errs.Join(err, file.Close())
		}
		streams = append(streams, s)
	}
	seconds, err := runAtOnce(ctx, streams)
	if err != nil {
		return err
	}
	all := newHistogram()
	for _, s := range streams {
		all.Merge(mergeHistograms(s.hists))
	}
	c.Rates = append(c.Rates, float64(streams[0].size)/seconds)
	c.Latency = append(c.Latency, latencyOf(all))
	return nil
}

// directions splits Both into its two directions.
func (w Way) directions() []Way {
	if w == Both {
		return []Way{Read, Write}
	}
	return []Way{w}
}

func (b *ceilingBench) openFile(way Way) (*sys.File, error) {
	if way == Write {
		return data.CreateFile(b.dir, ceilingCopy, b.size)
	}
	dir, err := b.dir.OpenDirAt(ceilingSource)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.ListNames(make([]byte, 4096))
	if err != nil {
		return nil, err
	}
	return openDirect(dir, names[0])
}

// openDirect opens a file for reads that bypass the page cache, or for reads through it
// where the file system refuses O_DIRECT.
func openDirect(dir *sys.File, name string) (*sys.File, error) {
	f, err := dir.OpenAt(name, unix.O_RDONLY|unix.O_DIRECT, 0)
	if sys.IsErrno(err, unix.EINVAL, unix.EOPNOTSUPP) {
		f, err = dir.OpenAt(name, unix.O_RDONLY, 0)
	}
	return f, err
}

// runAtOnce runs all streams at the same time and returns the seconds until the last one
// ended.
func runAtOnce(ctx context.Context, streams []*stream) (seconds float64, err error) {
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for _, s := range streams {
		g.Go(func() error { return s.run(ctx) })
	}
	err = g.Wait()
	return time.Since(start).Seconds(), err
}

// mkdir makes a directory and opens it.
func mkdir(in *sys.File, name string) (*sys.File, error) {
	if err := in.MkdirAt(name, 0o700); err != nil {
		return nil, err
	}
	return in.OpenDirAt(name)
}

// bestRate returns the highest median rate of a way, or 0 if it was not measured.
func bestRate(ceilings []Ceiling, way Way) (rate float64) {
	for _, c := range ceilings {
		if c.Way == way {
			rate = max(rate, Median(c.Rates))
		}
	}
	return rate
}

// readsDirect reports whether reads bypass the page cache.
func (b *ceilingBench) readsDirect() bool {
	f, err := b.openFile(Read)
	if err != nil {
		return false
	}
	defer f.Close()
	s, err := f.Stat()
	return err == nil && f.Direct.Load() && s.DirectAlign != 0
}

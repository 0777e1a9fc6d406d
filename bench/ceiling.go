package bench

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shard_to_ssd/bench/data"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// The files that ceilings are measured with.
const (
	ceilingSource = "ceiling-read"
	ceilingCopy   = "ceiling-write"
)

// ceilingBench measures what the device does with nothing else to do: it reads a file
// that was written before, and writes one whose space was reserved, as a copy does.
type ceilingBench struct {
	dir   *sys.File
	size  int64 // bytes of one sample
	seed  uint64
	moved func(bytes int64)
}

// prepare writes the file that is read.
func (b *ceilingBench) prepare(ctx context.Context) error {
	w := data.Workload{Name: ceilingSource, Groups: []data.Group{{Name: ceilingSource, Files: 1, Min: b.size, Max: b.size}}}
	dir, err := mkdir(b.dir, ceilingSource)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	if err := w.Write(ctx, dir, b.seed, 1, b.moved); err != nil {
		return err
	}
	return dir.SyncFS()
}

// sample measures a ceiling once, and adds that to it.
func (b *ceilingBench) sample(ctx context.Context, c *Ceiling) (err error) {
	var streams []*stream
	defer func() {
		for _, s := range streams {
			err = errs.Join(err, s.close(), s.file.Close())
		}
		err = errs.Join(err, b.dir.UnlinkIfThere(ceilingCopy))
	}()
	b.seed++
	for _, way := range c.Way.each() {
		file, err := b.open(way)
		if err != nil {
			return err
		}
		s, err := newStream(file, way, b.size, c.Block, c.Depth, b.seed, b.moved)
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
		all.Merge(merged(s.hists))
	}
	c.Rates = append(c.Rates, float64(streams[0].size)/seconds)
	c.Latency = append(c.Latency, latencyOf(all))
	return nil
}

// each are the ways that a way is made of.
func (w Way) each() []Way {
	if w == Both {
		return []Way{Read, Write}
	}
	return []Way{w}
}

func (b *ceilingBench) open(way Way) (*sys.File, error) {
	if way == Write {
		return data.Create(b.dir, ceilingCopy, b.size)
	}
	dir, err := b.dir.OpenDirAt(ceilingSource)
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	names, err := dir.Names(make([]byte, 4096))
	if err != nil {
		return nil, err
	}
	return openDirect(dir, names[0])
}

// openDirect opens a file to be read past the page cache, or through it where that is
// refused.
func openDirect(dir *sys.File, name string) (*sys.File, error) {
	f, err := dir.OpenAt(name, unix.O_RDONLY|unix.O_DIRECT, 0)
	if sys.Is(err, unix.EINVAL, unix.EOPNOTSUPP) {
		f, err = dir.OpenAt(name, unix.O_RDONLY, 0)
	}
	return f, err
}

// runAtOnce runs streams and returns how long all of them took together.
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

// best is the rate of the best ceiling of a way that was measured, 0 if none was.
func best(ceilings []Ceiling, way Way) (rate float64) {
	for _, c := range ceilings {
		if c.Way == way {
			rate = max(rate, median(c.Rates))
		}
	}
	return rate
}

// direct reports whether what is read is read past the page cache.
func (b *ceilingBench) direct() bool {
	f, err := b.open(Read)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // opened for reading
	s, err := f.Stat()
	return err == nil && f.Direct.Load() && s.DirectAlign != 0
}

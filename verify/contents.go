package verify

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// Progress hears how a verification goes on, from many goroutines.
type Progress interface {
	ReadBack(bytes int64)
	FileDone()
}

// Contents compares everything with the manifest, which must have been checked:
// names, metadata, and every block, read from the device by workers of the pool
// over files and over the blocks of large ones.
func Contents(ctx context.Context, m *Manifest, shard Shard, p *pool.Pool, medium *Medium, progress Progress, report func(Difference)) error {
	var mu sync.Mutex
	c := &contents{shard: shard, medium: medium, progress: progress, report: func(d Difference) {
		mu.Lock()
		defer mu.Unlock()
		report(d)
	}}
	return p.Run(ctx, func(ctx context.Context, emit func(pool.Task) error) error {
		c.emit = emit
		cmp := &comparer{ctx: ctx, shard: shard, report: c.report, file: c.file, sums: c.sums}
		err := cmp.compare(m)
		if err == nil {
			err = c.flush()
		}
		return err
	})
}

// contents makes tasks of the files that the comparer meets.
type contents struct {
	shard    Shard
	medium   *Medium
	progress Progress
	report   func(Difference)
	emit     func(pool.Task) error

	small []smallFile // of one directory
	dir   string      // its path
	bytes int64
	large *largeFile // whose sums come next; nil if the file cannot be compared
	block int64
}

// One task is this much of small files, so that no worker is the last for long.
const (
	batchFiles = 256
	batchBytes = 16 << 20
)

// smallFile has at most one block.
type smallFile struct {
	name string // in its directory
	path string
	size int64
	want uint64
}

// file takes a file that is there with the right length.
func (c *contents) file(d *sys.File, name string, r *tree.Record) error {
	c.large = nil
	if blocks := tree.Blocks(r.Size); blocks > 1 {
		f, err := c.medium.Open(d, name, r.Size)
		if err != nil {
			c.report(Difference{Path: r.Below(), Kind: Unreadable, Detail: err.Error()})
			return nil
		}
		c.large, c.block = &largeFile{File: f, path: r.Below()}, 0
		c.large.left.Store(blocks)
		return nil
	}
	if r.Path != c.dir || len(c.small) >= batchFiles || c.bytes >= batchBytes {
		if err := c.flush(); err != nil {
			return err
		}
		c.dir = r.Path
	}
	c.small = append(c.small, smallFile{name, r.Below(), r.Size, r.Sum})
	c.bytes += r.Size
	return nil
}

func (c *contents) flush() error {
	batch, path := c.small, c.dir
	c.small, c.bytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	return c.emit(func(ctx context.Context, w *pool.Worker) error { return c.compareBatch(ctx, path, batch, w) })
}

func (c *contents) compareBatch(ctx context.Context, path string, batch []smallFile, w *pool.Worker) error {
	below := tree.Join(c.shard.Name, path)
	if batch[0].path == "." || batch[0].name == c.shard.Name && batch[0].path != tree.Join(path, batch[0].name) {
		below = "" // the shard is one file
	}
	d, err := c.shard.In.OpenBelow(below)
	if err != nil {
		c.report(Difference{Path: tree.Join(path, "."), Kind: Unreadable, Detail: err.Error()})
		return nil
	}
	defer d.Close() //nolint:errcheck // opened for reading
	for i := range batch {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.compareSmall(d, &batch[i], w); err != nil {
			return err
		}
	}
	return nil
}

func (c *contents) compareSmall(d *sys.File, s *smallFile, w *pool.Worker) error {
	defer c.progress.FileDone()
	f, err := c.medium.Open(d, s.name, s.size)
	if err != nil {
		c.report(Difference{Path: s.path, Kind: Unreadable, Detail: err.Error()})
		return nil
	}
	if s.size > 0 {
		if d := f.compare(0, s.want, w.Buf); d != nil {
			d.Path = s.path
			c.report(*d)
		}
	}
	c.progress.ReadBack(s.size)
	_, err = f.Close()
	return err
}

// compare reads block i and returns what is wrong with it.
func (f *File) compare(i int64, want uint64, buf []byte) *Difference {
	from := i * tree.BlockSize
	block := []Range{{from, from + int64(tree.BlockLen(f.size, i))}}
	got, err := f.Sum(i, buf)
	switch {
	case isShort(err):
		return &Difference{Kind: Size, Detail: err.Error()}
	case err != nil:
		return &Difference{Kind: Unreadable, Detail: err.Error(), Ranges: block}
	case got != want:
		return &Difference{Kind: Content, Ranges: block}
	}
	return nil
}

// largeFile is a file of several blocks, which are compared in any order.
type largeFile struct {
	*File
	path string
	left atomic.Int64 // blocks

	mu    sync.Mutex
	found []*Difference
}

// sums hands out the blocks of the file before.
func (c *contents) sums(r *tree.Record) error {
	f := c.large
	if f == nil {
		return nil
	}
	for _, want := range slices.Clone(r.Sums) {
		i := c.block
		c.block++
		err := c.emit(func(_ context.Context, w *pool.Worker) error { return c.compareLarge(f, i, want, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *contents) compareLarge(f *largeFile, i int64, want uint64, w *pool.Worker) error {
	if d := f.compare(i, want, w.Buf); d != nil {
		f.mu.Lock()
		f.found = append(f.found, d)
		f.mu.Unlock()
	}
	c.progress.ReadBack(int64(tree.BlockLen(f.size, i)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	for _, d := range merge(f.found) {
		d.Path = f.path
		c.report(d)
	}
	c.progress.FileDone()
	_, err := f.Close()
	return err
}

// merge joins the differences of neighbouring blocks of one kind.
func merge(found []*Difference) (merged []Difference) {
	slices.SortFunc(found, func(a, b *Difference) int {
		return int(min(max(start(a)-start(b), -1), 1))
	})
	for _, d := range found {
		if n := len(merged); n > 0 && merged[n-1].Kind == d.Kind {
			last := &merged[n-1]
			if k := len(last.Ranges); k > 0 && len(d.Ranges) > 0 && last.Ranges[k-1].To == d.Ranges[0].From {
				last.Ranges[k-1].To = d.Ranges[0].To
			} else {
				last.Ranges = append(last.Ranges, d.Ranges...)
			}
			continue
		}
		merged = append(merged, *d)
	}
	return merged
}

func start(d *Difference) int64 {
	if len(d.Ranges) == 0 {
		return 0
	}
	return d.Ranges[0].From
}

package verify

import (
	"context"
	"errors"
	"io/fs"
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
	c := &contents{shard: shard, medium: medium, progress: progress, report: report, open: map[*largeFile]bool{}}
	defer c.closeLarge()
	return p.Run(ctx, func(ctx context.Context, emit func(pool.Task) error) error {
		c.emit = emit
		cmp := &comparer{ctx: ctx, shard: shard, report: c.tell, file: c.file, sums: c.sums}
		if err := cmp.compare(m); err != nil {
			return err
		}
		return c.flush()
	})
}

// closeLarge closes what was open when the run ended early, and tells what was found
// in it.
func (c *contents) closeLarge() {
	for f := range c.open {
		c.tellAll(f)
		f.Close() //nolint:errcheck // the run has failed already
	}
}

func (c *contents) tellAll(f *largeFile) {
	for _, d := range f.found.differences() {
		d.Path = f.path
		c.tell(d)
	}
}

// contents makes tasks of the files that the comparer meets.
type contents struct {
	shard    Shard
	medium   *Medium
	progress Progress
	report   func(Difference)
	emit     func(pool.Task) error

	mu   sync.Mutex // guards report and open
	open map[*largeFile]bool

	small []smallFile // of one directory
	dir   string      // its path below shard.In
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
func (c *contents) file(d *sys.File, path, name string, r *tree.Record) error {
	c.large = nil
	if tree.Blocks(r.Size) > 1 {
		return c.openLarge(d, name, r)
	}
	if path != c.dir || len(c.small) >= batchFiles || c.bytes >= batchBytes {
		if err := c.flush(); err != nil {
			return err
		}
		c.dir = path
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

// openLarge opens a file whose sums come next.
func (c *contents) openLarge(d *sys.File, name string, r *tree.Record) error {
	f, err := c.medium.Open(d, name, r.Size)
	if err != nil {
		return c.unreadable(r.Below(), err)
	}
	c.large, c.block = &largeFile{File: f, path: r.Below()}, 0
	c.large.left.Store(tree.Blocks(r.Size))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[c.large] = true
	return nil
}

func (c *contents) unreadable(path string, err error) error {
	if Ours(err) {
		return err
	}
	c.tell(Difference{Path: path, Kind: Unreadable, Detail: err.Error()})
	return nil
}

func (c *contents) allUnreadable(batch []smallFile, err error) error {
	for i := range batch {
		if err := c.unreadable(batch[i].path, err); err != nil {
			return err
		}
	}
	return nil
}

// tell reports from any goroutine.
func (c *contents) tell(d Difference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report(d)
}

func (c *contents) compareBatch(ctx context.Context, path string, batch []smallFile, w *pool.Worker) error {
	d, err := c.shard.In.OpenBelow(path)
	if err != nil {
		return c.allUnreadable(batch, err)
	}
	defer d.Close() //nolint:errcheck // opened for reading
	files := make([]tree.FileSum, len(batch))
	for i, s := range batch {
		files[i] = tree.FileSum{Name: s.name, Size: s.size}
	}
	for len(files) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := c.medium.sumNext(d, files, w)
		for i := range n {
			if err := c.judge(&batch[i], &files[i]); err != nil {
				return err
			}
		}
		batch, files = batch[n:], files[n:]
	}
	return nil
}

// judge compares what was found of a small file with what was published.
func (c *contents) judge(s *smallFile, found *tree.FileSum) error {
	d, err := difference(found.Sum, found.Err, s.want, Range{0, s.size})
	if err != nil {
		return err
	}
	if d != nil {
		d.Path = s.path
		c.tell(*d)
	}
	c.progress.ReadBack(s.size)
	c.progress.FileDone()
	return nil
}

// difference is what is wrong with a block of which a sum was got, or an error. That
// this process has not the means to read it, or was told to stop, is an error here, too.
func difference(got uint64, err error, want uint64, block Range) (*Difference, error) {
	var at *fs.PathError
	switch {
	case isShort(err):
		return &Difference{Kind: Size, Detail: err.Error()}, nil
	case err != nil && (!errors.As(err, &at) || at.Op == "close" || Ours(err)):
		return nil, err
	case err != nil && (at.Op == "open" || block.To == 0):
		return &Difference{Kind: Unreadable, Detail: err.Error()}, nil
	case err != nil:
		return &Difference{Kind: Unreadable, Detail: err.Error(), Ranges: []Range{block}}, nil
	case got != want && block.To > 0:
		return &Difference{Kind: Content, Ranges: []Range{block}}, nil
	}
	return nil, nil
}

// largeFile is a file of several blocks, which are compared in any order.
type largeFile struct {
	*File
	path string
	left atomic.Int64 // blocks

	mu    sync.Mutex
	found damage
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
	from := i * tree.BlockSize
	got, err := f.Sum(i, w.Buf)
	d, err := difference(got, err, want, Range{from, from + int64(tree.BlockLen(f.size, i))})
	if err != nil {
		return err
	}
	if d != nil {
		f.mu.Lock()
		f.found.add(d)
		f.mu.Unlock()
	}
	c.progress.ReadBack(int64(tree.BlockLen(f.size, i)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	c.tellAll(f)
	c.progress.FileDone()
	c.mu.Lock()
	delete(c.open, f)
	c.mu.Unlock()
	_, err = f.Close()
	return err
}

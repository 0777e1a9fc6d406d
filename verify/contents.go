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
		c.tellOf(f.path, &f.found)
		f.Close() //nolint:errcheck // the run has failed already
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
			if err := c.judge(ctx, d, &batch[i], &files[i], w); err != nil {
				return err
			}
		}
		batch, files = batch[n:], files[n:]
	}
	return nil
}

// judge compares what was found of a small file with what was published.
func (c *contents) judge(ctx context.Context, d *sys.File, s *smallFile, found *tree.FileSum, w *pool.Worker) error {
	var wrong damage
	switch {
	case found.Err != nil:
		failed, err := c.failed(ctx, d, s, found.Err, w)
		if err != nil {
			return err
		}
		wrong.add(failed)
	case s.size > 0 && found.Sum != s.want:
		wrong.add([]Difference{{Kind: Content, Ranges: []Range{{0, s.size}}}})
	}
	c.tellOf(s.path, &wrong)
	c.progress.ReadBack(s.size)
	c.progress.FileDone()
	return nil
}

// failed is what is wrong with a small file that gave an error instead of a sum. That
// this process has not the means to read it, or was told to stop, is an error here, too.
func (c *contents) failed(ctx context.Context, d *sys.File, s *smallFile, err error, w *pool.Worker) ([]Difference, error) {
	var at *fs.PathError
	switch {
	case Ours(err) || !isShort(err) && (!errors.As(err, &at) || at.Op == "close"):
		return nil, err
	case s.size == 0 || at != nil && at.Op == "open":
		return []Difference{{Kind: Unreadable, Detail: err.Error()}}, nil
	}
	f, opened := c.medium.Open(d, s.name, s.size) // once more, to see which part it is
	if opened != nil {
		return []Difference{{Kind: Unreadable, Detail: err.Error(), Ranges: []Range{{0, s.size}}}}, nil
	}
	defer f.Close() //nolint:errcheck // opened for reading
	return f.failure(ctx, 0, err, w.Buf)
}

// tellOf reports what is wrong with the blocks of a file.
func (c *contents) tellOf(path string, found *damage) {
	for _, d := range found.differences() {
		d.Path = path
		c.tell(d)
	}
}

// compare reads block i and returns what is wrong with it.
func (f *File) compare(ctx context.Context, i int64, want uint64, buf []byte) ([]Difference, error) {
	got, err := f.Sum(i, buf)
	switch {
	case err != nil:
		return f.failure(ctx, i, err, buf)
	case got != want:
		return []Difference{{Kind: Content, Ranges: []Range{f.block(i)}}}, nil
	}
	return nil, nil
}

// block is the bytes of block i.
func (f *File) block(i int64) Range {
	from := i * tree.BlockSize
	return Range{from, from + int64(tree.BlockLen(f.size, i))}
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
		err := c.emit(func(ctx context.Context, w *pool.Worker) error { return c.compareLarge(ctx, f, i, want, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *contents) compareLarge(ctx context.Context, f *largeFile, i int64, want uint64, w *pool.Worker) error {
	wrong, err := f.compare(ctx, i, want, w.Buf)
	if err != nil {
		return err
	}
	f.wrong(wrong)
	c.progress.ReadBack(int64(tree.BlockLen(f.size, i)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	return c.finish(f, nil)
}

// wrong takes what is wrong with a block.
func (f *largeFile) wrong(found []Difference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found.add(found)
}

// finish closes a file all of whose blocks were read, and reports what was found. With
// whole, what was accepted must have that sum.
func (c *contents) finish(f *largeFile, whole *uint64) error {
	c.mu.Lock()
	delete(c.open, f)
	c.mu.Unlock()
	sum, err := f.Close()
	if whole != nil && len(f.found.spans) == 0 && sum != *whole {
		f.found.add([]Difference{{Kind: Content, Ranges: []Range{{0, f.size}}}})
	}
	c.tellOf(f.path, &f.found)
	c.progress.FileDone()
	return err
}

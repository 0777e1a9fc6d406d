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

// Progress observes a verification. Many goroutines call it at once.
type Progress interface {
	ReadBack(bytes int64)
	FileDone()
}

// contentsReader has everything that reading contents needs.
type contentsReader struct {
	workers  *pool.Pool
	device   *DeviceReader
	progress Progress
}

func compareContents(ctx context.Context, workers *pool.Pool, device *DeviceReader, o Comparison) error {
	if o.Progress == nil {
		o.Progress = noProgress{}
	}
	c := newContentsComparer(o.Shard, contentsReader{workers, device, o.Progress}, o.Report)
	defer c.closeLargeFiles()
	return workers.Run(ctx, func(ctx context.Context, emit func(pool.Task) error) error {
		c.emit = emit
		cmp := &comparer{ctx: ctx, shard: o.Shard, report: c.reportDifference, onFile: c.addFile, onSums: c.emitBlocks}
		if err := cmp.compareManifest(o.Manifest); err != nil {
			return err
		}
		return c.emitBatch()
	})
}

// contentsComparer makes tasks of files, and reports the differences that the tasks find.
// Its methods addFile, emitBlocks and emitBatch are for one goroutine.
type contentsComparer struct {
	shard    Shard
	device   *DeviceReader
	progress Progress
	report   func(Difference)
	emit     func(pool.Task) error

	mu   sync.Mutex // guards calls of report, and open
	open map[*largeFile]bool

	small []smallFile // of one directory, not emitted yet
	dir   string      // its path below shard.In
	bytes int64       // of small
	large *largeFile  // the file of the next checksums; nil if it cannot be compared
	block int64       // of large, the next one
}

func newContentsComparer(shard Shard, r contentsReader, report func(Difference)) *contentsComparer {
	return &contentsComparer{shard: shard, device: r.device, progress: r.progress, report: report, open: map[*largeFile]bool{}}
}

// closeLargeFiles is for a run that ended early: it closes the files that are still open,
// and reports the differences that were found in them.
func (c *contentsComparer) closeLargeFiles() {
	for f := range c.open {
		c.reportDamage(f.path, &f.found)
		_, _ = f.Close() // the run has failed already
	}
}

// Limits of the small files of one task. They are low, so that at the end of a run no
// worker is busy for long while the others have nothing to do.
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

// addFile takes a file that exists and has the right length.
func (c *contentsComparer) addFile(d *sys.File, path, name string, r *tree.Record) error {
	c.large = nil
	if tree.BlockCount(r.Size) > 1 {
		return c.openLargeFile(d, name, r)
	}
	if path != c.dir || len(c.small) >= batchFiles || c.bytes >= batchBytes {
		if err := c.emitBatch(); err != nil {
			return err
		}
		c.dir = path
	}
	c.small = append(c.small, smallFile{name, r.RelativePath(), r.Size, r.Sum})
	c.bytes += r.Size
	return nil
}

// emitBatch makes one task of the small files that were added.
func (c *contentsComparer) emitBatch() error {
	batch, path := c.small, c.dir
	c.small, c.bytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	return c.emit(func(ctx context.Context, w *pool.Worker) error { return c.compareBatch(ctx, path, batch, w) })
}

// openLargeFile opens a file of several blocks. Its checksums come next.
func (c *contentsComparer) openLargeFile(d *sys.File, name string, r *tree.Record) error {
	f, err := c.device.Open(d, name, r.Size)
	if err != nil {
		return c.reportUnreadable(r.RelativePath(), err)
	}
	c.large, c.block = &largeFile{File: f, path: r.RelativePath()}, 0
	c.large.left.Store(tree.BlockCount(r.Size))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[c.large] = true
	return nil
}

func (c *contentsComparer) reportUnreadable(path string, err error) error {
	if IsProcessError(err) {
		return err
	}
	c.reportDifference(Difference{Path: path, Kind: Unreadable, Detail: err.Error()})
	return nil
}

func (c *contentsComparer) reportAllUnreadable(batch []smallFile, err error) error {
	for i := range batch {
		if err := c.reportUnreadable(batch[i].path, err); err != nil {
			return err
		}
	}
	return nil
}

// reportDifference may be called from any goroutine.
func (c *contentsComparer) reportDifference(d Difference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report(d)
}

func (c *contentsComparer) compareBatch(ctx context.Context, path string, batch []smallFile, w *pool.Worker) error {
	d, err := c.shard.Parent.OpenBelow(path)
	if err != nil {
		return c.reportAllUnreadable(batch, err)
	}
	defer d.Close()
	files := make([]tree.FileSum, len(batch))
	for i, s := range batch {
		files[i] = tree.FileSum{Name: s.name, Size: s.size}
	}
	for len(files) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := c.device.sumNext(d, files, w)
		for i := range n {
			if err := c.compareSmallFile(ctx, d, &batch[i], &files[i], w); err != nil {
				return err
			}
		}
		batch, files = batch[n:], files[n:]
	}
	return nil
}

// compareSmallFile compares the checksum, or the error, of a small file with its manifest.
func (c *contentsComparer) compareSmallFile(ctx context.Context, d *sys.File, s *smallFile, found *tree.FileSum, w *pool.Worker) error {
	var wrong damage
	switch {
	case found.Err != nil:
		differences, err := c.diagnoseSmallFile(ctx, d, s, found.Err, w)
		if err != nil {
			return err
		}
		wrong.addBlock(differences)
	case s.size > 0 && found.Sum != s.want:
		wrong.addBlock([]Difference{{Kind: Content, Ranges: []ByteRange{{0, s.size}}}})
	}
	c.reportDamage(s.path, &wrong)
	c.progress.ReadBack(s.size)
	c.progress.FileDone()
	return nil
}

// diagnoseSmallFile describes a small file that gave readErr instead of a checksum. If
// this process lacks the means to read it, or the run ends, it returns an error instead.
func (c *contentsComparer) diagnoseSmallFile(ctx context.Context, d *sys.File, s *smallFile, readErr error, w *pool.Worker) ([]Difference, error) {
	var at *fs.PathError
	switch {
	case IsProcessError(readErr) || !isShort(readErr) && (!errors.As(readErr, &at) || at.Op == "close"):
		return nil, readErr
	case s.size == 0 || at != nil && at.Op == "open":
		return []Difference{{Kind: Unreadable, Detail: readErr.Error()}}, nil
	}
	f, err := c.device.Open(d, s.name, s.size) // again, to find the part that cannot be read
	if err != nil {
		return []Difference{{Kind: Unreadable, Detail: readErr.Error(), Ranges: []ByteRange{{0, s.size}}}}, nil
	}
	defer func() { _, _ = f.Close() }() // opened for reading
	return f.diagnoseBlock(ctx, 0, readErr, w.Buf)
}

// reportDamage reports the differences in the blocks of a file.
func (c *contentsComparer) reportDamage(path string, found *damage) {
	for _, d := range found.differences() {
		d.Path = path
		c.reportDifference(d)
	}
}

// compareBlock reads block i and returns its differences, none if its checksum is want.
func (f *File) compareBlock(ctx context.Context, i int64, want uint64, buf []byte) ([]Difference, error) {
	got, err := f.Sum(i, buf)
	switch {
	case err != nil:
		return f.diagnoseBlock(ctx, i, err, buf)
	case got != want:
		return []Difference{{Kind: Content, Ranges: []ByteRange{f.blockRange(i)}}}, nil
	}
	return nil, nil
}

func (f *File) blockRange(i int64) ByteRange {
	from := i * tree.BlockSize
	return ByteRange{from, from + int64(tree.BlockLen(f.size, i))}
}

// largeFile is a file of several blocks, which are compared in any order.
type largeFile struct {
	*File
	path string
	left atomic.Int64 // blocks that are not compared yet

	mu    sync.Mutex
	found damage
}

// emitBlocks makes a task of each block of the last large file whose checksum is in r.
func (c *contentsComparer) emitBlocks(r *tree.Record) error {
	f := c.large
	if f == nil {
		return nil
	}
	for _, want := range slices.Clone(r.Sums) {
		i := c.block
		c.block++
		err := c.emit(func(ctx context.Context, w *pool.Worker) error { return c.compareLargeBlock(ctx, f, i, want, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *contentsComparer) compareLargeBlock(ctx context.Context, f *largeFile, i int64, want uint64, w *pool.Worker) error {
	found, err := f.compareBlock(ctx, i, want, w.Buf)
	if err != nil {
		return err
	}
	f.addDamage(found)
	c.progress.ReadBack(int64(tree.BlockLen(f.size, i)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	return c.finishLargeFile(f, nil)
}

// addDamage adds the differences of one block.
func (f *largeFile) addDamage(found []Difference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found.addBlock(found)
}

// finishLargeFile closes a file after its last block was read, and reports its
// differences. If want is not nil, it is the checksum of the whole file: all blocks were
// accepted, and their common checksum is compared with it.
func (c *contentsComparer) finishLargeFile(f *largeFile, want *uint64) error {
	c.mu.Lock()
	delete(c.open, f)
	c.mu.Unlock()
	sum, err := f.Close()
	if want != nil && len(f.found.spans) == 0 && sum != *want {
		f.found.addBlock([]Difference{{Kind: Content, Ranges: []ByteRange{{0, f.size}}}})
	}
	c.reportDamage(f.path, &f.found)
	c.progress.FileDone()
	return err
}

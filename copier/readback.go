package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// DeviceReader reads files from the device, not from the page cache. Package verify
// implements it, so that the code that checks a file is not the code that wrote it.
type DeviceReader interface {
	// Open opens the file called name in dir. size is its length in bytes.
	Open(dir *sys.File, name string, size int64) (BlockReader, error)
	// SumSmall reads files in dir that have at most one block, and sets Sum or Err of
	// each. It uses the buffer of the worker.
	SumSmall(ctx context.Context, dir *sys.File, files []tree.FileSum, w *pool.Worker)
}

// BlockReader reads the blocks of one file. Sum may be called in any order and from
// several goroutines. Every block must be accepted once. Accept waits, so that the
// blocks are accepted in their order.
type BlockReader interface {
	// Sum reads block i into buf and returns its XXH64. buf has tree.BlockSize bytes and
	// is aligned for direct I/O. The error is io.ErrUnexpectedEOF if the file ends within
	// the block.
	Sum(i int64, buf []byte) (uint64, error)
	// Accept adds block i, which Sum left in buf, to the sum of the file, after it has
	// waited for the blocks before.
	Accept(ctx context.Context, i int64, buf []byte) error
	// Close closes the file and returns the XXH64 of the whole file. The sum is valid if
	// all blocks were accepted.
	Close() (uint64, error)
}

func (c *copyRun) readBackBatch(ctx context.Context, b *batch, w *pool.Worker) error {
	dst, err := c.stage.openDir(b.path)
	if err != nil {
		return err
	}
	defer dst.Close()
	files := b.fileSums(&c.stage.location)
	c.ReadBack.SumSmall(ctx, dst, files, w)
	bc := batchCopier{run: c, dirs: dirPair{dst: dst}, worker: w}
	sums := sumReader{journal: c.stage.journal}
	for i := range b.entries {
		it := &b.entries[i]
		if it.Kind != tree.Regular {
			continue
		}
		found := files[0]
		files = files[1:]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		want, err := sums.sumAt(it.slot)
		if err != nil {
			return err
		}
		if err := bc.compareSmall(ctx, it, found, want); err != nil {
			return err
		}
	}
	return nil
}

// fileSums lists the regular files of the batch, with their names at a location. Their
// sums are not set yet.
func (b *batch) fileSums(at *location) (files []tree.FileSum) {
	for i := range b.entries {
		if it := &b.entries[i]; it.Kind == tree.Regular {
			files = append(files, tree.FileSum{Name: at.nameOf(it.Name), Size: it.Size})
		}
	}
	return files
}

// compareSmall compares a file on the SSD with want, its sum in the journal. It does not
// use the sum that this process remembers, because the manifest will be made from the
// journal. A file that differs is copied again.
func (b *batchCopier) compareSmall(ctx context.Context, it *PlanEntry, found tree.FileSum, want uint64) error {
	got, err := found.Sum, found.Err
	if isMissing(err) || (err == nil && got != want) {
		it.kept = false
		got, want, err = b.recopySmall(ctx, it)
	}
	if err != nil {
		return err
	}
	if got != want {
		return &DamageError{it.RelativePath(), 0, it.Size}
	}
	if it.kept {
		b.run.resumed.Add(it.Size)
	}
	b.run.Observer.ReadBack(it.Size)
	b.run.fileDone(it.begun)
	return nil
}

// isMissing reports whether an error of reading back means that the data is not there.
// Other errors mean that the device failed.
func isMissing(err error) bool { return sys.IsErrno(err, unix.ENOENT) || isTooShort(err) }

// recopySmall copies a file again, syncs it, and reads it back. It returns the sum on the
// SSD and the sum of the source.
func (b *batchCopier) recopySmall(ctx context.Context, it *PlanEntry) (got, want uint64, err error) {
	c, dst := b.run, b.dirs.dst
	src, err := c.openSourceDir(it.Path)
	if err != nil {
		return 0, 0, err
	}
	defer src.Close()
	if err := c.removeOld(ctx, dst, it.Name); err != nil {
		return 0, 0, err
	}
	p, err := c.openSmall(src, it, c.directFlag(it))
	if err != nil {
		return 0, 0, err
	}
	defer p.in.Close()
	p.again = true
	again := batchCopier{run: c, dirs: dirPair{src, dst}, worker: b.worker}
	if err := again.writeSmall(ctx, it, p); err != nil {
		return 0, 0, err
	}
	if err := c.stage.journal.replaceSum(it.slot, it.Sum); err != nil {
		return 0, 0, err
	}
	file := []tree.FileSum{{Name: c.stage.nameOf(it.Name), Size: it.Size}}
	c.ReadBack.SumSmall(ctx, dst, file, b.worker)
	return file[0].Sum, it.Sum, file[0].Err
}

package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// ReadBack opens files of the stage to be read from the device. It is the
// checker's, and knows nothing of how a file was written.
type ReadBack interface {
	// Open opens the file name in dir, which is size bytes long.
	Open(dir *sys.File, name string, size int64) (BlockReader, error)
	// SumSmall reads files of at most a block in dir, with the worker's buffer, and
	// fills in their sums or errors.
	SumSmall(ctx context.Context, dir *sys.File, files []tree.FileSum, w *pool.Worker)
}

// BlockReader reads the blocks of one file. Blocks may be read in any order and
// at once, but each has to be accepted, and acceptance goes in order.
type BlockReader interface {
	// Sum reads block i into buf, which is tree.BlockSize long and aligned, and
	// returns its XXH64. A file that is too short is io.ErrUnexpectedEOF.
	Sum(i int64, buf []byte) (uint64, error)
	// Accept adds the block that Sum left in buf to the sum of the file, after
	// waiting for the blocks before it.
	Accept(ctx context.Context, i int64, buf []byte) error
	// Close returns XXH64 of the whole file, if all blocks were accepted.
	Close() (uint64, error)
}

func (c *copying) readBackBatch(ctx context.Context, b *batch, w *pool.Worker) error {
	dst, err := c.stage.open(b.path)
	if err != nil {
		return err
	}
	defer dst.Close() //nolint:errcheck // opened for reading
	files := b.files(c.stage)
	c.ReadBack.SumSmall(ctx, dst, files, w)
	sums := sums{j: c.stage.journal}
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
		want, err := sums.of(it.slot)
		if err != nil {
			return err
		}
		if err := c.compareSmall(ctx, dst, it, found, want, w); err != nil {
			return err
		}
	}
	return nil
}

// files are those of the batch, to be summed.
func (b *batch) files(s *Stage) (files []tree.FileSum) {
	for i := range b.entries {
		if it := &b.entries[i]; it.Kind == tree.Regular {
			files = append(files, tree.FileSum{Name: s.name(it.Name), Size: it.Size})
		}
	}
	return files
}

// compareSmall compares a file with what the journal says, and not with what this
// process remembers: the manifest will be made of the journal.
func (c *copying) compareSmall(ctx context.Context, dst *sys.File, it *Item, found tree.FileSum, want uint64, w *pool.Worker) error {
	got, err := found.Sum, found.Err
	if notThere(err) || (err == nil && got != want) {
		it.kept = false
		got, want, err = c.copyAgain(ctx, dst, it, w)
	}
	if err != nil {
		return err
	}
	if got != want {
		return &DamageError{it.Below(), 0, it.Size}
	}
	if it.kept {
		c.resumed.Add(it.Size)
	}
	c.Observer.ReadBack(it.Size)
	c.fileDone(it.begun)
	return nil
}

// notThere reports the errors of reading back that mean the block is not there,
// rather than that the device fails.
func notThere(err error) bool { return sys.Is(err, unix.ENOENT) || isShort(err) }

// copyAgain copies a small file once more, syncs it, and reads it back.
func (c *copying) copyAgain(ctx context.Context, dst *sys.File, it *Item, w *pool.Worker) (got, want uint64, err error) {
	src, err := c.openSourceDir(it.Path)
	if err != nil {
		return 0, 0, err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	if err := c.unlinkOld(ctx, dst, it.Name); err != nil {
		return 0, 0, err
	}
	if err := c.openAndCopy(ctx, src, dst, it, w, true); err != nil {
		return 0, 0, err
	}
	if err := c.stage.journal.putAgain(it.slot, it.Sum); err != nil {
		return 0, 0, err
	}
	file := []tree.FileSum{{Name: c.stage.name(it.Name), Size: it.Size}}
	c.ReadBack.SumSmall(ctx, dst, file, w)
	return file[0].Sum, it.Sum, file[0].Err
}

package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// batchCopier copies the entries of one batch: symbolic links, and files of at most one
// block. It belongs to one worker.
type batchCopier struct {
	run    *copyRun
	dirs   dirPair
	worker *pool.Worker
	sums   sumWriter
}

// copyBatch copies the entries of a batch. Even if it fails, the journal gets the sums of the
// files that it has copied.
func (c *copyRun) copyBatch(ctx context.Context, b *batch, w *pool.Worker) error {
	dirs, err := c.openDirPair(b.path)
	if err != nil {
		return err
	}
	defer dirs.closeBoth()
	bc := batchCopier{run: c, dirs: dirs, worker: w, sums: sumWriter{journal: c.stage.journal}}
	err = bc.copyEntries(ctx, b.entries)
	return firstError(err, bc.sums.flush())
}

func (b *batchCopier) copyEntries(ctx context.Context, entries []PlanEntry) error {
	for len(entries) > 0 {
		n, err := b.copyGroup(ctx, entries)
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// copyGroup copies the first n of the entries, at least one, after it has read most of
// them with one call.
func (b *batchCopier) copyGroup(ctx context.Context, entries []PlanEntry) (n int, err error) {
	group, err := b.openGroup(entries)
	defer group.closeFiles()
	if err != nil {
		return 0, err
	}
	for _, i := range group.copyOrder() {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err := b.copyEntry(ctx, &group.entries[i], group.pairs[i]); err != nil {
			return 0, err
		}
		group.closeFile(i)
	}
	return len(group.entries), nil
}

func (b *batchCopier) copyEntry(ctx context.Context, it *PlanEntry, p *filePair) error {
	if it.Kind == tree.Symlink {
		return b.makeSymlink(ctx, it)
	}
	if err := b.copySmall(ctx, it, p); err != nil {
		return err
	}
	return b.sums.addSum(it.slot, it.Sum)
}

// copySmall copies a file of at most one block, unless an interrupted copy has left it. p
// is its source if that is open, otherwise nil.
func (b *batchCopier) copySmall(ctx context.Context, it *PlanEntry, p *filePair) error {
	if b.run.stage.Resumed {
		kept, err := b.keepSmall(it)
		if kept || err != nil {
			return err
		}
		if err := b.run.removeOld(ctx, b.dirs.dst, it.Name); err != nil {
			return err
		}
	}
	if p != nil {
		return b.writeSmall(ctx, it, p)
	}
	p, err := b.run.openSmall(b.dirs.src, it, b.run.directFlag(it))
	if err != nil {
		return err
	}
	defer p.in.Close()
	return b.writeSmall(ctx, it, p)
}

// directFlag returns unix.O_DIRECT if a file of at most one block should be opened with
// it, otherwise 0.
func (c *copyRun) directFlag(it *PlanEntry) int {
	if c.Engine == Direct || (c.Engine != Buffered && it.Size >= directFrom) {
		return unix.O_DIRECT
	}
	return 0
}

// openSmall opens the source of a file of at most one block. The caller must close it.
func (c *copyRun) openSmall(src *sys.File, it *PlanEntry, directFlag int) (*filePair, error) {
	if it.begun.IsZero() {
		it.begun = c.timerStart()
	}
	p := &filePair{path: it.RelativePath(), size: it.Size, sparse: it.IsSparse()}
	var err error
	if p.in, err = c.openSourceFile(src, c.src.nameOf(it.Name), directFlag); err != nil {
		return nil, sourceError(p.path, err)
	}
	if err := c.checkSource(p, it); err != nil {
		p.in.Close()
		return nil, err
	}
	return p, nil
}

// keepSmall reports whether an interrupted copy has left the file. Its contents will be
// read back as those of all files. Its metadata is set again, because a power cut can lose
// it.
func (b *batchCopier) keepSmall(it *PlanEntry) (kept bool, err error) {
	sum, err := b.run.stage.journal.sumAt(it.slot)
	if err != nil || sum == 0 {
		return false, err
	}
	f, err := b.dirs.dst.OpenAt(b.run.stage.nameOf(it.Name), unix.O_RDONLY, 0)
	if sys.IsErrno(err, unix.ENOENT, unix.EACCES, unix.ELOOP, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	kept, err = b.sealKept(f, it)
	if err := firstError(err, f.Close()); err != nil || !kept {
		return false, err
	}
	it.kept, it.Sum = true, sum
	b.run.Observer.Copied(it.Size)
	return true, nil
}

// sealKept reports whether f has the type and the length of the file, and sets its metadata.
func (b *batchCopier) sealKept(f *sys.File, it *PlanEntry) (kept bool, err error) {
	s, err := f.Stat()
	if err != nil || !s.IsRegular() || s.Size != it.Size {
		return false, err
	}
	if err := b.run.setMetadata(b.dirs, f, it, creationDefaults{}); err != nil {
		return false, err
	}
	if b.run.syncEach {
		return true, f.Sync()
	}
	return true, nil
}

// removeOld removes the entry of an earlier attempt, if there is one.
func (c *copyRun) removeOld(ctx context.Context, dst *sys.File, planned string) error {
	return tree.RemoveTree(ctx, dst, c.stage.nameOf(planned), 1)
}

// writeSmall creates the copy of a file of at most one block, with its contents and its
// metadata. The source is open. The sum is left in the item.
func (b *batchCopier) writeSmall(ctx context.Context, it *PlanEntry, p *filePair) (err error) {
	c := b.run
	mode, _ := c.defaults.createMode(it)
	p.out, err = openFile(b.dirs.dst, c.stage.nameOf(it.Name), createNew|c.directFlag(it), mode)
	if err != nil {
		return err
	}
	p.out.RateLimiter, p.out.Request = c.RateLimit, c.MaxRequest
	err = b.fillSmall(ctx, it, p)
	if err := firstError(err, p.out.Close()); err != nil {
		return err
	}
	c.countFile(p, p.size)
	c.moved.Add(p.size)
	c.Observer.Copied(p.size)
	return nil
}

// fillSmall gives the new copy its contents and its metadata, and syncs it if it is synced
// by itself.
func (b *batchCopier) fillSmall(ctx context.Context, it *PlanEntry, p *filePair) (err error) {
	c := b.run
	if it.Sum, err = b.copyContents(ctx, p); err != nil {
		return err
	}
	if err := c.setMetadata(b.dirs, p.out, it, c.defaults); err != nil {
		return err
	}
	if p.again || c.syncEach {
		return c.timedSync(p.out.Sync)
	}
	return nil
}

func (b *batchCopier) copyContents(ctx context.Context, p *filePair) (sum uint64, err error) {
	c := b.run
	if err := c.prepareCopy(p); err != nil {
		return 0, err
	}
	if p.contents != nil {
		return c.copyBlock(ctx, p, 0, p.contents, byEngine)
	}
	err = c.readLeavingCache(p.in, 0, p.size, func() error {
		sum, err = c.copyBlock(ctx, p, 0, b.worker.Buf, byEngine)
		return err
	})
	return sum, err
}

package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// copyBatch copies some files and symbolic links of one directory, and records the
// sums of those that it has copied also if it does not come to the others.
func (c *copying) copyBatch(ctx context.Context, b *batch, w *pool.Worker) (err error) {
	sums := run{j: c.stage.journal}
	defer func() {
		if put := sums.flush(); err == nil {
			err = put
		}
	}()
	src, err := c.openSourceDir(b.path)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	dst, err := c.stage.open(b.path)
	if err != nil {
		return err
	}
	defer dst.Close() //nolint:errcheck // opened for reading
	for entries := b.entries; len(entries) > 0; {
		some, err := c.readAhead(src, entries, w)
		if err == nil {
			err = c.copySome(ctx, src, dst, &some, &sums, w)
		}
		some.close()
		if err != nil {
			return err
		}
		entries = entries[len(some.entries):]
	}
	return nil
}

// copySome copies entries of which most files are read already.
func (c *copying) copySome(ctx context.Context, src, dst *sys.File, s *some, sums *run, w *pool.Worker) (err error) {
	for _, i := range s.inOrder() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		it := &s.entries[i]
		if it.Kind == tree.Symlink {
			err = c.symlink(ctx, src, dst, it)
		} else if err = c.copySmall(ctx, src, dst, it, s.pairs[i], w); err == nil {
			err = sums.put(it.slot, it.Sum)
		}
		s.closeOne(i)
		if err != nil {
			return err
		}
	}
	return nil
}

// copySmall copies a file of at most a block, unless it was kept. p is its source if
// that is open.
func (c *copying) copySmall(ctx context.Context, src, dst *sys.File, it *Item, p *pair, w *pool.Worker) error {
	if c.stage.Resumed {
		kept, err := c.keepSmall(src, dst, it)
		if kept || err != nil {
			return err
		}
		if err := c.unlinkOld(ctx, dst, it.Name); err != nil {
			return err
		}
	}
	if p != nil {
		return c.smallFile(ctx, src, dst, it, p, w, c.syncEach)
	}
	return c.openAndCopy(ctx, src, dst, it, w, false)
}

// openAndCopy is smallFile of a source that is not open; again says that the file did
// not read back as it should: it is synced at once.
func (c *copying) openAndCopy(ctx context.Context, src, dst *sys.File, it *Item, w *pool.Worker, again bool) error {
	p, err := c.openSmall(src, it, c.smallDirect(it))
	if err != nil {
		return err
	}
	defer p.in.Close() //nolint:errcheck // opened for reading
	p.again = again
	return c.smallFile(ctx, src, dst, it, p, w, again || c.syncEach)
}

// smallDirect says whether to try O_DIRECT for a file of at most a block.
func (c *copying) smallDirect(it *Item) bool {
	return c.Engine == Direct || (c.Engine != Buffered && it.Size >= directFrom)
}

// openSmall opens the source of a file of at most a block. It is for the caller to
// close.
func (c *copying) openSmall(src *sys.File, it *Item, direct bool) (*pair, error) {
	if it.begun.IsZero() {
		it.begun = c.now()
	}
	p := &pair{path: it.Below(), size: it.Size, sparse: it.Sparse()}
	var err error
	if p.in, err = c.openSource(src, c.src.name(it.Name), direct); err != nil {
		return nil, sourceError(p.path, err)
	}
	if err := c.checkSource(p, it); err != nil {
		p.in.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return p, nil
}

// keepSmall reports whether the file was copied by the copy that was interrupted.
// Its contents are read back like all others; its metadata is set again, because
// a power cut can lose it.
func (c *copying) keepSmall(src, dst *sys.File, it *Item) (kept bool, err error) {
	sum, err := c.stage.journal.get(it.slot)
	if err != nil || sum == 0 {
		return false, err
	}
	f, err := dst.OpenAt(c.stage.name(it.Name), unix.O_RDONLY, 0)
	if sys.Is(err, unix.ENOENT, unix.EACCES, unix.ELOOP, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s, err := f.Stat()
	if err == nil && (!s.IsRegular() || s.Size != it.Size) {
		return false, f.Close()
	}
	if err == nil {
		err = c.setMeta(src, dst, f, it, birth{})
	}
	if err == nil && c.syncEach {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	it.kept, it.Sum = true, sum
	c.Observer.Copied(it.Size)
	return true, err
}

// unlinkOld removes what an earlier attempt left under the name.
func (c *copying) unlinkOld(ctx context.Context, dst *sys.File, planned string) error {
	return tree.Remove(ctx, dst, c.stage.name(planned), 1)
}

// smallFile makes the copy of a file of at most a block, whose source is open, with
// its metadata, and leaves its sum in the item.
func (c *copying) smallFile(ctx context.Context, src, dst *sys.File, it *Item, p *pair, w *pool.Worker, sync bool) (err error) {
	mode, _ := c.born.mode(it)
	if c.smallDirect(it) {
		p.out, err = openDirect(dst, c.stage.name(it.Name), createNew, mode)
	} else {
		p.out, err = dst.OpenAt(c.stage.name(it.Name), createNew, mode)
	}
	if err != nil {
		return err
	}
	p.out.Pace, p.out.Request = c.Pace, c.Request
	it.Sum, err = c.smallContents(ctx, p, w)
	if err == nil {
		err = c.setMeta(src, dst, p.out, it, c.born)
	}
	if err == nil && sync {
		err = c.synced(p.out.Sync)
	}
	if closed := p.out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	c.count(p, p.size)
	c.moved.Add(p.size)
	c.Observer.Copied(p.size)
	return nil
}

func (c *copying) smallContents(ctx context.Context, p *pair, w *pool.Worker) (sum uint64, err error) {
	if err := c.prepare(p); err != nil {
		return 0, err
	}
	if p.ready != nil {
		return c.copyBlock(ctx, p, 0, p.ready, false)
	}
	err = c.uncached(p.in, 0, p.size, func() error {
		sum, err = c.copyBlock(ctx, p, 0, w.Buf, false)
		return err
	})
	return sum, err
}

// checkSource compares the open source with the plan.
func (c *copying) checkSource(p *pair, it *Item) error {
	s, err := p.in.Stat()
	if err != nil {
		return err
	}
	if err := same(it, &s); err != nil {
		return err
	}
	p.dev = s.Dev
	return dropDirect(p.in, &s)
}

// openSourceDir opens a directory of the source.
func (c *copying) openSourceDir(path string) (*sys.File, error) {
	d, err := c.src.open(path)
	if err != nil {
		return nil, sourceError(path, err)
	}
	return d, nil
}

// sourceError tells a source that has changed from one that cannot be read.
func sourceError(path string, err error) error {
	switch {
	case sys.Is(err, unix.ENOENT):
		return changed(path, "it is gone")
	case sys.Is(err, unix.ELOOP, unix.ENOTDIR, unix.ENXIO):
		return changed(path, "it is of another type now")
	}
	return err
}

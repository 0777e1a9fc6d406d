package copier

import (
	"context"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// smallFiles hands out the files of at most a block, and the symbolic links, a
// batch of one directory to a worker at a time: everything is relative to two
// open directories, and no two workers make names in one directory for long.
//
// They go in rounds: while one round is copied, the one before is synced, and
// then read back, which drops it from the page cache. So there are never more
// than two rounds of them in it.
func (c *copying) smallFiles(ctx context.Context, emit func(pool.Task) error) error {
	s := &smallRounds{c: c, ctx: ctx, emit: emit, copying: newRound()}
	defer s.waitForSync() //nolint:errcheck // after an error; otherwise it was waited for
	want := func(it *Item) bool {
		return it.Kind == tree.Symlink || it.Kind == tree.Regular && tree.Blocks(it.Size) <= 1
	}
	if err := c.plan.batches(ctx, want, s.add); err != nil {
		return err
	}
	if err := s.turn(); err != nil {
		return err
	}
	return s.readBackSynced()
}

// smallRounds is the state of smallFiles.
type smallRounds struct {
	c       *copying
	ctx     context.Context
	emit    func(pool.Task) error
	copying *round
	syncing *round // copied; nil at first
}

// round is some batches that are synced together.
type round struct {
	batches []*batch
	bytes   int64
	entries int
	left    atomic.Int64  // tasks not done, and one for the producer
	copied  chan struct{} // closed with the last task
	synced  chan error
}

// One round is this much, in bytes and in entries. The memory of a round is some
// 250 bytes an entry.
const (
	roundBytes   = 256 << 20
	roundEntries = 16384
)

func newRound() *round {
	r := &round{copied: make(chan struct{}), synced: make(chan error, 1)}
	r.left.Store(1)
	return r
}

func (r *round) done() {
	if r.left.Add(-1) == 0 {
		close(r.copied)
	}
}

// add has a batch copied in the round under way.
func (s *smallRounds) add(b *batch) error {
	r := s.copying
	r.batches, r.bytes, r.entries = append(r.batches, b), r.bytes+b.bytes, r.entries+len(b.entries)
	r.left.Add(1)
	err := s.emit(func(ctx context.Context, w *pool.Worker) error {
		defer r.done()
		return s.c.copyBatch(ctx, b, w)
	})
	if err != nil || (r.bytes < roundBytes && r.entries < roundEntries) {
		return err
	}
	return s.turn()
}

// turn has the round before read back, and the one under way synced.
func (s *smallRounds) turn() error {
	if err := s.readBackSynced(); err != nil {
		return err
	}
	r := s.copying
	r.done()
	select {
	case <-r.copied:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	s.copying, s.syncing = newRound(), r
	go func() { r.synced <- s.c.syncSmall() }()
	return nil
}

func (s *smallRounds) waitForSync() (*round, error) {
	r := s.syncing
	if r == nil {
		return nil, nil
	}
	s.syncing = nil
	return r, <-r.synced
}

func (s *smallRounds) readBackSynced() error {
	r, err := s.waitForSync()
	if r == nil || err != nil {
		return err
	}
	for _, b := range r.batches {
		err := s.emit(func(ctx context.Context, w *pool.Worker) error { return s.c.readBackBatch(ctx, b, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) copyBatch(ctx context.Context, b *batch, w *pool.Worker) error {
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
	for i := range b.entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		it := &b.entries[i]
		if it.Kind == tree.Symlink {
			err = c.symlink(src, dst, it)
		} else {
			err = c.copySmall(src, dst, it, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copySmall copies a file of at most a block, unless it was kept.
func (c *copying) copySmall(src, dst *sys.File, it *Item, w *pool.Worker) error {
	if c.stage.Resumed {
		kept, err := c.keepSmall(src, dst, it)
		if kept || err != nil {
			return err
		}
		if err := c.unlinkOld(dst, it.Name); err != nil {
			return err
		}
	}
	_, err := c.smallFile(src, dst, it, w, c.syncEach)
	return err
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
	if sys.Is(err, unix.ENOENT, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s, err := f.Stat()
	if err == nil && s.Size != it.Size {
		return false, f.Close()
	}
	if err == nil {
		err = c.setMeta(src, dst, f, it)
	}
	if err == nil && c.syncEach {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	it.kept = true
	c.Observer.Copied(it.Size)
	return true, err
}

// unlinkOld removes what an earlier attempt left under the name.
func (c *copying) unlinkOld(dst *sys.File, planned string) error {
	return dst.UnlinkIfThere(c.stage.name(planned))
}

// smallFile makes the copy of a file of at most a block, with its metadata, and
// then records its sum.
func (c *copying) smallFile(src, dst *sys.File, it *Item, w *pool.Worker, sync bool) (sum uint64, err error) {
	direct := c.Engine == Direct || (c.Engine != Buffered && it.Size >= directFrom)
	p := &pair{path: it.Below(), size: it.Size, sparse: it.Sparse()}
	if p.in, err = c.openSource(src, c.src.name(it.Name), direct); err != nil {
		return 0, sourceError(p.path, err)
	}
	defer p.in.Close() //nolint:errcheck // opened for reading
	if err := c.checkSource(p, it); err != nil {
		return 0, err
	}
	if direct {
		p.out, err = openDirect(dst, c.stage.name(it.Name), createNew, 0o600)
	} else {
		p.out, err = dst.OpenAt(c.stage.name(it.Name), createNew, 0o600)
	}
	if err != nil {
		return 0, err
	}
	sum, err = c.smallContents(p, w)
	if err == nil {
		err = c.setMeta(src, dst, p.out, it)
	}
	if err == nil && sync {
		err = p.out.Sync()
	}
	if closed := p.out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return 0, err
	}
	c.count(p.did(), p.size)
	c.Observer.Copied(p.size)
	return sum, c.stage.journal.put(it.slot, sum)
}

func (c *copying) smallContents(p *pair, w *pool.Worker) (sum uint64, err error) {
	if err := c.prepare(p); err != nil {
		return 0, err
	}
	err = c.uncached(p.in, 0, p.size, func() error {
		sum, err = c.copyBlock(p, 0, w.Buf, false)
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

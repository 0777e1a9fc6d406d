package copier

import (
	"context"
	"sync/atomic"

	"shard_to_ssd/internal/pool"
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
	left    atomic.Int64  // tasks not done well, and one for the producer
	copied  chan struct{} // closed with the last task
	synced  chan error
}

// One round is this much, in bytes and in entries. The memory of a round is some
// 250 bytes an entry.
const (
	roundBytes   = 256 << 20
	roundEntries = 16384
	// pacedRoundBytes is a round of a copy with a Pace: the kernel writes it back as
	// fast as the device can.
	pacedRoundBytes = 8 << 20
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
		err := s.c.copyBatch(ctx, b, w)
		if err == nil { // otherwise the round is never copied, and nothing of it read back
			r.done()
		}
		return err
	})
	full := int64(roundBytes)
	if s.c.Pace != nil {
		full = pacedRoundBytes
	}
	if err != nil || (r.bytes < full && r.entries < roundEntries) {
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

package copier

import (
	"context"
	"sync/atomic"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/tree"
)

// smallFiles emits the tasks that copy the symbolic links and the files of at most one
// block. A task is a batch of one directory: it needs only two open directories, and two
// workers seldom create names in the same directory.
//
// The files go in rounds. While one round is copied, the round before it is synced and
// then read back, which drops it from the page cache. Therefore the page cache holds at
// most two rounds.
func (c *copyRun) smallFiles(ctx context.Context, emit func(pool.Task) error) error {
	s := &smallRounds{run: c, ctx: ctx, emit: emit, current: newRound()}
	defer func() { _, _ = s.waitForSync() }() // for a sync that an error above leaves running
	match := func(it *PlanEntry) bool {
		return it.Kind == tree.Symlink || it.Kind == tree.Regular && tree.BlockCount(it.Size) <= 1
	}
	if err := c.plan.eachBatch(ctx, match, s.addBatch); err != nil {
		return err
	}
	if err := s.startNextRound(); err != nil {
		return err
	}
	return s.readBackSynced()
}

// smallRounds is the state of smallFiles.
type smallRounds struct {
	run     *copyRun
	ctx     context.Context
	emit    func(pool.Task) error
	current *round // being copied
	syncing *round // copied and being synced; nil at first
}

// round is a number of batches that are synced together.
type round struct {
	batches []*batch
	bytes   int64
	entries int
	left    atomic.Int64  // tasks that have not succeeded, and one for the producer
	copied  chan struct{} // closed when left is 0
	synced  chan error
}

// A round ends at this many bytes or entries. An entry takes about 250 bytes of memory.
const (
	roundBytes   = 256 << 20
	roundEntries = 16384
	// pacedRoundBytes is the size of a round in a copy with a RateLimit. The kernel writes a
	// round back at the full speed of the device, so a small one keeps the bursts short.
	pacedRoundBytes = 8 << 20
)

func newRound() *round {
	r := &round{copied: make(chan struct{}), synced: make(chan error, 1)}
	r.left.Store(1)
	return r
}

func (r *round) taskDone() {
	if r.left.Add(-1) == 0 {
		close(r.copied)
	}
}

// addBatch emits the task that copies a batch, and starts the next round if the
// current one is full.
func (s *smallRounds) addBatch(b *batch) error {
	r := s.current
	r.batches, r.bytes, r.entries = append(r.batches, b), r.bytes+b.bytes, r.entries+len(b.entries)
	r.left.Add(1)
	err := s.emit(func(ctx context.Context, w *pool.Worker) error {
		if err := s.run.copyBatch(ctx, b, w); err != nil {
			return err // left never becomes 0, so that no part of the round is read back
		}
		r.taskDone()
		return nil
	})
	full := int64(roundBytes)
	if s.run.RateLimit != nil {
		full = pacedRoundBytes
	}
	if err != nil || (r.bytes < full && r.entries < roundEntries) {
		return err
	}
	return s.startNextRound()
}

// startNextRound emits the reading back of the round before, waits until the current
// round is copied, and starts to sync it.
func (s *smallRounds) startNextRound() error {
	if err := s.readBackSynced(); err != nil {
		return err
	}
	r := s.current
	r.taskDone()
	select {
	case <-r.copied:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	s.current, s.syncing = newRound(), r
	go func() { r.synced <- s.run.syncSmallFiles() }()
	return nil
}

// waitForSync waits for the round that is being synced and returns it, or nil if no
// round is being synced.
func (s *smallRounds) waitForSync() (*round, error) {
	r := s.syncing
	if r == nil {
		return nil, nil
	}
	s.syncing = nil
	return r, <-r.synced
}

// readBackSynced emits the tasks that read back the round that is being synced.
func (s *smallRounds) readBackSynced() error {
	r, err := s.waitForSync()
	if r == nil || err != nil {
		return err
	}
	for _, b := range r.batches {
		err := s.emit(func(ctx context.Context, w *pool.Worker) error { return s.run.readBackBatch(ctx, b, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

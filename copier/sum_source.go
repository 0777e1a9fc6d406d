package copier

import (
	"context"
	"sync"
	"sync/atomic"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/tree"
)

// SumSource reads all files of the plan's source and copies nothing. It returns a stage whose
// files are those of the source, and whose SumSource and BlockSums have their sums. The sums are
// in the journal of the state dir, which replaces an older one. The caller must close the
// stage and delete the journal. The errors are those of the source's device.
func (p *Plan) SumSource(ctx context.Context, o Options) (*Stage, error) {
	if err := RemoveJournal(ctx, p.state); err != nil {
		return nil, err
	}
	workers, err := pool.New(o.Jobs)
	if err != nil {
		return nil, err
	}
	defer func() { _ = workers.Close() }() // it frees only memory
	s := &Stage{location: p.src.location, state: p.state}
	if s.journal, err = newJournal(p.state, p.sum); err != nil {
		return nil, err
	}
	run := &sumRun{Options: o.withDefaults(), plan: p, stage: s, open: newOpenSums()}
	err = workers.Run(ctx, run.sumSmallFiles, run.sumLargeFiles)
	if err := firstError(err, run.open.closeAll()); err != nil {
		_ = s.Close() // the sums are incomplete
		return nil, err
	}
	return s, nil
}

// sumRun is one run of Plan.SumSource.
type sumRun struct {
	Options
	plan  *Plan
	stage *Stage
	open  *openSums
}

func (s *sumRun) sumSmallFiles(ctx context.Context, emit func(pool.Task) error) error {
	match := func(it *PlanEntry) bool { return it.Kind == tree.Regular && tree.BlockCount(it.Size) <= 1 }
	return s.plan.eachBatch(ctx, match, func(b *batch) error {
		return emit(func(ctx context.Context, w *pool.Worker) error { return s.sumBatch(ctx, b, w) })
	})
}

func (s *sumRun) sumBatch(ctx context.Context, b *batch, w *pool.Worker) error {
	d, err := s.stage.openDir(b.path)
	if err != nil {
		return err
	}
	defer d.Close()
	files := b.fileSums(&s.stage.location)
	s.ReadBack.SumSmall(ctx, d, files, w)
	for i := range files {
		if files[i].Err != nil {
			return files[i].Err
		}
		if err := s.stage.journal.putSum(b.entries[i].slot, files[i].Sum); err != nil {
			return err
		}
		s.Observer.ReadBack(files[i].Size)
		s.Observer.FileDone()
	}
	return nil
}

// largeSum is a file of several blocks whose sums are being computed.
type largeSum struct {
	BlockReader
	item PlanEntry
	left atomic.Int64 // blocks
}

func (s *sumRun) sumLargeFiles(ctx context.Context, emit func(pool.Task) error) error {
	return s.plan.EachEntry(ctx, func(it *PlanEntry) error {
		blocks := tree.BlockCount(it.Size)
		if it.Kind != tree.Regular || blocks < 2 {
			return nil
		}
		f, err := s.openLargeSum(it)
		if err != nil {
			return err
		}
		f.left.Store(blocks)
		for b := range blocks {
			if err := emit(func(ctx context.Context, w *pool.Worker) error { return s.sumBlock(ctx, f, b, w) }); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *sumRun) openLargeSum(it *PlanEntry) (*largeSum, error) {
	d, err := s.stage.openDir(it.Path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	r, err := s.ReadBack.Open(d, s.stage.nameOf(it.Name), it.Size)
	if err != nil {
		return nil, err
	}
	f := &largeSum{BlockReader: r, item: *it}
	s.open.addFile(f)
	return f, nil
}

func (s *sumRun) sumBlock(ctx context.Context, f *largeSum, b int64, w *pool.Worker) error {
	sum, err := f.Sum(b, w.Buf)
	if err != nil {
		return err
	}
	if err := f.Accept(ctx, b, w.Buf); err != nil {
		return err
	}
	if err := s.stage.journal.putSum(f.item.slot+b, sum); err != nil {
		return err
	}
	s.Observer.ReadBack(int64(tree.BlockLen(f.item.Size, b)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	return s.finishFile(f)
}

func (s *sumRun) finishFile(f *largeSum) error {
	s.open.dropFile(f)
	whole, err := f.Close()
	if err != nil {
		return err
	}
	s.Observer.FileDone()
	return s.stage.journal.putSum(f.item.slot+tree.BlockCount(f.item.Size), whole)
}

// openSums is the set of large files that are open. After a failure they are all closed.
type openSums struct {
	mu    sync.Mutex
	files map[*largeSum]bool
}

func newOpenSums() *openSums { return &openSums{files: map[*largeSum]bool{}} }

func (o *openSums) addFile(f *largeSum) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[f] = true
}

func (o *openSums) dropFile(f *largeSum) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.files, f)
}

// closeAll closes the files after the run has ended.
func (o *openSums) closeAll() (err error) {
	for f := range o.files {
		_, closeErr := f.Close()
		err = firstError(err, closeErr)
	}
	return err
}

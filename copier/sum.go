package copier

import (
	"context"
	"sync"
	"sync/atomic"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// SourceAt is a source in an open directory: the directory or regular file called
// name, which is no symbolic link. Close it.
func SourceAt(in *sys.File, name string) (*Source, error) {
	s := &Source{Path: in.Path() + "/" + name}
	var err error
	if s.Stat, err = in.StatAt(name); err != nil {
		return nil, err
	}
	if s.Stat.IsDir() {
		s.base, err = in.OpenDirAt(name)
	} else {
		s.file = name
		s.base, err = in.OpenBelow("")
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Sum reads what the plan's source holds, and copies nothing: the stage that it
// returns has the sums, and is where the source is. It takes the place of the journal
// in the state dir. Close it, and drop the journal.
func (p *Plan) Sum(ctx context.Context, o Options) (*Stage, error) {
	if err := DropJournal(ctx, p.state); err != nil {
		return nil, err
	}
	workers, err := pool.New(o.Jobs)
	if err != nil {
		return nil, err
	}
	defer workers.Close() //nolint:errcheck // only memory
	s := &Stage{side: p.src.side, state: p.state}
	if s.journal, err = newJournal(p.state, p.sum); err != nil {
		return nil, err
	}
	sum := &summing{Options: o, plan: p, stage: s, open: newOpenSums()}
	err = workers.Run(ctx, sum.small, sum.large)
	if closed := sum.open.closeAll(); err == nil {
		err = closed
	}
	if err != nil {
		s.Close() //nolint:errcheck // after a failure
		return nil, err
	}
	return s, nil
}

// summing is one run of Sum.
type summing struct {
	Options
	plan  *Plan
	stage *Stage
	open  *openSums
}

func (s *summing) small(ctx context.Context, emit func(pool.Task) error) error {
	want := func(it *Item) bool { return it.Kind == tree.Regular && tree.Blocks(it.Size) <= 1 }
	return s.plan.batches(ctx, want, func(b *batch) error {
		return emit(func(ctx context.Context, w *pool.Worker) error { return s.batch(ctx, b, w) })
	})
}

func (s *summing) batch(ctx context.Context, b *batch, w *pool.Worker) error {
	d, err := s.stage.open(b.path)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	files := b.files(s.stage)
	s.ReadBack.SumSmall(ctx, d, files, w)
	for i := range files {
		if files[i].Err != nil {
			return files[i].Err
		}
		if err := s.stage.journal.put(b.entries[i].slot, files[i].Sum); err != nil {
			return err
		}
		s.Observer.ReadBack(files[i].Size)
		s.Observer.FileDone()
	}
	return nil
}

// largeSum is a file of several blocks being summed.
type largeSum struct {
	BlockReader
	item Item
	left atomic.Int64 // blocks
}

func (s *summing) large(ctx context.Context, emit func(pool.Task) error) error {
	return s.plan.Each(ctx, func(it *Item) error {
		blocks := tree.Blocks(it.Size)
		if it.Kind != tree.Regular || blocks < 2 {
			return nil
		}
		f, err := s.openLarge(it)
		if err != nil {
			return err
		}
		f.left.Store(blocks)
		for b := range blocks {
			if err := emit(func(ctx context.Context, w *pool.Worker) error { return s.block(ctx, f, b, w) }); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *summing) openLarge(it *Item) (*largeSum, error) {
	d, err := s.stage.open(it.Path)
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	r, err := s.ReadBack.Open(d, s.stage.name(it.Name), it.Size)
	if err != nil {
		return nil, err
	}
	f := &largeSum{BlockReader: r, item: *it}
	s.open.add(f)
	return f, nil
}

func (s *summing) block(ctx context.Context, f *largeSum, b int64, w *pool.Worker) error {
	sum, err := f.Sum(b, w.Buf)
	if err == nil {
		err = f.Accept(ctx, b, w.Buf)
	}
	if err == nil {
		err = s.stage.journal.put(f.item.slot+b, sum)
	}
	if err != nil {
		return err
	}
	s.Observer.ReadBack(int64(tree.BlockLen(f.item.Size, b)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	s.open.drop(f)
	whole, err := f.Close()
	if err != nil {
		return err
	}
	s.Observer.FileDone()
	return s.stage.journal.put(f.item.slot+tree.Blocks(f.item.Size), whole)
}

// openSums are the files that are being summed, so that none stays open after a
// failure.
type openSums struct {
	mu    sync.Mutex
	files map[*largeSum]bool
}

func newOpenSums() *openSums { return &openSums{files: map[*largeSum]bool{}} }

func (o *openSums) add(f *largeSum) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[f] = true
}

func (o *openSums) drop(f *largeSum) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.files, f)
}

func (o *openSums) closeAll() (err error) {
	for f := range o.files {
		if _, closed := f.Close(); err == nil {
			err = closed
		}
	}
	return err
}

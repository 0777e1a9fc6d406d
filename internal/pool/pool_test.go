package pool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"shard_to_ssd/internal/sys"
)

func newPool(t *testing.T, jobs int) *Pool {
	t.Helper()
	p, err := New(jobs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// emitN returns a producer that emits task n times.
func emitN(n int, task Task) Producer {
	return func(_ context.Context, emit func(Task) error) error {
		for range n {
			if err := emit(task); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestEveryTaskRunsOnceWithABufferOfItsOwn(t *testing.T) {
	p := newPool(t, 4)
	var ran atomic.Int64
	var mu sync.Mutex
	inUse := map[*byte]bool{}
	task := func(_ context.Context, w *Worker) error {
		ran.Add(1)
		mu.Lock()
		if inUse[&w.Buf[0]] {
			t.Error("two tasks use the same buffer at a time")
		}
		inUse[&w.Buf[0]] = true
		mu.Unlock()
		mu.Lock()
		delete(inUse, &w.Buf[0])
		mu.Unlock()
		return nil
	}
	for range 2 { // a pool can run again
		if err := p.Run(t.Context(), emitN(100, task), emitN(50, task)); err != nil {
			t.Fatal(err)
		}
	}
	if ran.Load() != 300 {
		t.Errorf("ran %d tasks, want 300", ran.Load())
	}
}

func TestFirstErrorEndsTheRun(t *testing.T) {
	p := newPool(t, 4)
	broken := errors.New("broken")
	err := p.Run(t.Context(), emitN(1, func(context.Context, *Worker) error { return broken }),
		func(ctx context.Context, emit func(Task) error) error {
			for { // until the run ends
				if err := emit(func(context.Context, *Worker) error { return nil }); err != nil {
					return err
				}
			}
		})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestNoTaskBeginsAfterTheEnd(t *testing.T) {
	p := newPool(t, 1)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	var after atomic.Int64
	first := true
	err := p.Run(ctx, emitN(10, func(context.Context, *Worker) error {
		if !first {
			after.Add(1)
		}
		first = false
		cancel(why)
		return nil
	}))
	if !errors.Is(err, why) || after.Load() != 0 {
		t.Errorf("got %v and %d tasks after the end, want %v and none", err, after.Load(), why)
	}
}

func TestDefault(t *testing.T) {
	for _, c := range []struct{ cpus, depth, want int }{{1, 0, 8}, {2, 0, 16}, {64, 256, 16}, {64, 8, 8}, {4, 1, 4}} {
		if got := DefaultWorkers(c.cpus, c.depth); got != c.want {
			t.Errorf("%d CPUs, depth %d: got %d workers, want %d", c.cpus, c.depth, got, c.want)
		}
	}
}

// A batch takes longer to tear down than it saves for a few small files.
func TestBatchOnlyAfterManyFiles(t *testing.T) {
	p := newPool(t, 2)
	for range sys.BatchAfter / 2 {
		if p.workers[0].Batch() != nil || p.workers[1].Batch() != nil {
			t.Fatal("got a batch for the first files, want nil")
		}
	}
	if p.workers[0].Batch() == nil {
		t.Fatal("got no batch after many files")
	}
}

// Package pool runs tasks with a fixed number of workers, each with a buffer of
// its own. Memory is workers × tree.BlockSize, less where huge pages of a buffer are
// never filled.
package pool

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// Default is how many workers there are unless the caller is told: so many blocks
// in flight over all files keep a fast SSD busy (measured with 4 MiB blocks, see
// the design). A device that queues fewer requests, queueDepth, gets fewer; 0
// means that its depth is not known.
func Default(cpus, queueDepth int) int {
	jobs := 16
	if cpus == 1 {
		jobs = 8
	}
	if queueDepth > 0 {
		jobs = min(jobs, max(queueDepth, 4))
	}
	return jobs
}

// A Task is a piece of work that any worker can do.
type Task func(ctx context.Context, w *Worker) error

// A Producer makes tasks and hands them to emit, which waits for a free worker
// and fails when the run is over.
type Producer func(ctx context.Context, emit func(Task) error) error

// Worker is what a goroutine of the pool has for itself.
type Worker struct {
	Buf []byte // one block, aligned for direct I/O

	batch  *sys.Batch
	atOnce int           // reads of the batch; below 2: none
	asked  *atomic.Int64 // by all workers, for a batch
}

// Batch is for reading many small files at once, nil where that cannot be done, and
// where it does not pay yet: it is asked for each time that small files are to be read.
func (w *Worker) Batch() *sys.Batch {
	if w.batch == nil && w.atOnce > 1 && w.asked.Add(1) > sys.BatchAfter {
		var err error
		if w.batch, err = sys.NewBatch(w.atOnce); err != nil {
			w.atOnce = 0 // it is only a faster way
		}
	}
	if w.batch.Size() == 0 {
		return nil
	}
	return w.batch
}

// readsAtOnce is how many small files each of so many workers may have open for a
// batch, at most 32, which were as fast as more. The rest of the descriptors is for
// directories, copies and large files.
func readsAtOnce(jobs int) int {
	limit, err := sys.MaxOpenFiles()
	if err != nil {
		return 0
	}
	return max(min((limit-160)/jobs-8, 32), 0)
}

// Pool is a fixed number of workers.
type Pool struct{ workers []*Worker }

// New makes a pool of jobs workers. Close it.
//
// It sees to it that each has a processor of Go's own. They are in system calls most
// of the time, and it takes Go's scheduler 20 µs and more to notice that and have
// another goroutine run: with two CPUs a copy of small files took half as long again.
func New(jobs int) (*Pool, error) {
	if runtime.GOMAXPROCS(0) < jobs {
		runtime.GOMAXPROCS(jobs)
	}
	p, atOnce, asked := &Pool{}, readsAtOnce(max(jobs, 1)), &atomic.Int64{}
	for range max(jobs, 1) {
		buf, err := sys.Buffer(tree.BlockSize)
		if err != nil {
			return nil, errs.Join(err, p.Close())
		}
		p.workers = append(p.workers, &Worker{Buf: buf, atOnce: atOnce, asked: asked})
	}
	return p, nil
}

// Close gives the memory of the workers back. No Run may be under way.
func (p *Pool) Close() error {
	var all errgroup.Group
	for _, w := range p.workers { // at once: the kernel takes some 30 ms for each batch
		all.Go(func() error { return errs.Join(w.batch.Close(), sys.FreeBuffer(w.Buf)) })
	}
	p.workers = nil
	return all.Wait()
}

// Run takes tasks from all producers until they are through, or one of them or a
// task fails. Producers that wait are served in the order they came, so that
// their tasks alternate. After ctx has ended no task is begun.
func (p *Pool) Run(ctx context.Context, producers ...Producer) error {
	g, ctx := errgroup.WithContext(ctx)
	tasks := make(chan Task)
	emit := func(t Task) error {
		select {
		case tasks <- t:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var producing sync.WaitGroup
	for _, produce := range producers {
		producing.Add(1)
		g.Go(func() error {
			defer producing.Done()
			return produce(ctx, emit)
		})
	}
	for _, w := range p.workers {
		g.Go(func() error { return w.runTasks(ctx, tasks) })
	}
	producing.Wait()
	close(tasks)
	return g.Wait()
}

func (w *Worker) runTasks(ctx context.Context, tasks <-chan Task) error {
	for t := range tasks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := t(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

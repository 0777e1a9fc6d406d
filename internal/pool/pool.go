// Package pool runs tasks with a fixed number of workers:
//
//  1. [New] allocates a buffer of one block for each worker.
//  2. [Pool.Run] starts the producers, which emit tasks, and the workers, which run
//     them. A producer waits until a worker is free, so no queue grows.
//  3. The first error ends the run, and Run returns it.
//
// The memory of a pool is workers × tree.BlockSize, or less if huge pages of a buffer
// are never filled. All files of a copy can share a rate limit, see
// [NewRateLimiter].
package pool

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// MaxDefaultWorkers is the most workers that Default chooses.
const MaxDefaultWorkers = 16

// DefaultWorkers returns the default number of workers. That many blocks under way, over all
// files, keep a fast SSD busy (measured with blocks of 4 MiB, see
// docs/how-it-is-fast.md). A device that queues only a few requests, queueDepth, gets
// fewer workers. queueDepth is 0 if it is unknown.
func DefaultWorkers(cpus, queueDepth int) int {
	jobs := MaxDefaultWorkers
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

// A Producer makes tasks and passes them to emit, which waits for a free worker. emit
// fails when the run has ended.
type Producer func(ctx context.Context, emit func(Task) error) error

// Worker has the buffers that one goroutine of the pool uses alone.
type Worker struct {
	Buf []byte // one block, aligned for direct I/O

	batch  *sys.Batch
	atOnce int           // reads of the batch; below 2 there is no batch
	asked  *atomic.Int64 // calls of Batch, of all workers
}

// Batch returns a sys.Batch for reading many small files at once. It returns nil if the
// kernel refuses one, and for the first files, which are too few to save time. Call it
// each time before reading small files.
func (w *Worker) Batch() *sys.Batch {
	if w.batch == nil && w.atOnce > 1 && w.asked.Add(1) > sys.BatchAfter {
		var err error
		if w.batch, err = sys.NewBatch(w.atOnce); err != nil {
			w.atOnce = 0 // a batch only saves time
		}
	}
	if w.batch.Size() == 0 {
		return nil
	}
	return w.batch
}

// readsAtOnce returns how many small files each worker may have open for a batch, at most
// 32: more were no faster. It leaves descriptors for directories, copies and large
// files.
func readsAtOnce(jobs int) int {
	limit, err := sys.MaxOpenFiles()
	if err != nil {
		return 0
	}
	return max(min((limit-160)/jobs-8, 32), 0)
}

// Pool is a fixed number of workers.
type Pool struct{ workers []*Worker }

// New makes a pool of jobs workers. The caller must close it. New does not change
// GOMAXPROCS: a program that wants the full speed sets it to at least the number of
// workers.
func New(jobs int) (*Pool, error) {
	p, atOnce, asked := &Pool{}, readsAtOnce(max(jobs, 1)), &atomic.Int64{}
	for range max(jobs, 1) {
		buf, err := sys.AllocBuffer(tree.BlockSize)
		if err != nil {
			return nil, errs.Join(err, p.Close())
		}
		p.workers = append(p.workers, &Worker{Buf: buf, atOnce: atOnce, asked: asked})
	}
	return p, nil
}

// Close frees the memory of the workers. It must not be called during a Run.
func (p *Pool) Close() error {
	var all errgroup.Group
	for _, w := range p.workers { // in parallel: the kernel takes some 30 ms for each batch
		all.Go(func() error { return errs.Join(w.batch.Close(), sys.FreeBuffer(w.Buf)) })
	}
	p.workers = nil
	return all.Wait()
}

// Run runs the tasks of all producers until all are done, or until a producer or a task
// fails. Producers that wait are served in the order of their arrival, so their tasks
// alternate. No task begins after ctx has ended.
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

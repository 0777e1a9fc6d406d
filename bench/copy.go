package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// copying is one copy of a shard, with all that -c does between the lock and the rename:
//
//	walk → plan → copy ⇄ read back → manifest → syncs
type copying struct {
	engine copier.Engine
	block  int64 // bytes of one request
	jobs   int
	moved  func(bytes int64)
	tool   string // for the manifest

	processors int // of Go's, when it begins
}

// run copies the shard into state, an empty directory, and measures that.
func (c *copying) run(ctx context.Context, from string, state *sys.File) (s Sample, did *copier.Result, err error) {
	debug.FreeOSMemory()             // of what was before; memory is this copy's
	runtime.GOMAXPROCS(c.processors) // streams had more; the copier asks for its own
	if err := sys.ResetPeakMemory(); err != nil {
		return s, nil, err
	}
	used, err := sys.CPUTime()
	if err != nil {
		return s, nil, err
	}
	w := newStopwatch(c.moved)
	if did, err = c.copy(ctx, from, state, w); err != nil {
		return s, nil, err
	}
	now, err := sys.CPUTime()
	if err != nil {
		return s, nil, err
	}
	s = w.sample()
	s.CPU = (now - used).Seconds()
	s.Memory, err = sys.PeakMemory()
	return s, did, err
}

func (c *copying) copy(ctx context.Context, from string, state *sys.File, w *stopwatch) (*copier.Result, error) {
	src, err := copier.OpenSource(from)
	if err != nil {
		return nil, err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	plan, err := copier.MakePlan(ctx, src, state)
	if err != nil {
		return nil, err
	}
	defer plan.Close() //nolint:errcheck // opened for reading
	stage, err := plan.OpenStage(ctx, false, c.jobs)
	if err != nil {
		return nil, err
	}
	defer stage.Close() //nolint:errcheck // the journal is not needed after
	if err := plan.CheckSpace(ctx, stage, c.engine); err != nil {
		return nil, err
	}
	did, err := plan.Copy(ctx, stage, c.options(w))
	if err != nil {
		return nil, err
	}
	if err := c.prove(ctx, src, plan, stage, state, w); err != nil {
		return nil, err
	}
	w.verified.stop()
	return did, nil
}

func (c *copying) options(w *stopwatch) copier.Options {
	request := int(c.block)
	if request == tree.BlockSize { // as if nothing had been said
		request = 0
	}
	medium := &verify.Medium{Own: true, Request: request}
	return copier.Options{Jobs: c.jobs, Engine: c.engine, Request: request, ReadBack: readBack{medium}, Observer: w, Timer: w}
}

// readBack lets the copier have its blocks read by the checker.
type readBack struct{ *verify.Medium }

func (r readBack) Open(dir *sys.File, name string, size int64) (copier.BlockReader, error) {
	f, err := r.Medium.Open(dir, name, size)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// prove writes the manifest, holds the stage against it, and brings both onto stable
// storage.
func (c *copying) prove(ctx context.Context, src *copier.Source, plan *copier.Plan, stage *copier.Stage, state *sys.File, w *stopwatch) error {
	root, err := state.StatAt(copier.StageName)
	if err != nil {
		return err
	}
	m, err := verify.NewWriter(state, &verify.Header{
		Tool: c.tool, Shard: "measured", Root: verify.RootOf(&root), Source: src.Path, LockDir: "/", Time: time.Now(),
		Origin: verify.Identity{Dev: src.Stat.Dev, Ino: src.Stat.Ino, Mtime: src.Stat.Mtime},
		Files:  plan.Files, Entries: plan.Entries(), Bytes: plan.Bytes,
	})
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // closed below where it counts
	if err := w.timed(stage.SyncJournal); err != nil {
		return err
	}
	if err := writeManifest(ctx, m, plan, stage); err != nil {
		return err
	}
	var both errgroup.Group
	both.Go(func() error { return proveStage(ctx, state) })
	both.Go(func() error {
		defer w.durable.stop()
		return w.timed(func() error { return plan.SyncStage(m.Files()...) })
	})
	if err := both.Wait(); err != nil {
		return err
	}
	if err := errs.Join(m.Close(), m.Commit()); err != nil {
		return err
	}
	return w.timed(state.Sync)
}

// writeManifest makes of each record of the plan one of the manifest.
func writeManifest(ctx context.Context, m *verify.Writer, plan *copier.Plan, stage *copier.Stage) error {
	err := plan.Each(ctx, func(it *copier.Item) error {
		r := it.Record
		if r.Kind != tree.Regular {
			return m.Write(&r, 0)
		}
		whole, err := stage.Sum(it)
		if err != nil {
			return err
		}
		return m.WriteRegular(&r, whole, func(first, n int64) ([]uint64, error) { return stage.BlockSums(it, first, n) })
	})
	if err != nil {
		return err
	}
	return m.Finish()
}

func proveStage(ctx context.Context, state *sys.File) error {
	m, err := verify.OpenNewManifest(state)
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // opened for reading
	var first error
	err = verify.ProveTree(ctx, m, verify.Shard{In: state, Name: copier.StageName}, func(d verify.Difference) {
		if first == nil {
			first = fmt.Errorf("the copy differs from the source: %v", d)
		}
	})
	return errs.Join(err, first)
}

// stopwatch takes the times of one copy. It is the copier's Observer and Timer.
type stopwatch struct {
	start time.Time
	moved func(bytes int64)

	files, bytes             atomic.Int64 // as planned
	filesDone, bytesCopied   atomic.Int64
	first, last, copied      mark
	durable, verified        mark
	blocks, fileTimes, syncs times
}

func newStopwatch(moved func(int64)) *stopwatch {
	w := &stopwatch{start: time.Now(), moved: moved}
	for _, m := range []*mark{&w.first, &w.last, &w.copied, &w.durable, &w.verified} {
		m.start = w.start
	}
	for _, t := range []*times{&w.blocks, &w.fileTimes, &w.syncs} {
		t.h = newHistogram()
	}
	return w
}

// mark is when something first was so.
type mark struct {
	start time.Time
	once  sync.Once
	after time.Duration
}

func (m *mark) stop() { m.once.Do(func() { m.after = time.Since(m.start) }) }

// Planned is told how much there is to do. Of nothing, everything is done.
func (w *stopwatch) Planned(files, bytes int64) {
	w.files.Store(files)
	w.bytes.Store(bytes)
	if bytes == 0 {
		w.copied.stop()
	}
	if files == 0 {
		w.first.stop()
		w.last.stop()
	}
}

// Copied is told of bytes written.
func (w *stopwatch) Copied(bytes int64) {
	w.moved(bytes)
	if w.bytesCopied.Add(bytes) == w.bytes.Load() {
		w.copied.stop()
	}
}

// ReadBack is told of bytes found equal.
func (w *stopwatch) ReadBack(bytes int64) { w.moved(bytes) }

// FileDone is told of each file.
func (w *stopwatch) FileDone() {
	w.first.stop()
	if w.filesDone.Add(1) == w.files.Load() {
		w.last.stop()
	}
}

// Block, File and Sync are told how long each took.
func (w *stopwatch) Block(took time.Duration) { w.blocks.add(took) }

// File is told of each file.
func (w *stopwatch) File(took time.Duration) { w.fileTimes.add(took) }

// Sync is told of each flush.
func (w *stopwatch) Sync(took time.Duration) { w.syncs.add(took) }

// timed runs a flush that the copier knows nothing of.
func (w *stopwatch) timed(flush func() error) error {
	start := time.Now()
	err := flush()
	w.Sync(time.Since(start))
	return err
}

func (w *stopwatch) sample() Sample {
	return Sample{
		FirstDone: w.first.after.Seconds(), LastDone: w.last.after.Seconds(), Copied: w.copied.after.Seconds(),
		Durable: w.durable.after.Seconds(), Verified: w.verified.after.Seconds(),
		Block: latencyOf(w.blocks.h), File: latencyOf(w.fileTimes.h), Sync: latencyOf(w.syncs.h),
	}
}

package bench

import (
	"context"
	"fmt"
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

// copying is one copy of a shard. It does everything that `shard_to_ssd -c` does between
// taking the lock and publishing:
//
//	list → plan → copy ⇄ read back → manifest → syncs
type copying struct {
	engine copier.Engine
	block  int64 // bytes of one request
	jobs   int
	moved  func(bytes int64)
	tool   string // for the manifest

	useProcessors func(n int) // see runner
}

// run copies the shard into state, an empty directory, and returns the measurements.
func (c *copying) run(ctx context.Context, from string, state *sys.File) (s Sample, result *copier.Result, err error) {
	debug.FreeOSMemory() // the peak must be that of this copy
	c.useProcessors(c.jobs)
	if err := sys.ResetPeakMemory(); err != nil {
		return s, nil, err
	}
	used, err := sys.CPUTime()
	if err != nil {
		return s, nil, err
	}
	w := newStopwatch(c.moved)
	if result, err = c.copyShard(ctx, from, state, w); err != nil {
		return s, nil, err
	}
	now, err := sys.CPUTime()
	if err != nil {
		return s, nil, err
	}
	s = w.toSample()
	s.CPU = (now - used).Seconds()
	s.Memory, err = sys.PeakMemory()
	return s, result, err
}

// copyShard copies the shard and proves the copy.
func (c *copying) copyShard(ctx context.Context, from string, state *sys.File, w *stopwatch) (*copier.Result, error) {
	src, err := copier.OpenSource(from)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	plan, err := copier.MakePlan(ctx, src, state)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	stage, err := plan.OpenStage(ctx, copier.StageOptions{Jobs: c.jobs})
	if err != nil {
		return nil, err
	}
	defer stage.Close()
	if err := plan.CheckSpace(ctx, stage, c.engine); err != nil {
		return nil, err
	}
	result, err := plan.Copy(ctx, stage, c.copierOptions(w))
	if err != nil {
		return nil, err
	}
	done := stagedCopy{src: src, plan: plan, stage: stage, state: state, times: w}
	if err := done.proveCopy(ctx, c.tool); err != nil {
		return nil, err
	}
	w.verified.stop()
	return result, nil
}

func (c *copying) copierOptions(w *stopwatch) copier.Options {
	request := int(c.block)
	if request == tree.BlockSize { // the copier's default
		request = 0
	}
	device := &verify.DeviceReader{Exclusive: true, MaxRequest: request}
	return copier.Options{Jobs: c.jobs, Engine: c.engine, MaxRequest: request, ReadBack: readBack{device}, Observer: w, Timer: w}
}

// readBack makes the checker of package verify read the blocks back for the copier.
type readBack struct{ *verify.DeviceReader }

func (r readBack) Open(dir *sys.File, name string, size int64) (copier.BlockReader, error) {
	f, err := r.DeviceReader.Open(dir, name, size)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// stagedCopy is a complete copy that is not proven yet.
type stagedCopy struct {
	src   *copier.Source
	plan  *copier.Plan
	stage *copier.Stage
	state *sys.File
	times *stopwatch
}

// proveCopy writes the manifest, compares the stage with it, and syncs both to stable
// storage.
func (c *stagedCopy) proveCopy(ctx context.Context, tool string) error {
	root, err := c.state.StatAt(copier.StageName)
	if err != nil {
		return err
	}
	from := &c.src.Stat
	m, err := verify.NewManifestWriter(c.state, &verify.Header{
		Tool: tool, Shard: "measured", Root: verify.RootIdentityOf(&root), Source: c.src.Path, LockDir: "/", Time: time.Now(),
		Origin: verify.SourceIdentity{Dev: from.Dev, Ino: from.Ino, Mtime: from.Mtime},
		Files:  c.plan.Files, Entries: c.plan.Entries(), Bytes: c.plan.Bytes,
	})
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }() // after a failure; the manifest is closed below
	if err := c.times.timeFlush(c.stage.SyncJournal); err != nil {
		return err
	}
	if err := c.writeManifest(ctx, m); err != nil {
		return err
	}
	var both errgroup.Group
	both.Go(func() error { return proveStage(ctx, c.state) })
	both.Go(func() error {
		defer c.times.durable.stop()
		return c.times.timeFlush(func() error { return c.plan.SyncStage(m.OpenFiles()...) })
	})
	if err := both.Wait(); err != nil {
		return err
	}
	if err := errs.Join(m.Close(), m.Commit()); err != nil {
		return err
	}
	return c.times.timeFlush(c.state.Sync)
}

// writeManifest writes a manifest record for each record of the plan.
func (c *stagedCopy) writeManifest(ctx context.Context, m *verify.ManifestWriter) error {
	err := c.plan.EachEntry(ctx, func(it *copier.PlanEntry) error {
		r := it.Record
		if r.Kind != tree.Regular {
			return m.WriteRecord(&r, 0)
		}
		whole, err := c.stage.FileSum(it)
		if err != nil {
			return err
		}
		return m.WriteRegular(&r, whole, func(first, n int64) ([]uint64, error) { return c.stage.BlockSums(it, first, n) })
	})
	if err != nil {
		return err
	}
	return m.Finish()
}

// proveStage compares the stage with its new manifest.
func proveStage(ctx context.Context, state *sys.File) error {
	m, err := verify.OpenUncommittedManifest(state)
	if err != nil {
		return err
	}
	defer m.Close()
	var first error
	err = verify.CompareTreeStrictly(ctx, m, verify.Shard{Parent: state, Name: copier.StageName}, func(d verify.Difference) {
		if first == nil {
			first = fmt.Errorf("the copy differs from the source: %v", d)
		}
	})
	return errs.Join(err, first)
}

// stopwatch measures the times of one copy. It is the Observer and the Timer of the
// copier.
type stopwatch struct {
	start time.Time
	moved func(bytes int64)

	files, bytes                     atomic.Int64 // as planned
	filesDone, bytesCopied           atomic.Int64
	first, last, copied              firstTime
	durable, verified                firstTime
	blockTimes, fileTimes, syncTimes sharedHistogram
}

func newStopwatch(moved func(int64)) *stopwatch {
	w := &stopwatch{start: time.Now(), moved: moved}
	for _, m := range []*firstTime{&w.first, &w.last, &w.copied, &w.durable, &w.verified} {
		m.start = w.start
	}
	for _, t := range []*sharedHistogram{&w.blockTimes, &w.fileTimes, &w.syncTimes} {
		t.h = newHistogram()
	}
	return w
}

// firstTime is the time of the first call of stop.
type firstTime struct {
	start time.Time
	once  sync.Once
	after time.Duration
}

func (m *firstTime) stop() { m.once.Do(func() { m.after = time.Since(m.start) }) }

// Planned sets the totals. Without bytes or files, their times are those of now.
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

// Copied counts bytes that were written.
func (w *stopwatch) Copied(bytes int64) {
	w.moved(bytes)
	if w.bytesCopied.Add(bytes) == w.bytes.Load() {
		w.copied.stop()
	}
}

// ReadBack counts bytes that were read back and are equal.
func (w *stopwatch) ReadBack(bytes int64) { w.moved(bytes) }

// FileDone counts a file that was copied and read back.
func (w *stopwatch) FileDone() {
	w.first.stop()
	if w.filesDone.Add(1) == w.files.Load() {
		w.last.stop()
	}
}

// Block records the time of one block.
func (w *stopwatch) Block(took time.Duration) { w.blockTimes.recordTime(took) }

// File records the time of one file.
func (w *stopwatch) File(took time.Duration) { w.fileTimes.recordTime(took) }

// Sync records the time of one flush.
func (w *stopwatch) Sync(took time.Duration) { w.syncTimes.recordTime(took) }

// timeFlush runs and records a flush that the copier does not do itself.
func (w *stopwatch) timeFlush(flush func() error) error {
	start := time.Now()
	err := flush()
	w.Sync(time.Since(start))
	return err
}

func (w *stopwatch) toSample() Sample {
	return Sample{
		FirstDone: w.first.after.Seconds(), LastDone: w.last.after.Seconds(), Copied: w.copied.after.Seconds(),
		Durable: w.durable.after.Seconds(), Verified: w.verified.after.Seconds(),
		Block: latencyOf(w.blockTimes.h), File: latencyOf(w.fileTimes.h), Sync: latencyOf(w.syncTimes.h),
	}
}

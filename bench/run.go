package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"shard_to_ssd/bench/internal/data"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// makeWorkers is the number of workers that make a workload.
const makeWorkers = 8

// runner is the state of one Run.
type runner struct {
	*Config
	tracker
	set    *settings
	work   *workDir
	cooler cooler
	result *Result

	sustainedBlock int64
	written        atomic.Int64 // bytes
	processors     int          // GOMAXPROCS at the beginning
	copies         int          // made so far
	deleteEachCopy bool         // delete each copy at once
	stamps         uint64       // last stamp of a sustained write
	shards         []*shard     // the workloads
	sourceShard    *shard       // shard of Config.Source; nil: none
	opened         []*shard     // all shards that are open
}

// Run measures in a new directory below the target, and deletes that directory. If ctx
// ends or something fails, the Result has the measurements until then and is not
// Complete. The error is ErrUsage, a *SpaceError, a *CostError, the cause of ctx, or
// another failure.
func Run(ctx context.Context, c Config) (result *Result, err error) {
	set, err := c.makeSettings()
	if err != nil {
		return nil, err
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	r := &runner{Config: &c, set: set, sustainedBlock: sustainedBlock, processors: runtime.GOMAXPROCS(0)}
	r.result = &Result{Version: ResultVersion, Tool: c.Version, Command: c.Command, Started: time.Now(), Profile: c.profileName(),
		Size: set.size, Seed: c.Seed, Warnings: []string{}, Ceilings: []Ceiling{}, Cases: []Case{}}
	r.to = c.Progress
	r.cooler = cooler{how: dropAllCaches, warn: r.warn}
	known := func() Facts { return Facts{} }
	if c.WatchFacts != nil {
		if known, err = c.WatchFacts(c.Target); err != nil {
			return nil, err
		}
	}
	if r.work, err = makeWorkDir(c.Target); err != nil {
		known()
		return nil, err
	}
	defer func() {
		r.closeShards()
		err = errs.Join(err, r.work.removeAll(ctx))
		r.completeResult(err)
		r.result.Facts = known()
		r.useProcessors(0)
		result = r.result
	}()
	return nil, r.measureAll(ctx)
}

// useProcessors sets GOMAXPROCS for a measurement that blocks n goroutines in system
// calls: the Go scheduler notices late that they are blocked, so each needs its own.
func (r *runner) useProcessors(n int) {
	if r.SetProcessors != nil {
		r.SetProcessors(max(n, r.processors))
	}
}

func (c *Config) profileName() string {
	if c.Profile == "" {
		return string(Quick)
	}
	return string(c.Profile)
}

func (r *runner) completeResult(err error) {
	r.result.Seconds = time.Since(r.result.Started).Seconds()
	r.result.Written = r.written.Load()
	r.result.CacheMethod = r.cooler.how
	r.result.Complete = err == nil
}

// warn adds a warning, unless the result has it already.
func (r *runner) warn(message string) {
	if !slices.Contains(r.result.Warnings, message) {
		r.result.Warnings = append(r.result.Warnings, message)
		if r.OnWarning != nil {
			r.OnWarning(message)
		}
	}
}

// countWritten counts bytes that were written, and reports them as moved.
func (r *runner) countWritten(bytes int64) {
	r.written.Add(bytes)
	r.moved(bytes)
}

func (r *runner) measureAll(ctx context.Context) error {
	workloads := data.Workloads(r.set.size)
	if err := r.openSource(ctx); err != nil {
		return err
	}
	sustained, err := r.checkCost(workloads)
	if err != nil {
		return err
	}
	if err := r.measureCeilings(ctx); err != nil {
		return err
	}
	if err := r.makeShards(ctx, workloads); err != nil {
		return err
	}
	if err := r.measureCases(ctx); err != nil {
		return err
	}
	if r.result.Readers, err = r.measureReaders(ctx, r.shards[0], r.set.reading); err != nil {
		return err
	}
	if sustained == 0 {
		return nil
	}
	if err := r.clearWorkDir(ctx); err != nil {
		return err
	}
	r.result.Sustained, err = r.measureSustained(ctx, sustained, r.set.pause, r.set.reading)
	return err
}

// openSource opens the shard of Config.Source, if there is one.
func (r *runner) openSource(ctx context.Context) error {
	if r.Source == "" {
		return nil
	}
	if err := r.checkTargetOutsideSource(); err != nil {
		return err
	}
	from, err := r.openShard(ctx, sourceWorkload, r.Source)
	if err != nil {
		return err
	}
	r.sourceShard = from
	if from.plan.Bytes == 0 {
		return fmt.Errorf("%w: source %q is empty", ErrUsage, r.Source)
	}
	if b := from.plan.Bytes; from.stored < b-b/10 {
		r.warn(fmt.Sprintf("%s: only %s of %s are stored; the rates include the holes", sourceWorkload, FormatBytes(from.stored), FormatBytes(b)))
	}
	return nil
}

// checkTargetOutsideSource refuses a target inside the source: the run would copy its own
// files.
func (r *runner) checkTargetOutsideSource() error {
	source, err := sys.RealPath(r.Source)
	if err != nil {
		return err
	}
	if target := r.work.target.Path(); strings.HasPrefix(target+"/", strings.TrimSuffix(source, "/")+"/") {
		return fmt.Errorf("%w: target %q is inside source %q: choose a target outside", ErrUsage, target, source)
	}
	return nil
}

// sourceWorkload is the name of the workload that is a real directory.
const sourceWorkload = "source"

// openShard opens the shard at path, with a directory of its own for its plan.
func (r *runner) openShard(ctx context.Context, name, path string) (*shard, error) {
	dir, err := mkdir(r.work.File, "plan-"+name)
	if err != nil {
		return nil, err
	}
	from, err := openShard(ctx, name, path, dir)
	if err != nil {
		dir.Close()
		return nil, err
	}
	r.opened = append(r.opened, from)
	return from, nil
}

// checkCost adds up the cost of the run, reports it, and refuses a run that does not fit
// or is not allowed. It returns the bytes of the first sustained write.
func (r *runner) checkCost(workloads []data.Workload) (sustained int64, err error) {
	space, err := r.work.Space()
	if err != nil {
		return 0, err
	}
	b := &budget{set: r.set, free: space.Free, reserve: r.work.reserve}
	for i, w := range workloads {
		t := w.AddUp(r.Seed)
		b.addWorkload(t)
		b.addCases(t, i != smallFilesIndex)
	}
	if r.sourceShard != nil {
		b.addCases(data.Total{Files: r.sourceShard.plan.Files, Bytes: r.sourceShard.plan.Bytes, Stored: r.sourceShard.stored}, r.sourceShard.hasLarge())
	}
	b.addFixedSteps()
	cost := b.totalCost()
	if !cost.fitsSpace() && b.keptBytes > 0 {
		r.warn("not enough space to keep copies of many files until the end: on some file systems, new files are slower after others were deleted")
		b.keptBytes, r.deleteEachCopy = 0, true
		cost = b.totalCost()
	}
	r.steps, r.planned, r.started = b.steps, b.movedBytes, time.Now()
	if r.OnCost != nil {
		r.OnCost(cost)
	}
	return b.sustainedSize(), cost.checkAllowed(r.work.target.Path(), r.AllowCostly)
}

// measureCeilings measures all ceilings and deletes its files.
func (r *runner) measureCeilings(ctx context.Context) error {
	dir, err := mkdir(r.work.File, "ceilings")
	if err != nil {
		return err
	}
	defer dir.Close()
	b := &ceilingBench{dir: dir, size: r.set.ceilingSize, seed: r.Seed, moved: r.moved, useProcessors: r.useProcessors}
	r.begin(b.size, "write "+FormatBytes(b.size)+" for the reads", "ceilings")
	r.written.Add(b.size)
	if err := b.writeSource(ctx); err != nil {
		return err
	}
	if !b.readsDirect() {
		r.warn("this file system has no direct I/O: the ceilings are those of the page cache, not of the drive")
	}
	if block, depth := slices.Max(r.set.ceilingBlocks), slices.Max(r.set.ceilingDepths); b.size < 4*block*int64(depth) {
		r.warn(fmt.Sprintf("some ceilings have only %d requests, %d at a time: a larger size gives more", b.size/block, depth))
	}
	all := r.result.Ceilings
	for _, block := range r.set.ceilingBlocks {
		for _, depth := range r.set.ceilingDepths {
			for _, way := range []Way{Read, Write, Both} {
				all = append(all, Ceiling{Way: way, Block: block, Depth: depth, Rates: []float64{}, Latency: []Latency{}})
			}
		}
	}
	r.result.Ceilings = all
	err = forEachShuffled(r.Seed, r.set.samples, len(all), func(i, next int) error {
		c, after := &all[i], "workloads"
		if next >= 0 {
			after = all[next].stepName()
		}
		r.begin(b.size*int64(len(c.Way.directions())), c.stepName(), after)
		if c.Way != Read {
			r.written.Add(b.size)
		}
		return b.addSample(ctx, c)
	})
	if err != nil {
		return err
	}
	return r.work.delete(ctx, "ceilings")
}

// stepName names the samples of the ceiling in progress messages.
func (c *Ceiling) stepName() string {
	return fmt.Sprintf("ceiling: %s, blocks of %s, %d at a time", c.Way, FormatBytes(c.Block), c.Depth)
}

// makeShards makes the workloads and opens them.
func (r *runner) makeShards(ctx context.Context, workloads []data.Workload) error {
	for i, w := range workloads {
		next := "copies"
		if i+1 < len(workloads) {
			next = "make workload " + workloads[i+1].Name
		}
		if err := r.makeShard(ctx, w, next); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) makeShard(ctx context.Context, w data.Workload, next string) error {
	t := w.AddUp(r.Seed)
	r.begin(t.Bytes, "make workload "+w.Name+", "+FormatBytes(t.Bytes), next)
	dir, err := mkdir(r.work.File, "source-"+w.Name)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = w.WriteFiles(ctx, dir, r.Seed, makeWorkers, r.countWritten)
	r.written.Add(t.Stored - t.Bytes)
	if err != nil {
		return err
	}
	if err := dir.SyncFS(); err != nil {
		return err
	}
	from, err := r.openShard(ctx, w.Name, dir.Path())
	if err != nil {
		return err
	}
	r.shards = append(r.shards, from)
	return nil
}

// measureCases makes all copies of the matrix.
func (r *runner) measureCases(ctx context.Context) error {
	shards := r.shards
	if r.sourceShard != nil {
		shards = append(shards[:len(shards):len(shards)], r.sourceShard)
	}
	m := makeMatrix(shards, r.set)
	for i := range m.cases {
		m.cases[i].Ceiling = r.ceilingOf(m.shards[i])
	}
	r.result.Cases = m.cases
	return forEachShuffled(r.Seed, r.set.samples, len(m.cases), func(i, next int) error { return r.measureCase(ctx, m, i, next) })
}

// ceilingOf returns the upper limit of the rate of a copy: that of Both if source and
// target are on one drive, otherwise that of Write.
func (r *runner) ceilingOf(from *shard) float64 {
	s, err := r.work.Stat()
	isSameDrive := err != nil || s.Dev == from.src.Stat.Dev || r.SameDrive != nil && r.SameDrive(r.work.target.Path(), from.path)
	if isSameDrive {
		return bestRate(r.result.Ceilings, Both)
	}
	return bestRate(r.result.Ceilings, Write)
}

// clearWorkDir closes all shards and deletes everything in the work directory.
func (r *runner) clearWorkDir(ctx context.Context) error {
	r.closeShards()
	names, err := r.work.ListNames(make([]byte, 4096))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.work.delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) closeShards() {
	for _, s := range r.opened {
		s.close()
	}
	r.opened, r.shards, r.sourceShard = nil, nil, nil
}

package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"shard_to_ssd/bench/data"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// makers is how many workers make a workload.
const makers = 8

// runner is one Run.
type runner struct {
	*Config
	tracker
	set    *settings
	work   *workDir
	cooler cooler
	result *Result

	sustainedBlock int64
	written        atomic.Int64 // bytes
	processors     int          // of Go's, at the beginning
	copies         int          // made so far
	deletes        bool         // each copy is deleted at once
	stamps         uint64       // of sustained writes, made so far
	shards         []*shard     // that were made
	given          *shard       // nil: none
	open           []*shard     // all that are open
}

// Run measures, in a new directory under the target, which is gone when it returns. If
// ctx ends, or something fails, the Result has what was measured until then and is not
// Complete. Errors: ErrUsage, a *SpaceError, a *CostError, the cause of ctx, or any other
// failure.
func Run(ctx context.Context, c Config) (result *Result, err error) {
	set, err := c.settings()
	if err != nil {
		return nil, err
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	r := &runner{Config: &c, set: set, sustainedBlock: sustainedBlock, processors: runtime.GOMAXPROCS(0)}
	r.result = &Result{Version: ResultVersion, Tool: c.Version, Command: c.Command, Started: time.Now(), Profile: c.profile(),
		Size: set.size, Seed: c.Seed, Warnings: []string{}, Ceilings: []Ceiling{}, Cases: []Case{}}
	r.to = c.Progress
	r.cooler = cooler{how: coldAll, warn: r.warn}
	known := func() Facts { return Facts{} }
	if c.Watch != nil {
		if known, err = c.Watch(c.Target, c.HideSerial); err != nil {
			return nil, err
		}
	}
	if r.work, err = makeWorkDir(c.Target); err != nil {
		known()
		return nil, err
	}
	defer func() {
		r.closeShards()
		err = errs.Join(err, r.work.remove(ctx))
		r.finish(err)
		r.result.Facts = known()
		runtime.GOMAXPROCS(r.processors)
		result = r.result
	}()
	return nil, r.run(ctx)
}

func (c *Config) profile() string {
	if c.Profile == "" {
		return string(Quick)
	}
	return string(c.Profile)
}

func (r *runner) finish(err error) {
	r.result.Seconds = time.Since(r.result.Started).Seconds()
	r.result.Written = r.written.Load()
	r.result.Cold = r.cooler.how
	r.result.Complete = err == nil
}

// warn adds a warning, unless it was given before.
func (r *runner) warn(message string) {
	if !slices.Contains(r.result.Warnings, message) {
		r.result.Warnings = append(r.result.Warnings, message)
		if r.Warn != nil {
			r.Warn(message)
		}
	}
}

// wrote is told of bytes that are written and moved.
func (r *runner) wrote(bytes int64) {
	r.written.Add(bytes)
	r.moved(bytes)
}

func (r *runner) run(ctx context.Context) error {
	workloads := data.Workloads(r.set.size)
	if err := r.openGiven(ctx); err != nil {
		return err
	}
	sustained, err := r.settle(workloads)
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
	if err := r.clear(ctx); err != nil {
		return err
	}
	r.result.Sustained, err = r.measureSustained(ctx, sustained, r.set.pause, r.set.reading)
	return err
}

// openGiven looks at the real directory that is to be copied, if there is one.
func (r *runner) openGiven(ctx context.Context) error {
	if r.Source == "" {
		return nil
	}
	if err := r.checkApart(); err != nil {
		return err
	}
	from, err := r.openShard(ctx, sourceWorkload, r.Source)
	if err != nil {
		return err
	}
	r.given = from
	if from.plan.Bytes == 0 {
		return fmt.Errorf("%w: source %q has nothing in it", ErrUsage, r.Source)
	}
	if b := from.plan.Bytes; from.stored < b-b/10 {
		r.warn(fmt.Sprintf("%s: of %s only %s are stored, the rest are holes: its rates count them, too", sourceWorkload, Bytes(b), Bytes(from.stored)))
	}
	return nil
}

// checkApart refuses a source that the target is in: it would copy what is made there.
func (r *runner) checkApart() error {
	source, err := sys.RealPath(r.Source)
	if err != nil {
		return err
	}
	if target := r.work.target.Path(); strings.HasPrefix(target+"/", strings.TrimSuffix(source, "/")+"/") {
		return fmt.Errorf("%w: the target %q is in the source %q", ErrUsage, target, source)
	}
	return nil
}

// sourceWorkload is the name of the workload that is a real directory.
const sourceWorkload = "source"

// openShard looks at a shard. Its plan is in a directory of its own.
func (r *runner) openShard(ctx context.Context, name, path string) (*shard, error) {
	dir, err := mkdir(r.work.File, "plan-"+name)
	if err != nil {
		return nil, err
	}
	from, err := openShard(ctx, name, path, dir)
	if err != nil {
		dir.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	r.open = append(r.open, from)
	return from, nil
}

// settle adds up what the run will do, tells, and refuses what is too much. It returns
// how much the sustained write writes.
func (r *runner) settle(workloads []data.Workload) (sustained int64, err error) {
	space, err := r.work.Space()
	if err != nil {
		return 0, err
	}
	b := &budget{set: r.set, free: space.Free, reserve: r.work.reserve}
	for i, w := range workloads {
		t := w.Total(r.Seed)
		b.addMade(t)
		b.addCases(t, i != onlySmall)
	}
	if r.given != nil {
		b.addCases(data.Total{Files: r.given.plan.Files, Bytes: r.given.plan.Bytes, Stored: r.given.stored}, r.given.hasLarge())
	}
	b.addRest()
	cost := b.cost()
	if !cost.fits() && b.kept > 0 {
		r.warn("there is no space to keep copies of many files until the end: whoever makes files after others were deleted is slower on some file systems")
		b.kept, r.deletes = 0, true
		cost = b.cost()
	}
	r.steps, r.planned, r.started = b.steps, b.moves, time.Now()
	if r.Tell != nil {
		r.Tell(cost)
	}
	return b.sustained(), cost.check(r.work.target.Path(), r.Yes)
}

// measureCeilings measures all ceilings, and takes what it needs for that away again.
func (r *runner) measureCeilings(ctx context.Context) error {
	dir, err := mkdir(r.work.File, "ceilings")
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	b := &ceilingBench{dir: dir, size: r.set.ceilingSize, seed: r.Seed, moved: r.moved}
	r.begin(b.size, "write "+Bytes(b.size)+" to read", "ceilings")
	r.written.Add(b.size)
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if !b.direct() {
		r.warn("this file system has no direct I/O: the ceilings are those of the page cache, and of no device")
	}
	if block, depth := slices.Max(r.set.ceilingBlocks), slices.Max(r.set.ceilingDepths); b.size < 4*block*int64(depth) {
		r.warn(fmt.Sprintf("ceilings are of as few as %d requests, %d at once: a larger size makes them more", b.size/block, depth))
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
	err = rounds(r.Seed, r.set.samples, len(all), func(i, next int) error {
		c, after := &all[i], "workloads"
		if next >= 0 {
			after = all[next].what()
		}
		r.begin(b.size*int64(len(c.Way.each())), c.what(), after)
		if c.Way != Read {
			r.written.Add(b.size)
		}
		return b.sample(ctx, c)
	})
	if err != nil {
		return err
	}
	return r.work.delete(ctx, "ceilings")
}

// what a ceiling is called.
func (c *Ceiling) what() string {
	return fmt.Sprintf("ceiling: %s, blocks of %s, %d at once", c.Way, Bytes(c.Block), c.Depth)
}

// makeShards makes the workloads that are copied.
func (r *runner) makeShards(ctx context.Context, workloads []data.Workload) error {
	for i, w := range workloads {
		t := w.Total(r.Seed)
		next := "copies"
		if i+1 < len(workloads) {
			next = "make workload " + workloads[i+1].Name
		}
		r.begin(t.Bytes, "make workload "+w.Name+", "+Bytes(t.Bytes), next)
		dir, err := mkdir(r.work.File, "source-"+w.Name)
		if err != nil {
			return err
		}
		err = w.Write(ctx, dir, r.Seed, makers, r.wrote)
		r.written.Add(t.Stored - t.Bytes)
		if err == nil {
			err = dir.SyncFS()
		}
		path := dir.Path()
		if closed := dir.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
		from, err := r.openShard(ctx, w.Name, path)
		if err != nil {
			return err
		}
		r.shards = append(r.shards, from)
	}
	return nil
}

// measureCases copies everything in every way.
func (r *runner) measureCases(ctx context.Context) error {
	shards := r.shards
	if r.given != nil {
		shards = append(shards[:len(shards):len(shards)], r.given)
	}
	m := makeMatrix(shards, r.set)
	for i := range m.cases {
		m.cases[i].Ceiling = r.ceilingOf(m.shards[i])
	}
	r.result.Cases = m.cases
	return rounds(r.Seed, r.set.samples, len(m.cases), func(i, next int) error { return r.measureCase(ctx, m, i, next) })
}

// ceilingOf is what a copy of a shard cannot be faster than: on one drive it is read and
// written at once.
func (r *runner) ceilingOf(from *shard) float64 {
	s, err := r.work.Stat()
	if err == nil && s.Dev != from.src.Stat.Dev && !(r.SameDrive != nil && r.SameDrive(r.work.target.Path(), from.path)) {
		return best(r.result.Ceilings, Write)
	}
	return best(r.result.Ceilings, Both)
}

// clear deletes all that the copies needed.
func (r *runner) clear(ctx context.Context) error {
	r.closeShards()
	names, err := r.work.Names(make([]byte, 4096))
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
	for _, s := range r.open {
		s.close()
	}
	r.open, r.shards, r.given = nil, nil, nil
}

package copier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
)

// ErrSourceChanged is in the error of a copy if the source differs from the plan, which
// is the state of the source when the walk read it.
var ErrSourceChanged = errors.New("the source changed while it was copied")

// DamageError reports a block that reads back from the SSD different from the source,
// twice: after the first copy and after the second.
type DamageError struct {
	Path     string // of the file, below the shard
	From, To int64  // bytes [From, To)
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%q reads back from the SSD different from the source in bytes [%d, %d), even after it was copied again",
		e.Path, e.From, e.To)
}

// Options are the options of Plan.Copy and Plan.SumSource. Plan.SumSource uses only Jobs, ReadBack and
// Observer.
type Options struct {
	Jobs     int          // workers; values below 1 mean 1
	Engine   Engine       // zero: Auto
	ReadBack DeviceReader // reads files from the SSD
	Observer Observer     // nil: NopObserver
	// RateLimit limits the bytes per second that are read from the source and written to the
	// SSD, see sys.File; nil means no limit. ReadBack has a limit of its own.
	RateLimit sys.RateLimiter
	// MaxRequest is the largest number of bytes of one read or write within a block, a
	// multiple of sys.Align; 0 means the whole block.
	MaxRequest int
	Timer      Timer // nil: nothing is timed
}

func (o Options) withDefaults() Options {
	if o.Observer == nil {
		o.Observer = NopObserver{}
	}
	if o.Engine == "" {
		o.Engine = Auto
	}
	return o
}

// Result is the work that a copy did. After an error it is the work until then.
type Result struct {
	Resumed int64 // bytes that an interrupted copy left, and that read back equal
	Engines map[Engine]Usage
	Phases  []Phase // in their order
}

// Usage is the work of one engine.
type Usage struct {
	Files, Bytes int64
	Reason       string // the reason why the first of the files was left to the engine
}

// Phase is one phase of a copy.
type Phase struct {
	Name  string
	Took  time.Duration
	Bytes int64 // of files of the shard that the phase copied
}

// copyRun is one run of Plan.Copy.
type copyRun struct {
	Options
	plan  *Plan
	src   *Source
	stage *Stage
	pool  *pool.Pool

	asRoot      bool
	defaults    creationDefaults // of the small files and links that are made
	syncEach    bool             // fsync every file; otherwise one syncfs for all
	noClone     atomic.Bool      // the kernel refuses FICLONE for all files
	noRange     atomic.Bool      // the kernel refuses copy_file_range for all files
	noDontCache atomic.Bool      // the kernel refuses RWF_DONTCACHE
	noBatchRead atomic.Bool      // direct reads of the source went through the page cache

	resumed atomic.Int64 // bytes
	moved   atomic.Int64 // bytes, in the phase under way
	mu      sync.Mutex
	result  Result
	large   map[*largeFile]bool // the open ones
	cloned  map[int64]bool      // the large files that have been cloned, by slot
}

// Copy copies the files of the plan into the stage and reads them back. Afterwards all
// data is on stable storage. The metadata of directories and links may not be; the
// caller has to call SyncStage. The error contains ErrSourceChanged, a *DamageError, the
// cause of the end of ctx, or the *fs.PathError of a system call that failed. The result
// is never nil.
func (p *Plan) Copy(ctx context.Context, s *Stage, o Options) (*Result, error) {
	o = o.withDefaults()
	workers, err := pool.New(o.Jobs)
	if err != nil {
		return &Result{}, err
	}
	defer func() { _ = workers.Close() }() // it frees only memory
	c := &copyRun{Options: o, plan: p, src: p.src, stage: s, pool: workers,
		asRoot: os.Geteuid() == 0, syncEach: p.syncsEach(), large: map[*largeFile]bool{}, cloned: map[int64]bool{}}
	c.result.Engines = map[Engine]Usage{}
	o.Observer.Planned(p.Files, p.Bytes)
	defer c.closeLargeFiles()
	err = c.runPhases(ctx)
	c.result.Resumed = c.resumed.Load()
	return &c.result, err
}

func (c *copyRun) runPhases(ctx context.Context) error {
	largeCopy, largeReadBack := c.largeFiles()
	for _, phase := range []struct {
		name string
		run  func() error
	}{
		{"directories", func() error { return c.makeDirs(ctx) }},
		{"reserve", func() error { return c.pool.Run(ctx, c.reserveLargeFiles) }},
		{"clone", func() error { return c.pool.Run(ctx, c.cloneLargeFiles) }},
		{"copy and read back", func() error { return c.pool.Run(ctx, c.smallFiles, largeCopy, largeReadBack) }},
		{"hard links", func() error { return c.pool.Run(ctx, c.makeHardLinks) }},
		{"seal", func() error { return c.sealDirs(ctx) }},
		{"recheck", func() error { return c.pool.Run(ctx, c.recheckSource) }},
	} {
		start := time.Now()
		c.moved.Store(0)
		err := phase.run()
		c.result.Phases = append(c.result.Phases, Phase{phase.name, time.Since(start), c.moved.Load()})
		if err != nil {
			return err
		}
	}
	return nil
}

// countFile adds a finished file to the usage of its engine. bytes excludes the blocks
// of an interrupted copy.
func (c *copyRun) countFile(p *filePair, bytes int64) {
	engine, reason := p.engineUsed()
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.result.Engines[engine]
	if u.Files == 0 {
		u.Reason = reason
	}
	c.result.Engines[engine] = Usage{u.Files + 1, u.Bytes + bytes, u.Reason}
}

// firstError returns err, the error of an operation, or if that is nil the error of the
// Close after it.
func firstError(err, closeErr error) error {
	if err != nil {
		return err
	}
	return closeErr
}

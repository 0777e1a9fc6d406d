package copier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// ErrSourceChanged is in the error of a copy whose source did not stay as it was
// when the walk saw it.
var ErrSourceChanged = errors.New("the source changed while it was copied")

// DamageError says that a block does not read back as it was written, also not
// when it was copied once more.
type DamageError struct {
	Path     string // of the file, below the shard
	From, To int64  // bytes [From, To)
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%q reads back from the SSD different from the source in bytes [%d, %d), also when copied again",
		e.Path, e.From, e.To)
}

// Options of a copy.
type Options struct {
	Jobs     int      // workers, at least 1
	Engine   Engine   // zero: Auto
	ReadBack ReadBack // how files are read from the SSD
	Observer Observer // nil: Nobody
	// Pace bounds the bytes a second that are read from the source and written to the
	// SSD, see sys.File; nil: no bound. What ReadBack reads is its own concern.
	Pace sys.Pace
	// Request is the most bytes of one read or write within a block, see sys.File; 0: the
	// whole block.
	Request int
	Timer   Timer // nil: nothing is timed
}

// Result is what a copy did.
type Result struct {
	Resumed int64 // bytes kept from an interrupted copy and found good
	Engines map[Engine]Usage
	Phases  []Phase
}

// Usage is what one engine moved, and why the first of the files was left to it.
type Usage struct {
	Files, Bytes int64
	Why          string
}

// Phase is a step, how long it took, and how many bytes of the shard it moved or read.
type Phase struct {
	Name  string
	Took  time.Duration
	Bytes int64
}

// A copying is one run of Copy.
type copying struct {
	Options
	plan  *Plan
	src   *Source
	stage *Stage
	pool  *pool.Pool

	asRoot    bool
	born      birth       // of small files and links that are made
	syncEach  bool        // fsync every file; otherwise one syncfs for all
	noClone   atomic.Bool // FICLONE was refused for good
	noRange   atomic.Bool // copy_file_range was refused for good
	noUncache atomic.Bool // RWF_DONTCACHE was refused
	noAhead   atomic.Bool // direct reads of the source went through the page cache

	resumed atomic.Int64
	moved   atomic.Int64 // bytes, in the phase under way
	mu      sync.Mutex
	result  Result
	large   map[*largeFile]bool // open ones
	cloned  map[int64]bool      // large files that are, by their slot
}

// syncEachBelow is the number of entries up to which every file is synced by
// itself: syncfs also waits for everything that others have written.
const syncEachBelow = 1000

// Copy brings the stage to what the plan says: copied, read back, on stable
// storage but for the metadata of directories and links, which the caller's
// final sync covers (see SyncStage).
func (p *Plan) Copy(ctx context.Context, s *Stage, o Options) (*Result, error) {
	if o.Observer == nil {
		o.Observer = Nobody{}
	}
	if o.Engine == "" {
		o.Engine = Auto
	}
	workers, err := pool.New(o.Jobs)
	if err != nil {
		return &Result{}, err
	}
	defer workers.Close() //nolint:errcheck // only memory
	c := &copying{Options: o, plan: p, src: p.src, stage: s, pool: workers,
		asRoot: os.Geteuid() == 0, syncEach: p.syncEach(), large: map[*largeFile]bool{}, cloned: map[int64]bool{}}
	c.result.Engines = map[Engine]Usage{}
	o.Observer.Planned(p.Files, p.Bytes)
	defer c.closeLarge()
	err = c.run(ctx)
	c.result.Resumed = c.resumed.Load()
	return &c.result, err
}

func (c *copying) run(ctx context.Context) error {
	largeCopy, largeReadBack := c.largeFiles()
	for _, phase := range []struct {
		name string
		run  func() error
	}{
		{"directories", func() error { return c.makeDirs(ctx) }},
		{"reserve", func() error { return c.pool.Run(ctx, c.reserveLarge) }},
		{"clone", func() error { return c.pool.Run(ctx, c.cloneLarge) }},
		{"copy and read back", func() error { return c.pool.Run(ctx, c.smallFiles, largeCopy, largeReadBack) }},
		{"hard links", func() error { return c.pool.Run(ctx, c.hardLinks) }},
		{"seal", func() error { return c.sealDirs(ctx) }},
		{"recheck", func() error { return c.pool.Run(ctx, c.recheck) }},
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

// makeDirs makes every directory of the stage, for now private and writable.
func (c *copying) makeDirs(ctx context.Context) error {
	if c.stage.file != "" {
		return nil
	}
	err := c.plan.Each(ctx, func(it *Item) error {
		if it.Kind != tree.Dir {
			return nil
		}
		parent, name, err := c.parentOf(it)
		if err != nil {
			return err
		}
		defer parent.Close() //nolint:errcheck // opened for reading
		err = parent.MkdirAt(name, 0o700)
		if c.stage.Resumed && sys.Is(err, unix.EEXIST) {
			return c.reopenDir(ctx, parent, name)
		}
		return err
	})
	if err == nil {
		c.born, err = c.atBirth()
	}
	return err
}

// reopenDir makes a directory of an interrupted copy writable again, which that
// copy may have sealed. What is no directory makes way.
func (c *copying) reopenDir(ctx context.Context, parent *sys.File, name string) error {
	d, err := parent.OpenDirAt(name)
	if sys.Is(err, unix.ENOTDIR, unix.ELOOP) {
		if err := tree.Remove(ctx, parent, name, 1); err != nil {
			return err
		}
		return parent.MkdirAt(name, 0o700)
	}
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	return d.Chmod(0o700)
}

// parentOf opens the directory that a directory of the stage is in.
func (c *copying) parentOf(it *Item) (parent *sys.File, name string, err error) {
	if it.Depth == 0 {
		parent, err = c.stage.base.OpenBelow("")
		return parent, StageName, err
	}
	above := it.Path[:max(len(it.Path)-len(it.Name)-1, 0)]
	parent, err = c.stage.open(above)
	return parent, it.Name, err
}

// inStage hands out the entries that want holds for, a batch of one directory of
// the stage at a time, and has do work on each of them.
func (c *copying) inStage(ctx context.Context, emit func(pool.Task) error, want func(*Item) bool, do func(ctx context.Context, dst *sys.File, it *Item) error) error {
	return c.plan.batches(ctx, want, func(b *batch) error {
		return emit(func(ctx context.Context, _ *pool.Worker) error {
			dst, err := c.stage.open(b.path)
			if err != nil {
				return err
			}
			defer dst.Close() //nolint:errcheck // opened for reading
			for i := range b.entries {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := do(ctx, dst, &b.entries[i]); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// count adds a finished file to what its engine did.
func (c *copying) count(p *pair, bytes int64) {
	engine, why := p.did()
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.result.Engines[engine]
	if u.Files == 0 {
		u.Why = why
	}
	c.result.Engines[engine] = Usage{u.Files + 1, u.Bytes + bytes, u.Why}
}

// changed says that the source entry at path is not what the plan says.
func changed(path, what string) error {
	return fmt.Errorf("%w: %q: %s", ErrSourceChanged, path, what)
}

// same compares a source entry with what the walk saw of it.
func same(it *Item, s *sys.Stat) error {
	r := &it.Record
	switch {
	case s.Ino != r.Source.Ino:
		return changed(r.Below(), "another inode")
	case s.Mtime != r.Mtime:
		return changed(r.Below(), fmt.Sprintf("modified at %s, was %s", s.Mtime.Time(), r.Mtime.Time()))
	case s.Ctime != r.Source.Ctime:
		return changed(r.Below(), fmt.Sprintf("changed at %s, was %s", s.Ctime.Time(), r.Source.Ctime.Time()))
	case (r.Kind == tree.Regular || r.Kind == tree.HardLink) && s.Size != r.Size:
		return changed(r.Below(), fmt.Sprintf("%d bytes long, was %d", s.Size, r.Size))
	}
	return nil
}

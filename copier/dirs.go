package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// makeDirs makes every directory of the stage. Until sealDirs they are private and
// writable.
func (c *copyRun) makeDirs(ctx context.Context) error {
	if c.stage.IsFile() {
		return nil
	}
	err := c.plan.EachEntry(ctx, func(it *PlanEntry) error {
		if it.Kind != tree.Dir {
			return nil
		}
		return c.makeDir(ctx, it)
	})
	if err != nil {
		return err
	}
	c.defaults, err = c.findDefaults()
	return err
}

func (c *copyRun) makeDir(ctx context.Context, it *PlanEntry) error {
	parent, name, err := c.openParent(it)
	if err != nil {
		return err
	}
	defer parent.Close()
	err = parent.MkdirAt(name, 0o700)
	if c.stage.Resumed && sys.IsErrno(err, unix.EEXIST) {
		return c.reopenDir(ctx, parent, name)
	}
	return err
}

// reopenDir makes a directory of an interrupted copy writable again: that copy may have
// sealed it. An entry that is not a directory is replaced by one.
func (c *copyRun) reopenDir(ctx context.Context, parent *sys.File, name string) error {
	d, err := parent.OpenDirAt(name)
	if sys.IsErrno(err, unix.ENOTDIR, unix.ELOOP) {
		if err := tree.RemoveTree(ctx, parent, name, 1); err != nil {
			return err
		}
		return parent.MkdirAt(name, 0o700)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Chmod(0o700)
}

// openParent opens the parent of a directory of the stage, and returns the name of the
// directory in it.
func (c *copyRun) openParent(it *PlanEntry) (parent *sys.File, name string, err error) {
	if it.Depth == 0 {
		parent, err = c.stage.base.OpenBelow("")
		return parent, StageName, err
	}
	above := it.Path[:max(len(it.Path)-len(it.Name)-1, 0)]
	parent, err = c.stage.openDir(above)
	return parent, it.Name, err
}

// dirPair is a directory of the source and its copy in the stage, both open.
type dirPair struct{ src, dst *sys.File }

// openDirPair opens the directory at path on both sides.
func (c *copyRun) openDirPair(path string) (dirPair, error) {
	src, err := c.openSourceDir(path)
	if err != nil {
		return dirPair{}, err
	}
	dst, err := c.stage.openDir(path)
	if err != nil {
		src.Close()
		return dirPair{}, err
	}
	return dirPair{src, dst}, nil
}

func (d dirPair) closeBoth() {
	d.src.Close()
	d.dst.Close()
}

// emitInStage emits tasks that call do for each entry that matches. A task is a batch of
// one directory; dst is that directory in the stage.
func (c *copyRun) emitInStage(ctx context.Context, emit func(pool.Task) error, match func(*PlanEntry) bool, do func(ctx context.Context, dst *sys.File, it *PlanEntry) error) error {
	return c.plan.eachBatch(ctx, match, func(b *batch) error {
		return emit(func(ctx context.Context, _ *pool.Worker) error {
			dst, err := c.stage.openDir(b.path)
			if err != nil {
				return err
			}
			defer dst.Close()
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

package copier

import (
	"context"
	"strings"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// makeSymlink makes a symbolic link with its metadata.
func (b *batchCopier) makeSymlink(ctx context.Context, it *PlanEntry) error {
	c := b.run
	if c.stage.Resumed {
		if err := c.removeOld(ctx, b.dirs.dst, it.Name); err != nil {
			return err
		}
	}
	if err := b.dirs.dst.SymlinkAt(it.Target, it.Name); err != nil {
		return err
	}
	return c.setMetadata(b.dirs, nil, it, c.defaults)
}

// makeHardLinks emits the tasks that make the further names of files. It runs after all
// files have been read back: a file that is created again must have one name only.
func (c *copyRun) makeHardLinks(ctx context.Context, emit func(pool.Task) error) error {
	if c.plan.HardLinks == 0 {
		return nil
	}
	match := func(it *PlanEntry) bool { return it.Kind == tree.HardLink }
	return c.emitInStage(ctx, emit, match, c.makeHardLink)
}

func (c *copyRun) makeHardLink(ctx context.Context, dst *sys.File, it *PlanEntry) error {
	path, name := "", it.Target
	if i := strings.LastIndexByte(it.Target, '/'); i >= 0 {
		path, name = it.Target[:i], it.Target[i+1:]
	}
	from, err := c.stage.openDir(path)
	if err != nil {
		return err
	}
	defer from.Close()
	if c.stage.Resumed {
		if err := c.removeOld(ctx, dst, it.Name); err != nil {
			return err
		}
	}
	return dst.LinkAt(from, name, it.Name)
}

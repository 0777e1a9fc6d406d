package copier

import (
	"context"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// sealDirs sets the metadata of the directories, each after the directories in it. The
// plan lists a directory before its subdirectories. So when a directory of the same or
// a lower depth follows, or the plan ends, a directory is complete.
func (c *copyRun) sealDirs(ctx context.Context) error {
	var open []PlanEntry
	sealFrom := func(depth int) error {
		for len(open) > depth {
			if ctx.Err() != nil { // syncing many directories takes long
				return context.Cause(ctx)
			}
			last := len(open) - 1
			if err := c.sealDir(&open[last]); err != nil {
				return err
			}
			open = open[:last]
		}
		return nil
	}
	err := c.plan.EachEntry(ctx, func(it *PlanEntry) error {
		if it.Kind != tree.Dir {
			return nil
		}
		err := sealFrom(it.Depth)
		open = append(open, *it)
		return err
	})
	if err != nil {
		return err
	}
	return sealFrom(0)
}

func (c *copyRun) sealDir(it *PlanEntry) error {
	dst, err := c.stage.openDir(it.Path)
	if err != nil {
		return err
	}
	defer dst.Close()
	src := c.src.base
	if it.Xattrs != 0 {
		if src, err = c.openSourceDir(it.Path); err != nil {
			return err
		}
		defer src.Close()
	}
	if err := c.setMetadata(dirPair{src, dst}, dst, it, creationDefaults{}); err != nil {
		return err
	}
	if c.syncEach {
		return c.timedSync(dst.Sync)
	}
	return nil
}

// syncEachBelow is the number of entries up to which every file is synced by itself.
// syncfs would be slower: it waits for the data of all other processes, too.
const syncEachBelow = 1000

// syncsEach reports whether every file and directory of the plan is synced by itself.
// A plan with links cannot do that: a link has no descriptor to sync.
func (p *Plan) syncsEach() bool {
	return p.Entries() <= syncEachBelow && p.Symlinks == 0 && p.HardLinks == 0
}

// syncSmallFiles makes the small files durable before they are read back. It does
// nothing if each of them was synced by itself.
func (c *copyRun) syncSmallFiles() error {
	if c.syncEach {
		return nil
	}
	return c.timedSync(c.stage.state.SyncFS)
}

// SyncStage makes the whole stage and the state dir durable. The caller must have
// written everything else to the state dir, and passes the open files that it wrote
// there. For more than 1,000 entries, or links, it is one syncfs.
func (p *Plan) SyncStage(files ...*sys.File) error {
	if !p.syncsEach() {
		return p.state.SyncFS()
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return p.state.Sync()
}

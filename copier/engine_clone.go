package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

const cloneReason = "source and SSD share extents"

// cloneLargeFiles clones the large files, if cloning works, before anything is read.
// Cloning takes a moment. Computing the sums takes as long as reading the files.
func (c *copyRun) cloneLargeFiles(ctx context.Context, emit func(pool.Task) error) error {
	if c.plan.segments == 0 || !c.stage.clones {
		return nil
	}
	match := func(it *PlanEntry) bool { return it.Kind == tree.Regular && tree.BlockCount(it.Size) > 1 }
	return c.emitInStage(ctx, emit, match, c.cloneLargeFile)
}

func (c *copyRun) cloneLargeFile(ctx context.Context, dst *sys.File, it *PlanEntry) error {
	src, err := c.openSourceDir(it.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	p := filePair{path: it.RelativePath(), size: it.Size}
	if p.in, err = c.openSourceFile(src, c.src.nameOf(it.Name), 0); err != nil {
		return sourceError(p.path, err)
	}
	defer p.in.Close()
	if err := c.checkSource(&p, it); err != nil {
		return err
	}
	if p.out, err = c.openLargeCopy(ctx, dst, it, 0); err != nil {
		return err
	}
	cloned, err := c.cloneFile(&p)
	if err := firstError(err, p.out.Close()); err != nil || !cloned {
		return err
	}
	c.moved.Add(it.Size)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cloned[it.slot] = true
	return nil
}

// cloneFile makes the copy share the extents of the source, and reports whether the file
// system could do that. If the kernel refuses for all files, other files do not try.
func (c *copyRun) cloneFile(p *filePair) (bool, error) {
	if c.noClone.Load() || p.size == 0 {
		return false, nil
	}
	err := p.out.CloneFrom(p.in)
	switch {
	case err == nil:
		p.setEngine(Clone, cloneReason)
		return true, nil
	case sys.IsErrno(err, unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS):
		c.noClone.Store(true)
		return false, nil
	case sys.IsErrno(err, unix.EINVAL, unix.EPERM, unix.EACCES, unix.EBADF, unix.ETXTBSY):
		return false, nil // only this file: its checksum flag differs (btrfs), it is immutable, or a swap file
	}
	return false, err
}

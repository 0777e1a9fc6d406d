package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

const whyClone = "source and SSD share extents"

// cloneLarge clones the large files, where that works, before anything is read. All of
// them are there in a moment; their sums take as long as reading does.
func (c *copying) cloneLarge(ctx context.Context, emit func(pool.Task) error) error {
	if c.plan.segments == 0 || !c.stage.clones {
		return nil
	}
	want := func(it *Item) bool { return it.Kind == tree.Regular && tree.Blocks(it.Size) > 1 }
	return c.inStage(ctx, emit, want, c.cloneOne)
}

func (c *copying) cloneOne(ctx context.Context, dst *sys.File, it *Item) error {
	src, err := c.openSourceDir(it.Path)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // opened for reading
	p := pair{path: it.Below(), size: it.Size}
	if p.in, err = c.openSource(src, c.src.name(it.Name), false); err != nil {
		return sourceError(p.path, err)
	}
	defer p.in.Close() //nolint:errcheck // opened for reading
	if err := c.checkSource(&p, it); err != nil {
		return err
	}
	if p.out, err = c.openLargeCopy(ctx, dst, it, false); err != nil {
		return err
	}
	cloned, err := c.clone(&p)
	if closed := p.out.Close(); err == nil {
		err = closed
	}
	if cloned && err == nil {
		c.moved.Add(it.Size)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cloned[it.slot] = true
	}
	return err
}

// clone shares the extents of the source with the copy, if their file system can
// do that. What is tried and refused for good is not tried for other files.
func (c *copying) clone(p *pair) (bool, error) {
	if c.noClone.Load() || p.size == 0 {
		return false, nil
	}
	err := p.out.Clone(p.in)
	switch {
	case err == nil:
		p.take(Clone, whyClone)
		return true, nil
	case sys.Is(err, unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS):
		c.noClone.Store(true)
		return false, nil
	case sys.Is(err, unix.EINVAL, unix.EPERM, unix.EACCES, unix.EBADF, unix.ETXTBSY):
		return false, nil // this file: checksums differ, immutable, a swap file
	}
	return false, err
}

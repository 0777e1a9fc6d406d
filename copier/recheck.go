package copier

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// recheck looks at every entry of the source once more. Names that came or went
// show in the times of their directory.
func (c *copying) recheck(ctx context.Context, emit func(pool.Task) error) error {
	seen := func(it *Item) bool { return it.Kind != tree.Subdir }
	return c.plan.batches(ctx, seen, func(b *batch) error {
		return emit(func(ctx context.Context, _ *pool.Worker) error { return c.recheckBatch(b) })
	})
}

func (c *copying) recheckBatch(b *batch) error {
	d, err := c.openSourceDir(b.path)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	for i := range b.entries {
		it := &b.entries[i]
		name := c.src.name(it.Name)
		if it.Kind == tree.Dir {
			name = "."
		}
		s, err := d.StatAt(name)
		if sys.Is(err, unix.ENOENT) {
			return changed(it.Below(), "it is gone")
		}
		if err == nil {
			err = same(it, &s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

package copier

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// sourceChanged returns the error for an entry of the source that differs from the plan.
func sourceChanged(path, difference string) error {
	return fmt.Errorf("%w: %q: %s", ErrSourceChanged, path, difference)
}

// sourceError returns the error for an entry of the source that cannot be opened. If the
// entry was removed or replaced, the source has changed.
func sourceError(path string, err error) error {
	switch {
	case sys.IsErrno(err, unix.ENOENT):
		return sourceChanged(path, "it is gone")
	case sys.IsErrno(err, unix.ELOOP, unix.ENOTDIR, unix.ENXIO):
		return sourceChanged(path, "it is of another type now")
	}
	return err
}

// checkSource compares an open file of the source with the plan.
func (c *copyRun) checkSource(p *filePair, it *PlanEntry) error {
	s, err := p.in.Stat()
	if err != nil {
		return err
	}
	if err := checkUnchanged(it, &s); err != nil {
		return err
	}
	p.dev = s.Dev
	return dropDirect(p.in, &s)
}

// checkUnchanged compares an entry of the source with the plan.
func checkUnchanged(it *PlanEntry, s *sys.Stat) error {
	r := &it.Record
	switch {
	case s.Ino != r.Source.Ino:
		return sourceChanged(r.RelativePath(), "it has another inode")
	case s.Mtime != r.Mtime:
		return sourceChanged(r.RelativePath(), fmt.Sprintf("modified at %s, was %s", exactTime(s.Mtime), exactTime(r.Mtime)))
	case s.Ctime != r.Source.Ctime:
		return sourceChanged(r.RelativePath(), fmt.Sprintf("changed at %s, was %s", exactTime(s.Ctime), exactTime(r.Source.Ctime)))
	case (r.Kind == tree.Regular || r.Kind == tree.HardLink) && s.Size != r.Size:
		return sourceChanged(r.RelativePath(), fmt.Sprintf("%d bytes long, was %d", s.Size, r.Size))
	}
	return nil
}

// exactTime formats a time with its nanoseconds: two times may differ in these alone.
func exactTime(t sys.Time) string { return t.Time().UTC().Format(time.RFC3339Nano) }

// recheckSource compares every entry of the source with the plan once more. A name that
// was added or removed shows in the times of its directory.
func (c *copyRun) recheckSource(ctx context.Context, emit func(pool.Task) error) error {
	match := func(it *PlanEntry) bool { return it.Kind != tree.Subdir }
	return c.plan.eachBatch(ctx, match, func(b *batch) error {
		return emit(func(ctx context.Context, _ *pool.Worker) error { return c.recheckBatch(b) })
	})
}

func (c *copyRun) recheckBatch(b *batch) error {
	d, err := c.openSourceDir(b.path)
	if err != nil {
		return err
	}
	defer d.Close()
	for i := range b.entries {
		it := &b.entries[i]
		name := c.src.nameOf(it.Name)
		if it.Kind == tree.Dir {
			name = "."
		}
		s, err := d.StatAt(name)
		if sys.IsErrno(err, unix.ENOENT) {
			return sourceChanged(it.RelativePath(), "it is gone")
		}
		if err != nil {
			return err
		}
		if err := checkUnchanged(it, &s); err != nil {
			return err
		}
	}
	return nil
}

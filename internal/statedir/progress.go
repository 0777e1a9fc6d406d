package statedir

import (
	"context"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
)

// Contents are the leftovers and the copy under way in a state dir.
type Contents struct {
	Trash, Stage bool
	Copying      bool  // a process holds the lock
	CopiedBytes  int64 // of TotalBytes, in the stage
	TotalBytes   int64
}

// Contents looks at the state dir without a lock.
func (d *Dir) Contents(ctx context.Context) (c Contents, err error) {
	if c.Trash, err = d.Has(TrashName); err != nil {
		return c, err
	}
	if c.Stage, err = d.Has(copier.StageName); err != nil {
		return c, err
	}
	if c.Copying, err = d.IsLocked(); err != nil || !c.Stage {
		return c, err
	}
	done, total, err := copier.StageProgress(ctx, d.File)
	if err == nil { // a plan that is being written cannot be read
		c.CopiedBytes, c.TotalBytes = done, total
	}
	return c, nil
}

// CopyProgress returns how much of a shard another process has copied, in bytes, and
// false if that is unknown. It waits for the answer no longer than timeout: with a very
// large shard the count takes long, and on an SSD that hangs it never ends.
func CopyProgress(ctx context.Context, ssd *sys.File, shard string, timeout time.Duration) (done, total int64, known bool) {
	state, err := Open(ssd, shard)
	if err != nil {
		return 0, 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type progress struct{ done, total int64 }
	found := make(chan progress, 1)
	go func() {
		defer state.Close()
		defer close(found)
		if done, total, err := copier.StageProgress(ctx, state.File); err == nil && total > 0 {
			found <- progress{done, total}
		}
	}()
	select {
	case p, known := <-found:
		return p.done, p.total, known
	case <-ctx.Done():
		return 0, 0, false
	}
}

package shardtossd

import (
	"context"
	"errors"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// findSpace checks that the copy fits.
func (op *operation) findSpace(ctx context.Context, plan *copier.Plan, stage *copier.Stage) error {
	return op.withRoom(ctx, func() error { return plan.CheckSpace(ctx, stage, op.Engine) })
}

// withRoom runs a step. If there is no space for it, trash of other shards is
// removed, then their interrupted copies, and the step is tried again.
func (op *operation) withRoom(ctx context.Context, step func() error) error {
	err := step()
	for _, what := range []string{trashName, copier.StageName} {
		var short *copier.SpaceError
		if !errors.As(err, &short) && !sys.NoSpace(err) {
			return err
		}
		if cleared := op.clearOthers(ctx, what); cleared != nil {
			return errs.Join(err, cleared)
		}
		err = step()
	}
	return err
}

// clearOthers removes trash or stage of every shard but this one that nobody has
// locked. What cannot be removed of one does not keep the others' space.
func (op *operation) clearOthers(ctx context.Context, what string) error {
	names, err := stateNames(op.ssd)
	if err != nil {
		return err
	}
	some := false
	for _, name := range names {
		if name == op.name {
			continue
		}
		cleared, err := op.clearOther(ctx, name, what)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			op.warn("the %s of shard %s could not be removed: %v", what, name, err)
		}
		some = some || cleared
	}
	if some { // btrfs and XFS give space back later
		return op.ssd.SyncFS()
	}
	return nil
}

func (op *operation) clearOther(ctx context.Context, name, what string) (cleared bool, err error) {
	s, err := openState(op.ssd, name)
	if err != nil {
		return false, nil // removed meanwhile
	}
	defer s.close() //nolint:errcheck // gives the flock back
	if s.Lock(false) != nil || s.checkLinked() != nil {
		return false, nil // in use
	}
	there, err := s.has(what)
	if !there || err != nil {
		return false, err
	}
	op.info("Removing the %s of shard %s to make room", what, name)
	if what == trashName {
		return true, s.clearTrash(ctx, op.Jobs)
	}
	return true, errs.Join(copier.RemoveStage(ctx, s.File, op.Jobs), copier.DropPlan(ctx, s.File))
}

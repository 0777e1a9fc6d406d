package shardtossd

import (
	"context"
	"errors"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/tree"
)

// findSpace checks that the copy fits. If it does not, trash of other shards is
// removed, then their interrupted copies.
func (op *operation) findSpace(ctx context.Context, plan *copier.Plan, stage *copier.Stage) error {
	check := func() error { return plan.CheckSpace(ctx, stage, op.Engine) }
	err := check()
	for _, what := range []string{trashName, copier.StageName} {
		var short *copier.SpaceError
		if !errors.As(err, &short) {
			return err
		}
		if cleared := op.clearOthers(ctx, what); cleared != nil {
			return errors.Join(err, cleared)
		}
		err = check()
	}
	return err
}

// clearOthers removes trash or stage of every shard but this one that nobody has
// locked.
func (op *operation) clearOthers(ctx context.Context, what string) error {
	names, err := stateNames(op.ssd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == op.name {
			continue
		}
		if err := op.clearOther(ctx, name, what); err != nil {
			return err
		}
	}
	return nil
}

func (op *operation) clearOther(ctx context.Context, name, what string) error {
	s, err := openState(op.ssd, name)
	if err != nil {
		return nil // removed meanwhile
	}
	defer s.close() //nolint:errcheck // gives the flock back
	if s.Lock(false) != nil || s.checkLinked() != nil {
		return nil // in use
	}
	there, err := s.has(what)
	if !there || err != nil {
		return err
	}
	op.info("Removing the %s of shard %s to make room", what, name)
	if what == copier.StageName {
		return copier.RemoveStage(ctx, s.File, op.Jobs)
	}
	return tree.Remove(ctx, s.File, what, op.Jobs)
}

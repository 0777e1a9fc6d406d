package shardtossd

import (
	"context"
	"errors"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
)

// withRoom runs a step. If there is no space for it, trash of other shards is deleted,
// then their interrupted copies, and the step is tried again.
func (op *operation) withRoom(ctx context.Context, step func() error) error {
	err := step()
	for _, room := range statedir.MakingRoom(op.Jobs) {
		var short *copier.SpaceError
		if !errors.As(err, &short) && !sys.IsNoSpace(err) {
			return err
		}
		if cleared := statedir.ClearOthers(ctx, op.shard.SSD, op.shard.Name, room, roomReport{op}); cleared != nil {
			return errs.Join(err, cleared)
		}
		err = step()
	}
	return err
}

// roomReport logs the deletions that make room.
type roomReport struct{ *operation }

// Deleting logs the deletion of a leftover.
func (r roomReport) Deleting(shard, name string) {
	r.info("Removing the %s of shard %s to make room", name, shard)
}

// CannotDelete warns of a leftover that stays.
func (r roomReport) CannotDelete(shard, name string, err error) {
	r.warn("cannot delete the %s of shard %s: %v", name, shard, err)
}

// lockStateWithRoom is lockState, and makes room if the state dir does not fit.
func (op *operation) lockStateWithRoom(ctx context.Context) (state *statedir.Dir, err error) {
	err = op.withRoom(ctx, func() (err error) {
		state, err = op.lockState(ctx)
		return err
	})
	return state, err
}

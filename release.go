package shardtossd

import (
	"context"
	"errors"
	"fmt"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
)

// Release unregisters the user, and deletes the shard if no other user needs it.
//
//	lock → unregister → users left? ─yes─► unlock
//	                       └no─► trash → delete → unlink user file → unlock
//
// The source need not exist. If ctx ends while the shard is deleted, it has left its
// public name; the next Release or Ensure deletes the rest. Errors: ErrUsage,
// ErrLockTimeout, the cause of ctx, or any other failure.
func Release(ctx context.Context, o ReleaseOptions) (*ReleaseResult, error) {
	r := &releasing{operation: newOperation(o.Host, Work{Jobs: o.Jobs, Verbose: o.Verbose}), id: o.ID}
	r.lockTimeout = o.LockTimeout
	err := r.perform(func() error { return r.beginUser(o.Shard, o.ID) }, func() error { return r.run(ctx) })
	return &ReleaseResult{r.summary}, err
}

// releasing is one call of Release.
type releasing struct {
	*operation
	id string
}

func (r *releasing) run(ctx context.Context) error {
	err := r.lockUserFile(ctx, locking.AcquireOptions{})
	if errors.Is(err, locking.ErrNoUserFile) {
		return r.releaseUnknown(ctx)
	}
	if err != nil {
		return err
	}
	state, err := r.openState()
	if err != nil {
		return err
	}
	defer state.Close()
	// The last user leaves only if nothing can keep the shard after that: a shard that
	// this tool did not publish is deleted by the call that unregisters its last user,
	// or never.
	locked, err := r.lockForLast(ctx, state)
	if err != nil {
		return fmt.Errorf("%w; %q is still registered, run -r again", err, r.id)
	}
	defer locked.Close()
	removed, err := r.user.Unregister(r.id)
	if err != nil {
		return fmt.Errorf("unregister %q: %w", r.id, err)
	}
	r.summary.Outcome = Unregistered
	if !removed {
		r.summary.Outcome = NotRegistered
		r.info("%s is not registered as a user of shard %s", r.id, r.shard.Name)
	}
	if len(r.user.Users()) > 0 {
		r.info("Some services need shard: %s Do nothing.", r.shard.Name)
		return nil
	}
	return r.removeShard(ctx, state, locked, published.Facts{RemovedLast: removed})
}

// lockForLast makes and locks the state dir if this call removes the last user of a
// shard that is on the SSD, or that has left something there.
func (r *releasing) lockForLast(ctx context.Context, state *statedir.Dir) (*statedir.Dir, error) {
	users := r.user.Users()
	if len(users) != 1 || users[0] != r.id {
		return nil, nil
	}
	pub, err := r.shard.Stat()
	if err != nil || (pub == nil && state == nil) {
		return nil, err
	}
	if err := r.shard.CheckMovable(pub); err != nil {
		return nil, err
	}
	return r.lockStateWithRoom(ctx)
}

// removeShard deletes a shard without users: the shard itself, if it may be deleted, the
// state dir, and last the user file.
func (r *releasing) removeShard(ctx context.Context, state, locked *statedir.Dir, facts published.Facts) error {
	pub, err := r.shard.Stat()
	if err != nil {
		return err
	}
	facts.Exists, facts.MountPoint = pub != nil, pub != nil && pub.MountPoint
	if facts.Exists && !facts.RemovedLast {
		if facts.Bound, err = r.hasBoundManifest(state, pub); err != nil {
			return err
		}
	}
	switch published.Decide(facts).Remove {
	case published.Delete, published.Nothing:
	case published.CannotMove:
		return r.shard.CheckMovable(pub)
	default:
		r.warn("%s is left: this tool did not publish it, and %s was not its last user", r.shard, r.id)
		return r.clearUnpublished(ctx)
	}
	if pub != nil || facts.RemovedLast {
		r.info("I am last user. Removing shard %s from %s", r.shard.Name, r.SSDDir)
		r.summary.Outcome = Removed
	}
	if pub != nil || state != nil {
		if err := r.deleteShard(ctx, locked, pub); err != nil {
			return err
		}
	}
	if err := r.user.Remove(); err != nil {
		return fmt.Errorf("shard %s is removed, its user file is left: %w", r.shard.Name, err)
	}
	return nil
}

// deleteShard renames the shard away from its public name and deletes it with its
// state dir. Once it is trash, no manifest is bound to it; the manifest goes with the
// rest.
func (r *releasing) deleteShard(ctx context.Context, state *statedir.Dir, pub *sys.Stat) (err error) {
	if state == nil {
		if state, err = r.lockState(ctx); err != nil {
			return err
		}
		defer state.Close()
	}
	if pub != nil {
		if err := r.shard.MoveToTrash(ctx, state, r.Jobs); err != nil {
			return err
		}
	}
	if err := state.Remove(ctx, r.Jobs); err != nil {
		return fmt.Errorf("shard %s has left %s, and is deleted in part: %w; the next -r or -c deletes the rest from %s",
			r.shard.Name, r.SSDDir, err, state.Path())
	}
	return nil
}

// releaseUnknown is a Release without a user file: it may have been lost, or looked for
// in the wrong place. Missing is not empty, so a published shard stays. The leftovers of
// an interrupted first copy go, if they belong to this lock dir.
func (r *releasing) releaseUnknown(ctx context.Context) error {
	r.summary.Outcome = NothingToDo
	r.info("Shard %s has no user file in %s. Do nothing.", r.shard.Name, r.LockDir)
	pub, err := r.shard.Stat()
	if err != nil {
		return err
	}
	if pub != nil {
		r.warn("%s exists without a known user: check -l; if its user file was lost, run -c and -r again for each service", r.shard)
	}
	return r.clearUnpublished(ctx)
}

// clearUnpublished deletes the leftovers of interrupted copies of a shard that is not
// needed, if they belong to this lock dir and no process works on them.
func (r *releasing) clearUnpublished(ctx context.Context) error {
	state, err := statedir.OpenIfExists(r.shard.SSD, r.shard.Name)
	if state == nil || err != nil {
		return err
	}
	defer state.Close()
	if state.CheckLockDir(r.lockDir) != nil || !state.LockIfFree() {
		return nil
	}
	return errs.Join(state.Clear(ctx, statedir.Trash, r.Jobs), r.shard.Discard(ctx, state, r.Jobs))
}

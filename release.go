package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
)

// Release unregisters the user, and deletes the shard if nobody else uses it.
//
//	lock → unregister → users left? ─yes─► unlock
//	                       └no─► trash → delete → unlink user file → unlock
//
// The source need not exist. If ctx ends while the shard is deleted, it is gone
// from its public name; the next Release or Ensure deletes the rest. Errors:
// ErrUsage, ErrLockTimeout, the cause of ctx, or any other failure.
func Release(ctx context.Context, o Options) (*Result, error) {
	op, err := begin(o, opRemove)
	if err == nil {
		err = op.release(ctx)
	}
	return op.end(err)
}

func (op *operation) release(ctx context.Context) error {
	err := op.acquire(ctx, false)
	if errors.Is(err, locking.ErrMissing) {
		return op.releaseUnknown(ctx)
	}
	if err != nil {
		return err
	}
	state, err := op.openStateIfThere()
	if err != nil {
		return err
	}
	if state != nil {
		defer state.close() //nolint:errcheck // gives the flock back
	}
	// The last user goes only when nothing can keep the shard any more: one that
	// this tool did not publish is deleted by the call that unregisters him, or
	// never.
	locked, err := op.lockForLast(ctx, state)
	if err != nil {
		return fmt.Errorf("%w; %q is still registered, run -r again", err, op.ID)
	}
	if locked != nil {
		defer locked.close() //nolint:errcheck // gives the flock back
	}
	removed, err := op.user.Unregister(op.ID)
	if err != nil {
		return fmt.Errorf("unregister %q: %w", op.ID, err)
	}
	op.result.Outcome = Unregistered
	if !removed {
		op.result.Outcome = NotRegistered
		op.info("%s is not registered as a user of shard %s", op.ID, op.name)
	}
	if len(op.user.Users()) > 0 {
		op.info("Some services need shard: %s Do nothing.", op.name)
		return nil
	}
	return op.removeShard(ctx, state, locked, removed)
}

// lockForLast makes and locks the state dir, if this call removes the last user of
// a shard that is there, or that has left something there.
func (op *operation) lockForLast(ctx context.Context, state *stateDir) (locked *stateDir, err error) {
	users := op.user.Users()
	if len(users) != 1 || users[0] != op.ID {
		return nil, nil
	}
	pub, err := op.published()
	if err != nil || (pub == nil && state == nil) {
		return nil, err
	}
	if err := op.refuseMount(pub); err != nil {
		return nil, err
	}
	err = op.withRoom(ctx, func() (err error) {
		locked, err = op.lockState(ctx)
		return err
	})
	return locked, err
}

// removeShard deletes what no user needs any more: the shard, if it may be
// deleted, what the state dir has, and at last the user file.
func (op *operation) removeShard(ctx context.Context, state, locked *stateDir, wasLast bool) error {
	pub, err := op.published()
	if err != nil {
		return err
	}
	if pub != nil {
		may, err := op.mayDelete(state, pub, wasLast)
		if err != nil {
			return err
		}
		if !may {
			op.warn("%s/%s is left: it is not known as what this tool published, and %s was not its last user", op.SSDDir, op.name, op.ID)
			return op.clearUnpublished(ctx)
		}
	}
	if pub != nil || wasLast {
		op.info("I am last user. Removing shard %s from %s", op.name, op.SSDDir)
		op.result.Outcome = Removed
	}
	if pub != nil || state != nil {
		if err := op.deleteShard(ctx, locked, pub); err != nil {
			return err
		}
	}
	if err := op.user.Remove(); err != nil {
		return fmt.Errorf("shard %s is removed, its user file is left: %w", op.name, err)
	}
	return nil
}

// mayDelete holds the two cases in which -r deletes what has the shard's name:
// its manifest is bound to it, or this call removed its last user.
func (op *operation) mayDelete(state *stateDir, pub *sys.Stat, wasLast bool) (bool, error) {
	if wasLast {
		return true, nil
	}
	m, err := op.boundManifest(state, pub)
	if m == nil || err != nil {
		return false, err
	}
	return true, m.Close()
}

// deleteShard renames the shard away from its public name and deletes it with its
// state dir. Nothing is bound to it any more once it is trash, and the manifest
// goes with the rest.
func (op *operation) deleteShard(ctx context.Context, state *stateDir, pub *sys.Stat) error {
	if state == nil {
		var err error
		if state, err = op.lockState(ctx); err != nil {
			return err
		}
		defer state.close() //nolint:errcheck // gives the flock back
	}
	if pub != nil {
		if err := op.toTrash(ctx, state); err != nil {
			return err
		}
	}
	if err := state.remove(ctx, op.Jobs); err != nil {
		return fmt.Errorf("shard %s has left %s, and is deleted in part: %w; the next -r or -c deletes the rest from %s",
			op.name, op.SSDDir, err, state.Path())
	}
	return nil
}

func (op *operation) toTrash(ctx context.Context, state *stateDir) error {
	err := state.clearTrash(ctx, op.Jobs)
	if err == nil {
		err = moveAs(op.ssd, op.name, state.File, trashName, sys.NoReplace)
	}
	if err != nil {
		return fmt.Errorf("remove shard %s: %w; it is left where it is, without users", op.name, err)
	}
	return nil // clearTrash makes it durable first
}

// releaseUnknown is a Release without a user file, which may have been lost, or
// looked for in the wrong place: missing is not empty. A published shard stays;
// what an interrupted first copy has left goes, if it belongs to this lock dir.
func (op *operation) releaseUnknown(ctx context.Context) error {
	op.result.Outcome = NothingToDo
	op.info("Shard %s has no user file in %s. Do nothing.", op.name, op.LockDir)
	pub, err := op.published()
	if err != nil {
		return err
	}
	if pub != nil {
		op.warn("%s/%s is there although nobody is known to use it: if its user file was lost, run -c and -r again for each service", op.SSDDir, op.name)
	}
	return op.clearUnpublished(ctx)
}

// clearUnpublished deletes what interrupted copies have left of a shard that is
// not needed, if that belongs to this lock dir and nobody works on it.
func (op *operation) clearUnpublished(ctx context.Context) error {
	state, err := openState(op.ssd, op.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer state.close() //nolint:errcheck // gives the flock back
	if state.checkLockDir(op.lockDir) != nil || state.Lock(false) != nil || state.checkLinked() != nil {
		return nil
	}
	return errs.Join(state.clearTrash(ctx, op.Jobs), op.tidy(ctx, state, true))
}

package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/locking"
)

// The locks, in the order in which they are taken: the flock of the user file, which
// is held to the end, then that of the state dir. The lock timeout is for both
// together.

// lockUserFile takes the lock of the user file. Unless o.Create is set, the error is
// locking.ErrNoUserFile without a user file.
func (op *operation) lockUserFile(ctx context.Context, o locking.AcquireOptions) error {
	began := time.Now()
	o.Timeout, o.OnWait = op.lockTimeout, func(pid int) { op.reportWaiting(ctx, pid) }
	user, err := locking.Acquire(ctx, op.LockDir, op.shard.Name, o)
	op.summary.LockWait = time.Since(began)
	if err != nil {
		return err
	}
	op.user = user
	op.log(Info, "shard_to_ssd", "Lock on file %s acquired", user.Path())
	return nil
}

// lockUserFileIfExists takes the lock of the user file if that exists: Repair and Adopt
// must not make one. The lock of the state dir is enough to exclude
// other processes of this tool.
func (op *operation) lockUserFileIfExists(ctx context.Context) error {
	err := op.lockUserFile(ctx, locking.AcquireOptions{})
	if errors.Is(err, locking.ErrNoUserFile) {
		return nil
	}
	return err
}

// reportWaiting logs which process holds the lock, and how far its copy is.
func (op *operation) reportWaiting(ctx context.Context, pid int) {
	op.log(Info, "shard_to_ssd", "Waiting for the lock on file %s, held by %s%s",
		filepath.Join(op.LockDir, op.shard.Name+".lock"), statedir.DescribeProcess(pid), op.describeProgress(ctx))
}

// progressTimeout bounds the look at another process's copy, which must not keep this
// process from giving up in time.
const progressTimeout = time.Second

// describeProgress returns how far the copy of another process is, for a message.
func (op *operation) describeProgress(ctx context.Context) string {
	timeout := progressTimeout
	if op.lockTimeout != nil {
		timeout = min(timeout, *op.lockTimeout)
	}
	done, total, known := statedir.CopyProgress(ctx, op.shard.SSD, op.shard.Name, timeout)
	if !known {
		return ""
	}
	return fmt.Sprintf(", which has copied %d%% of %d bytes", done*100/total, total)
}

// stateLockWait returns the rest of the lock timeout after the wait for the user file.
func (op *operation) stateLockWait() *statedir.LockWait {
	w := &statedir.LockWait{Limit: op.lockTimeout, Started: time.Now(), OnWait: func(d *statedir.Dir) {
		op.log(Info, "shard_to_ssd", "Waiting for the lock on state dir %s, held by %s", d.Path(), statedir.DescribeProcess(d.File.LockHolder()))
	}}
	if w.Limit != nil {
		w.Left = *w.Limit - op.summary.LockWait
	}
	return w
}

// openState opens the shard's state dir, and refuses one that belongs to another lock dir.
// It returns nil without a state dir.
func (op *operation) openState() (*statedir.Dir, error) {
	state, err := statedir.OpenIfExists(op.shard.SSD, op.shard.Name)
	if state == nil || err != nil {
		return nil, err
	}
	if err := state.CheckLockDir(op.lockDir); err != nil {
		state.Close()
		return nil, err
	}
	return state, nil
}

// lockState opens the shard's state dir, makes it if it is missing, and locks it.
func (op *operation) lockState(ctx context.Context) (*statedir.Dir, error) {
	if op.shard.IsOnRootFS() {
		op.warn("SSD dir %q is on the root file system: check that the SSD is mounted (--require-mount makes this an error)", op.SSDDir)
	}
	wait := op.stateLockWait()
	defer func() { op.summary.LockWait += time.Since(wait.Started) }()
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		state, err := op.tryLockState(ctx, wait)
		if !errors.Is(err, statedir.ErrUnlinked) {
			return state, err
		}
	}
}

// tryLockState fails with statedir.ErrUnlinked if another process deletes the state
// dir meanwhile.
func (op *operation) tryLockState(ctx context.Context, wait *statedir.LockWait) (*statedir.Dir, error) {
	state, err := statedir.Make(op.shard.SSD, op.shard.Name)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error { return state.CheckLockDir(op.lockDir) },
		func() error { return state.Lock(ctx, wait) },
		func() error { return state.RecordLockDir(op.lockDir) },
	} {
		if err := step(); err != nil {
			state.Close()
			return nil, err
		}
	}
	return state, nil
}

// lockPublished takes the locks of a shard that is published.
func (op *operation) lockPublished(ctx context.Context) (*statedir.Dir, error) {
	if err := op.lockUserFileIfExists(ctx); err != nil {
		return nil, err
	}
	state, err := op.openState()
	if err != nil {
		return nil, err
	}
	if state == nil {
		return nil, op.goneBeforeChange()
	}
	err = state.Lock(ctx, op.stateLockWait())
	if err == nil {
		return state, nil
	}
	state.Close()
	if errors.Is(err, statedir.ErrUnlinked) {
		err = op.goneBeforeChange()
	}
	return nil, err
}

func (op *operation) goneBeforeChange() error {
	return errs.WithKind(fmt.Errorf("shard %s was removed or replaced meanwhile; nothing was changed", op.shard.Name), ErrGone)
}

package statedir

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
)

// ErrUnlinked reports a state dir that was deleted while the caller waited for it.
var ErrUnlinked = errors.New("deleted meanwhile")

// pollInterval is the time between two tries of the flock.
const pollInterval = 20 * time.Millisecond

// Lock takes the flock of the state dir. The user file's lock comes first, so only
// a process that makes room or lists, or one with another lock dir, which is
// refused, can hold it: polling is enough. Errors: ErrUnlinked if the process that
// held it has deleted the state dir, locking.ErrTimeout, the cause of ctx.
func (d *Dir) Lock(ctx context.Context, w *LockWait) error {
	for {
		err := d.File.TryLock()
		if err == nil {
			return d.CheckLinked()
		}
		if sys.IsErrno(err, unix.EWOULDBLOCK) {
			err = w.pause(ctx, d)
		}
		if err != nil {
			return fmt.Errorf("lock state dir %q: %w", d.Path(), err)
		}
	}
}

// LockIfFree takes the flock of the state dir if it is free and the state dir is
// still linked, and reports whether it did.
func (d *Dir) LockIfFree() bool { return d.File.TryLock() == nil && d.CheckLinked() == nil }

// IsLocked reports whether a process works in the state dir. It tries the flock on
// a descriptor of its own, and gives it back at once.
func (d *Dir) IsLocked() (bool, error) {
	f, err := d.OpenBelow("")
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = f.TryLock()
	if sys.IsErrno(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// CheckLinked returns ErrUnlinked if the state dir has lost its name.
func (d *Dir) CheckLinked() error {
	mine, err := d.Stat()
	if err != nil {
		return err
	}
	there, err := d.root.StatAt(d.name)
	if sys.IsErrno(err, unix.ENOENT) || (err == nil && !there.SameFile(&mine)) {
		return ErrUnlinked
	}
	return err
}

// LockWait bounds how long the lock of a state dir is waited for.
type LockWait struct {
	Limit   *time.Duration // of all locks together; nil: no limit
	Left    time.Duration  // of Limit, from Started on
	Started time.Time
	OnWait  func(*Dir) // called once, when the wait is longer than a poll
	polls   int
}

// pause waits until the next try. The first wait is silent and ignores the limit:
// --list holds the lock for less than that, and nothing fails because of it.
func (w *LockWait) pause(ctx context.Context, d *Dir) error {
	switch {
	case w.polls > 0 && w.Limit != nil && time.Since(w.Started) >= w.Left:
		return fmt.Errorf("%w (%v): %s has it", locking.ErrTimeout, *w.Limit, DescribeProcess(d.File.LockHolder()))
	case w.polls == 1:
		w.OnWait(d)
	}
	w.polls++
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollInterval):
		return nil
	}
}

// DescribeProcess names a process in a message. The pid 0 is an unknown one.
func DescribeProcess(pid int) string {
	if pid == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

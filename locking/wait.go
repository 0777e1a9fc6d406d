package locking

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// lockWait is the wait of one Acquire. It may lock several files, one after the other,
// until one of them is current.
type lockWait struct {
	ctx     context.Context
	timeout *time.Duration
	expired <-chan time.Time // nil: never
	onWait  func(pid int)    // nil: not wanted, or called already
}

// lockFile takes f's flock. After an error f is closed, or will be closed soon.
func (w *lockWait) lockFile(f *sys.File) error {
	err := f.TryLock()
	if !sys.IsErrno(err, unix.EWOULDBLOCK) {
		if err != nil {
			f.Close()
		}
		return err
	}
	if w.timeout != nil && *w.timeout <= 0 {
		defer f.Close()
		return w.timeoutError(f)
	}
	if w.onWait != nil {
		w.onWait(f.LockHolder())
		w.onWait = nil
	}
	return w.waitInKernel(f)
}

// waitInKernel waits in flock and does not poll. A poller is not in the kernel's queue:
// processes that are, like the older script, overtake it again and again, and each change
// of the holder takes up to one interval longer.
//
// A thread inside flock cannot be stopped. So when the wait ends early, the thread is left
// behind with f. It closes f when it gets the lock, which takes as long as the holder keeps
// it.
func (w *lockWait) waitInKernel(f *sys.File) error {
	locked, abandoned := make(chan error), make(chan struct{})
	go func() {
		err := f.Lock()
		select {
		case locked <- err:
		case <-abandoned:
			_ = unlockAndClose(f) // Acquire has returned
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
		}
		return err
	case <-w.ctx.Done():
		close(abandoned)
		return context.Cause(w.ctx)
	case <-w.expired:
		defer close(abandoned) // f must stay open until then
		return w.timeoutError(f)
	}
}

func (w *lockWait) timeoutError(f *sys.File) error {
	holder := "another process"
	if pid := f.LockHolder(); pid != 0 {
		holder = fmt.Sprintf("process %d", pid)
	}
	return fmt.Errorf("%w (%v): %s has it", ErrTimeout, *w.timeout, holder)
}

package locking

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// waiter is one Acquire's patience, over all the files that it locks until one
// is current.
type waiter struct {
	ctx     context.Context
	timeout *time.Duration
	expired <-chan time.Time // nil: never
	onWait  func(pid int)    // nil: nobody to tell, or told
}

// lock takes f's flock. On an error f is closed, or will be.
func (w *waiter) lock(f *sys.File) error {
	err := f.Lock(false)
	if !sys.Is(err, unix.EWOULDBLOCK) {
		if err != nil {
			f.Close() //nolint:errcheck // nothing was written
		}
		return err
	}
	if w.timeout != nil && *w.timeout <= 0 {
		defer f.Close() //nolint:errcheck // nothing was written
		return w.tooLate(f)
	}
	if w.onWait != nil {
		w.onWait(Holder(f))
		w.onWait = nil
	}
	return w.block(f)
}

// block waits in the kernel and does not poll: a poller never stands in the
// queue, so that processes which do, like the older script, overtake it without
// end, and it adds its interval to every hand-over. A thread inside flock cannot
// be called back, so when the wait ends early it is left behind with f, and
// gives f up when it gets the lock, which takes as long as the holder likes.
func (w *waiter) block(f *sys.File) error {
	got, gone := make(chan error), make(chan struct{})
	go func() {
		err := f.Lock(true)
		select {
		case got <- err:
		case <-gone:
			unlockAndClose(f) //nolint:errcheck // nobody is left to tell
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			f.Close() //nolint:errcheck // nothing was written
		}
		return err
	case <-w.ctx.Done():
		close(gone)
		return context.Cause(w.ctx)
	case <-w.expired:
		defer close(gone) // until then f is open
		return w.tooLate(f)
	}
}

func (w *waiter) tooLate(f *sys.File) error {
	who := "another process"
	if pid := Holder(f); pid != 0 {
		who = fmt.Sprintf("process %d", pid)
	}
	return fmt.Errorf("%w (%v): %s has it", ErrTimeout, *w.timeout, who)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// interrupted is why a context ended: a signal asked for it.
type interrupted struct{ signal syscall.Signal }

func (i *interrupted) Error() string { return "interrupted by " + unix.SignalName(i.signal) }

// notifyContext returns a context that the first SIGINT, SIGTERM or SIGHUP cancels, with
// an *interrupted as its cause. A second one kills at once.
func notifyContext(h host) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // Notify would undo nohup
			signal.Notify(signals, s)
		}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case received := <-signals:
			signal.Stop(signals)
			why := &interrupted{received.(syscall.Signal)}
			cancel(why)
			h.say("%v, cleaning up; a second signal kills at once and leaves its directory", why)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel(nil)
	}
}

// withSignal names the signal that ended ctx in an error that does not.
func withSignal(ctx context.Context, err error) error {
	why, signalled := errors.AsType[*interrupted](context.Cause(ctx))
	if err == nil || !signalled || errors.Is(err, why) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, why)
}

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
)

// interrupted is why a context ended: a signal asked for it.
type interrupted struct{ signal syscall.Signal }

func (i *interrupted) Error() string {
	return "interrupted by " + unix.SignalName(i.signal)
}

// notifyContext returns a context that the first SIGINT, SIGTERM or SIGHUP
// cancels, with an *interrupted as its cause. A second one has its default action
// and kills: a thread inside syncfs, or a hung NFS call, hears nothing else. stop
// returns when nothing will be said any more.
func notifyContext(out *output) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	if heeded := heededSignals(); len(heeded) > 0 { // Notify of none means all
		signal.Notify(signals, heeded...)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case received := <-signals:
			signal.Stop(signals)
			why := &interrupted{received.(syscall.Signal)}
			cancel(why)
			out.Log(shardtossd.Warning, "root", why.Error()+", stopping; a second signal kills at once")
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

// heededSignals leaves out what the caller had ignored: Notify would undo nohup.
func heededSignals() []os.Signal {
	var heeded []os.Signal
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			heeded = append(heeded, s)
		}
	}
	return heeded
}

// interruption is the signal that ended ctx, or nil.
func interruption(ctx context.Context) error {
	if why, ok := errors.AsType[*interrupted](context.Cause(ctx)); ok {
		return why
	}
	return nil
}

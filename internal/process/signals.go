// Package process is what the programs need of the process that they are: signals, and
// the width of a terminal.
package process

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The kernel gives a signal to the main thread, and if that is in a call that hangs,
// nobody hears of it. So the main thread is kept for the main goroutine, see Run.
func init() { runtime.LockOSThread() }

// Run runs the program in another goroutine, so that the main one, if it calls Run, only
// waits, and returns the program's exit status. SIGPIPE is ignored: a reader of the log
// that has gone away must not end what is under way.
func Run(program func() (status int)) int {
	signal.Ignore(syscall.SIGPIPE)
	status := make(chan int)
	go func() { status <- program() }()
	return <-status
}

// Interrupted is why a context ended: a signal asked for it.
type Interrupted struct{ Signal syscall.Signal }

func (i *Interrupted) Error() string { return "interrupted by " + unix.SignalName(i.Signal) }

// NotifyContext returns a context that the first SIGINT, SIGTERM or SIGHUP cancels,
// with an *Interrupted as its cause, which say is then told. A second one has its default
// action and kills: a thread inside syncfs, or a hung NFS call, hears nothing else. stop
// returns when nothing will be said any more.
func NotifyContext(say func(*Interrupted)) (ctx context.Context, stop func()) {
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
			why := &Interrupted{received.(syscall.Signal)}
			cancel(why)
			say(why)
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

// Interruption is the *Interrupted that ended ctx, or nil.
func Interruption(ctx context.Context) error {
	if why, ok := errors.AsType[*Interrupted](context.Cause(ctx)); ok {
		return why
	}
	return nil
}

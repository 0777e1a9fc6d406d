// Package process has the parts of the programs that concern their process: signals and
// the width of the terminal.
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

// The kernel delivers a signal to the main thread. If that thread hangs in a call, the
// signal has no effect. So the main thread is reserved for the main goroutine, see Run.
func init() { runtime.LockOSThread() }

// Run runs the program in another goroutine and returns its exit status. main must call
// it, so that the main goroutine only waits. SIGPIPE is ignored: when the reader of the
// log goes away, the operation must continue.
func Run(program func() (status int)) int {
	signal.Ignore(syscall.SIGPIPE)
	status := make(chan int)
	go func() { status <- program() }()
	return <-status
}

// Interrupted is the cause of a context that a signal has ended.
type Interrupted struct{ Signal syscall.Signal }

func (i *Interrupted) Error() string { return "interrupted by " + unix.SignalName(i.Signal) }

// NotifyContext returns a context that the first SIGINT, SIGTERM or SIGHUP cancels. The
// cause is an *Interrupted, with which report is called. A second signal has its default
// action and kills the process: nothing else ends a thread inside syncfs or in a hung
// NFS call. After stop has returned, report is not called.
func NotifyContext(report func(*Interrupted)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	if handled := handledSignals(); len(handled) > 0 { // Notify without a signal means all signals
		signal.Notify(signals, handled...)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case received := <-signals:
			signal.Stop(signals)
			why := &Interrupted{received.(syscall.Signal)}
			cancel(why)
			report(why)
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

// handledSignals leaves out signals that the parent process has set to be ignored:
// otherwise Notify would undo nohup.
func handledSignals() []os.Signal {
	var handled []os.Signal
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			handled = append(handled, s)
		}
	}
	return handled
}

// Interruption returns the *Interrupted that ended ctx, or nil.
func Interruption(ctx context.Context) error {
	if why, ok := errors.AsType[*Interrupted](context.Cause(ctx)); ok {
		return why
	}
	return nil
}

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
	"time"

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

// repeatWindow is the time in which the same signal again is still the first one.
// timeout(1) signals its child and then its process group, microseconds apart.
const repeatWindow = time.Second

// NotifyContext returns a context that the first SIGINT, SIGTERM or SIGHUP cancels. The
// cause is an *Interrupted, with which report is called. The same signal within
// repeatWindow is ignored, even after stop. Any other second signal has its default action
// and kills the process: nothing else ends a thread inside syncfs or in a hung NFS call.
// After stop has returned, report is not called.
func NotifyContext(report func(*Interrupted)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	handled := handledSignals()
	signals := make(chan os.Signal, 16) // the first and those right behind it
	if len(handled) > 0 {               // Notify without a signal means all signals
		signal.Notify(signals, handled...)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case received := <-signals:
			ignoreRepeats(received, signals)
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

// ignoreRepeats gives all signals of the channel their default action again, first only
// after repeatWindow. Until then the process handles it without a gap.
func ignoreRepeats(first os.Signal, signals chan os.Signal) {
	repeats := make(chan os.Signal, 1) // is never read
	signal.Notify(repeats, first)
	time.AfterFunc(repeatWindow, func() { signal.Stop(repeats) })
	signal.Stop(signals)
	for {
		select {
		case second := <-signals: // arrived before Stop
			if second != first {
				_ = syscall.Kill(syscall.Getpid(), second.(syscall.Signal)) // this process exists
			}
		default:
			return
		}
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

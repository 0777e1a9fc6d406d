//go:build faults

package sys

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// BatchAfter of a test build lets the smallest shards have their files read at once.
const BatchAfter = 0

// A test build counts its system calls and breaks at some of them. Its environment
// says where:
//
//	SHARD_TO_SSD_FAULT=ACTION@N[/STEP]  at the N-th call, and every STEP-th after it
//	SHARD_TO_SSD_FAULT_ONLY=OP[,OP]     only calls of these operations count
//	SHARD_TO_SSD_FAULT_LOG=FILE         a line for each: N, operation, path, and the
//	                                    action where there was one, tabs between
//
// The actions:
//
//	kill-before, kill-after  SIGKILL to itself, before or after the call
//	stop-before, stop-after  SIGSTOP to itself; it goes on with SIGCONT
//	EIO, ENOSPC, ...         the call is not made and fails; close is made and fails
//	short                    a transfer moves half of what it was asked for
//	zero                     a transfer moves nothing and succeeds
type faultPlan struct {
	action string
	errno  unix.Errno // of an action that is an error
	at     int64      // 0: never
	step   int64      // 0: once
	only   []string   // nil: every call counts
	log    int        // descriptor, -1: none
}

var (
	plan  = planFaults()
	calls atomic.Int64
)

func planFaults() *faultPlan {
	p := &faultPlan{log: -1}
	if spec := os.Getenv("SHARD_TO_SSD_FAULT"); spec != "" {
		p.parse(spec)
	}
	if only := os.Getenv("SHARD_TO_SSD_FAULT_ONLY"); only != "" {
		p.only = strings.Split(only, ",")
	}
	if path := os.Getenv("SHARD_TO_SSD_FAULT_LOG"); path != "" {
		var err error
		p.log, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
		if err != nil {
			badFault("%s: %v", path, err)
		}
	}
	return p
}

// badFault ends the process, which is a test's: nothing may run on with a plan that
// is not the one that was meant.
func badFault(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "faults: "+format+"\n", args...)
	os.Exit(2)
}

func (p *faultPlan) parse(spec string) {
	action, where, _ := strings.Cut(spec, "@")
	at, step, repeated := strings.Cut(where, "/")
	p.action = action
	if _, err := fmt.Sscan(at, &p.at); err != nil || p.at < 1 {
		badFault("%q: wanted ACTION@N[/STEP]", spec)
	}
	if _, err := fmt.Sscan(step, &p.step); repeated && (err != nil || p.step < 1) {
		badFault("%q: wanted ACTION@N[/STEP]", spec)
	}
	switch action {
	case "kill-before", "kill-after", "stop-before", "stop-after", "short", "zero":
		return
	}
	for p.errno = 1; unix.ErrnoName(p.errno) != action; p.errno++ {
		if p.errno == 4095 { // MAX_ERRNO
			badFault("%q: no such action", spec)
		}
	}
}

// attempt is one system call, if it is let.
func attempt(op string, where place, n int, f func(n int) (int, error)) (int, error) {
	if !plan.counts(op) {
		return f(n)
	}
	k := calls.Add(1)
	acts := plan.actsAt(k)
	plan.note(k, op, where, acts)
	if !acts {
		return f(n)
	}
	switch plan.action {
	case "kill-before":
		signalSelf(unix.SIGKILL)
	case "stop-before":
		signalSelf(unix.SIGSTOP)
	case "kill-after":
		f(n) //nolint:errcheck // nobody will ask
		signalSelf(unix.SIGKILL)
	case "stop-after":
		defer signalSelf(unix.SIGSTOP)
	case "short":
		return f(half(n))
	case "zero":
		if n > 0 {
			return 0, nil
		}
	default:
		if op == "close" {
			f(n) //nolint:errcheck // another error takes its place
		}
		return 0, plan.errno
	}
	return f(n)
}

func (p *faultPlan) counts(op string) bool { return p.only == nil || slices.Contains(p.only, op) }

func (p *faultPlan) actsAt(k int64) bool {
	return k == p.at || (p.at > 0 && k > p.at && p.step > 0 && (k-p.at)%p.step == 0)
}

func (p *faultPlan) note(k int64, op string, where place, acts bool) {
	if p.log < 0 {
		return
	}
	line := fmt.Sprintf("%d\t%s\t%q", k, op, where.String())
	if acts {
		line += "\t" + p.action
	}
	if _, err := unix.Write(p.log, []byte(line+"\n")); err != nil {
		badFault("log: %v", err)
	}
}

// half is what a short transfer moves: whole blocks, as direct I/O does, and of
// what may be one such block all.
func half(n int) int {
	switch {
	case n > Align:
		return max(n/2&^(Align-1), Align)
	case n%512 != 0 && n > 1:
		return n / 2
	}
	return n
}

// signalSelf sends the signal to the calling thread, which therefore does not come
// back from here before it has had its effect on the process.
func signalSelf(s unix.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), s) //nolint:errcheck // it exists
}

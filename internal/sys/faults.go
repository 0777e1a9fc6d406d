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

// BatchAfter of a test build makes even the smallest shards use batch reads.
const BatchAfter = 0

// A test build counts its system calls and acts at some of them. Its environment says
// how and where:
//
//	SHARD_TO_SSD_FAULT=ACTION@N[/STEP]  at the N-th call, and every STEP-th after it
//	SHARD_TO_SSD_FAULT_ONLY=OP[,OP]     only calls of these operations count
//	SHARD_TO_SSD_FAULT_LOG=FILE         one line for each call: N, operation, path, and
//	                                    the action if there was one, separated by tabs
//
// The actions:
//
//	kill-before, kill-after  SIGKILL to itself, before or after the call
//	stop-before, stop-after  SIGSTOP to itself; SIGCONT resumes it
//	EIO, ENOSPC, ...         the call fails and is not made, except that close is made
//	short                    a transfer moves half of its bytes
//	zero                     a transfer moves no bytes and succeeds
type faultPlan struct {
	action string
	errno  unix.Errno // of an action that is an error
	at     int64      // 0: never
	step   int64      // 0: once
	only   []string   // nil: every call counts
	log    int        // descriptor, -1: none
}

var (
	plan  = planFromEnvironment()
	calls atomic.Int64
)

func planFromEnvironment() *faultPlan {
	p := &faultPlan{log: -1}
	if spec := os.Getenv("SHARD_TO_SSD_FAULT"); spec != "" {
		p.parseAction(spec)
	}
	if only := os.Getenv("SHARD_TO_SSD_FAULT_ONLY"); only != "" {
		p.only = strings.Split(only, ",")
	}
	if path := os.Getenv("SHARD_TO_SSD_FAULT_LOG"); path != "" {
		var err error
		p.log, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
		if err != nil {
			badFault("open log %s: %v", path, err)
		}
	}
	return p
}

// badFault ends the process, which belongs to a test: a test must not run with another
// plan than the one that was meant.
func badFault(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "faults: "+format+"\n", args...)
	os.Exit(2)
}

func (p *faultPlan) parseAction(spec string) {
	action, where, _ := strings.Cut(spec, "@")
	at, step, repeated := strings.Cut(where, "/")
	p.action = action
	if _, err := fmt.Sscan(at, &p.at); err != nil || p.at < 1 {
		badFault("got %q, want ACTION@N[/STEP]", spec)
	}
	if _, err := fmt.Sscan(step, &p.step); repeated && (err != nil || p.step < 1) {
		badFault("got %q, want ACTION@N[/STEP]", spec)
	}
	switch action {
	case "kill-before", "kill-after", "stop-before", "stop-after", "short", "zero":
		return
	}
	for p.errno = 1; unix.ErrnoName(p.errno) != action; p.errno++ {
		if p.errno == 4095 { // MAX_ERRNO
			badFault("unknown action in %q", spec)
		}
	}
}

// callOnce makes one system call, or acts as the plan says.
func callOnce(op string, where place, n int, f func(n int) (int, error)) (int, error) {
	if !plan.countsCall(op) {
		return f(n)
	}
	k := calls.Add(1)
	acts := plan.actsAt(k)
	plan.logCall(k, op, where, acts)
	if !acts {
		return f(n)
	}
	switch plan.action {
	case "kill-before":
		signalSelf(unix.SIGKILL)
	case "stop-before":
		signalSelf(unix.SIGSTOP)
	case "kill-after":
		_, _ = f(n) // the process ends before anything could use the result
		signalSelf(unix.SIGKILL)
	case "stop-after":
		defer signalSelf(unix.SIGSTOP)
	case "short":
		return f(shortCount(n))
	case "zero":
		if n > 0 {
			return 0, nil
		}
	default:
		if op == "close" {
			_, _ = f(n) // the planned error replaces this one
		}
		return 0, plan.errno
	}
	return f(n)
}

func (p *faultPlan) countsCall(op string) bool { return p.only == nil || slices.Contains(p.only, op) }

func (p *faultPlan) actsAt(k int64) bool {
	return k == p.at || (p.at > 0 && k > p.at && p.step > 0 && (k-p.at)%p.step == 0)
}

func (p *faultPlan) logCall(k int64, op string, where place, acts bool) {
	if p.log < 0 {
		return
	}
	line := fmt.Sprintf("%d\t%s\t%q", k, op, where.String())
	if acts {
		line += "\t" + p.action
	}
	if _, err := unix.Write(p.log, []byte(line+"\n")); err != nil {
		badFault("write log: %v", err)
	}
}

// shortCount returns how many of n bytes a short transfer moves: whole blocks, as direct
// I/O does, and all of it if it may be a single such block.
func shortCount(n int) int {
	switch {
	case n > Align:
		return max(n/2&^(Align-1), Align)
	case n%512 != 0 && n > 1:
		return n / 2
	}
	return n
}

// signalSelf sends the signal to the calling thread. So the thread does not return from
// here before the signal has had its effect on the process.
func signalSelf(s unix.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), s) // cannot fail: the thread exists
}

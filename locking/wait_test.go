package locking

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

type duration = time.Duration

func TestZeroTimeoutOnlyTries(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	onWait := func(int) { t.Error("OnWait called") }
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{Timeout: new(duration), OnWait: onWait})
	wantError(t, err, ErrTimeout)
	if want := fmt.Sprintf("process %d has it", p.cmd.Process.Pid); !strings.Contains(err.Error(), want) {
		t.Errorf("got error %q, want %q in it", err, want)
	}
	p.waitForEnd(t)
	mustAcquire(t, dir, AcquireOptions{Timeout: new(duration)})
}

func TestTimeoutExpires(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	timeout, calls := 20*time.Millisecond, 0
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{Timeout: &timeout, OnWait: func(int) { calls++ }})
	wantError(t, err, ErrTimeout)
	wantEqual(t, "calls of OnWait", calls, 1)
}

func TestLockFreedWithinTimeout(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	timeout := time.Hour
	mustAcquire(t, dir, AcquireOptions{Timeout: &timeout, OnWait: func(int) { p.waitForEnd(t) }})
}

func TestOnWaitNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	var holders []int
	mustAcquire(t, dir, AcquireOptions{OnWait: func(pid int) {
		holders = append(holders, pid)
		p.waitForEnd(t)
	}})
	wantEqual(t, "holders passed to OnWait", fmt.Sprint(holders), fmt.Sprint([]int{p.cmd.Process.Pid}))
}

// The file is replaced during the wait, and another process locks the new one, too.
func TestOnWaitIsCalledOnce(t *testing.T) {
	dir, path := lockDirWith(t, "")
	first, calls, unlocked := mustAcquire(t, dir, AcquireOptions{}), 0, make(chan error, 1)
	onWait := func(int) {
		calls++
		if calls > 1 {
			return
		}
		noError(t, first.Remove())
		second, err := Acquire(t.Context(), dir, "shard", AcquireOptions{Create: true})
		noError(t, err)
		noError(t, first.Unlock())
		ino := inodeOf(t, path)
		go func() {
			for !waitsFor(ino) {
				runtime.Gosched()
			}
			unlocked <- second.Unlock()
		}()
	}
	u, err := Acquire(t.Context(), dir, "shard", AcquireOptions{OnWait: onWait})
	noError(t, err)
	noError(t, u.Unlock())
	noError(t, <-unlocked)
	wantEqual(t, "calls of OnWait", calls, 1)
}

// When the context ends during the wait, Acquire returns although the lock is still held.
// The goroutine that it leaves behind later releases the lock and ends.
func TestCancelDuringWait(t *testing.T) {
	dir, path := lockDirWith(t, "")
	held := mustAcquire(t, dir, AcquireOptions{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	failed := make(chan error)
	go func() {
		_, err := Acquire(ctx, dir, "shard", AcquireOptions{})
		failed <- err
	}()
	ino := inodeOf(t, path)
	waitUntil(t, "a waiter in /proc/locks", func() bool { return waitsFor(ino) })
	cancel(cause)
	wantError(t, <-failed, cause)
	noError(t, held.Unlock())
	noError(t, mustAcquire(t, dir, AcquireOptions{}).Unlock())
	waitUntil(t, "no descriptor of the user file", func() bool { return !isOpen(t, path) })
}

// waitsFor reports whether a process waits for the lock of the inode.
func waitsFor(ino uint64) bool {
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", ino)) {
			return true
		}
	}
	return false
}

func isOpen(t *testing.T, path string) bool {
	fds, err := os.ReadDir("/proc/self/fd")
	noError(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && to == path {
			return true
		}
	}
	return false
}

// waitUntil polls for a change that the kernel does not report.
func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

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

func TestTimeoutZeroOnlyTries(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	onWait := func(int) { t.Error("OnWait called") }
	_, err := Acquire(t.Context(), dir, "shard", Options{Timeout: new(duration), OnWait: onWait})
	wantError(t, err, ErrTimeout)
	if want := fmt.Sprintf("process %d has it", p.cmd.Process.Pid); !strings.Contains(err.Error(), want) {
		t.Errorf("error %q: wanted %q in it", err, want)
	}
	p.waitForEnd(t)
	mustAcquire(t, dir, Options{Timeout: new(duration)})
}

func TestTimeout(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	timeout, told := 20*time.Millisecond, 0
	_, err := Acquire(t.Context(), dir, "shard", Options{Timeout: &timeout, OnWait: func(int) { told++ }})
	wantError(t, err, ErrTimeout)
	wantEqual(t, "calls of OnWait", told, 1)
}

func TestLockFreedWithinTimeout(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	timeout := time.Hour
	mustAcquire(t, dir, Options{Timeout: &timeout, OnWait: func(int) { p.waitForEnd(t) }})
}

func TestOnWaitNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "hold", dir, "shard")
	p.expectLine(t, "ready")
	var told []int
	mustAcquire(t, dir, Options{OnWait: func(pid int) {
		told = append(told, pid)
		p.waitForEnd(t)
	}})
	wantEqual(t, "told", fmt.Sprint(told), fmt.Sprint([]int{p.cmd.Process.Pid}))
}

// The file is replaced while we wait, and the new one is locked too.
func TestOnWaitIsCalledOnce(t *testing.T) {
	dir, path := lockDirWith(t, "")
	first, calls, unlocked := mustAcquire(t, dir, Options{}), 0, make(chan error, 1)
	onWait := func(int) {
		calls++
		if calls > 1 {
			return
		}
		noError(t, first.Remove())
		second, err := Acquire(t.Context(), dir, "shard", Options{Create: true})
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
	u, err := Acquire(t.Context(), dir, "shard", Options{OnWait: onWait})
	noError(t, err)
	noError(t, u.Unlock())
	noError(t, <-unlocked)
	wantEqual(t, "calls of OnWait", calls, 1)
}

// Cancelled deep in the wait: Acquire returns while the lock is still held, and
// what it leaves behind gives the lock back and goes.
func TestCancelDuringWait(t *testing.T) {
	dir, path := lockDirWith(t, "")
	held := mustAcquire(t, dir, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	failed := make(chan error)
	go func() {
		_, err := Acquire(ctx, dir, "shard", Options{})
		failed <- err
	}()
	ino := inodeOf(t, path)
	waitUntil(t, "a waiter in /proc/locks", func() bool { return waitsFor(ino) })
	cancel(cause)
	wantError(t, <-failed, cause)
	noError(t, held.Unlock())
	noError(t, mustAcquire(t, dir, Options{}).Unlock())
	waitUntil(t, "no descriptor of the user file", func() bool { return !isOpen(t, path) })
}

// waitsFor reports whether anybody waits for the lock of the inode.
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

// waitUntil is for what the kernel tells nobody about.
func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

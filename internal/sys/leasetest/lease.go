// Package leasetest holds leases on files, as Samba and NFS servers do, for tests of
// programs that open these files.
package leasetest

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Lease is a write lease (F_SETLEASE): while it lasts, an open by another process waits,
// or fails with EAGAIN if it has O_NONBLOCK.
type Lease struct {
	t      testing.TB
	path   string
	fd     int
	wanted chan struct{} // closed when an open has asked for the file
	// Close gives the lease up, if it still lasts. The end of the test calls it, too.
	Close func()
}

// HoldUntilWanted holds a lease until an open asks for the file. Then it calls before,
// if that is not nil, and gives the lease up.
func HoldUntilWanted(t testing.TB, path string, before func()) *Lease {
	t.Helper()
	return hold(t, path, func(l *Lease) {
		if before != nil {
			before()
		}
		if err := l.setType(unix.F_UNLCK); err != nil {
			t.Errorf("give up the lease on %s: %v", path, err)
		}
	})
}

// HoldForever holds a lease until the test ends, or the kernel takes it away: that is
// /proc/sys/fs/lease-break-time seconds after an open has asked for the file.
func HoldForever(t testing.TB, path string) *Lease {
	t.Helper()
	return hold(t, path, func(*Lease) {})
}

// WasWanted reports whether an open has asked for the file.
func (l *Lease) WasWanted() bool {
	select {
	case <-l.wanted:
		return true
	default:
		return false
	}
}

func hold(t testing.TB, path string, onWanted func(*Lease)) *Lease {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(&os.PathError{Op: "open", Path: path, Err: err})
	}
	l := &Lease{t: t, path: path, fd: fd, wanted: make(chan struct{})}
	signals, ended, stopped := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, unix.SIGIO)
	go func() {
		defer close(stopped)
		l.watch(signals, ended, onWanted)
	}()
	l.Close = sync.OnceFunc(func() {
		signal.Stop(signals)
		close(ended)
		<-stopped
		unix.Close(fd)
	})
	t.Cleanup(l.Close)
	if err := l.setType(unix.F_WRLCK); err != nil {
		t.Fatalf("set a lease on %s: %v", path, err)
	}
	return l
}

func (l *Lease) setType(kind int) error {
	_, err := unix.FcntlInt(uintptr(l.fd), unix.F_SETLEASE, kind)
	return err
}

// watch waits for the first signal that belongs to this lease. The kernel sends the
// signal of all leases to the process, and F_GETLEASE returns the type that this lease
// has to become.
func (l *Lease) watch(signals <-chan os.Signal, ended <-chan struct{}, onWanted func(*Lease)) {
	for {
		select {
		case <-ended:
			return
		case <-signals:
		}
		kind, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETLEASE, 0)
		if err != nil {
			l.t.Errorf("get the lease on %s: %v", l.path, err)
			return
		}
		if kind != unix.F_WRLCK {
			close(l.wanted)
			onWanted(l)
			return
		}
	}
}

// SetBreakTime sets for how many seconds the kernel leaves a lease to its holder after
// an open has asked for the file, until the test ends. It is a setting of the whole
// machine, and needs root.
func SetBreakTime(t testing.TB, seconds int) {
	t.Helper()
	const path = "/proc/sys/fs/lease-break-time"
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(value string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { write(strings.TrimSpace(string(before))) })
	write(strconv.Itoa(seconds))
}

package torture

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/faultfs"
)

// hangs are calls of a first copy that may hang.
var hangs = []faultfs.Fault{
	{Op: faultfs.Read, Name: "source/shard/big", Skip: 1, Times: 1},
	{Op: faultfs.Write, Name: "stage/big", Skip: 2, Times: 1},
	{Op: faultfs.Sync, Name: "stage/dir/small", Times: 1},
	{Op: faultfs.Sync, Name: "stage/big", Times: 1},
	{Op: faultfs.Read, Name: "stage/big", Skip: 1, Times: 1},
	{Op: faultfs.Sync, Name: "manifest.new", Times: 1},
	{Op: faultfs.Rename, Name: "shard/manifest", Times: 1},
}

// hung is a command with a call that hangs.
type hung struct {
	disk     *faultfs.FS
	h        *host
	cmd      *exec.Cmd
	release  chan struct{}
	injected *faultfs.Injected
	errors   strings.Builder // its standard error
	ended    chan struct{}
	mu       sync.Mutex
	data     []dataCall
}

// dataCall is a read or write of data, and the time when it began.
type dataCall struct {
	faultfs.Call
	at time.Time
}

func startHung(t *testing.T, f faultfs.Fault, flags ...string) *hung {
	t.Helper()
	disk, h := lyingHost(t, program(t))
	return beginHung(t, disk, h, h.command("-c", "a", flags...), f)
}

// beginHung starts a command on the disk, and returns when one of its calls hangs.
func beginHung(t *testing.T, disk *faultfs.FS, h *host, cmd *exec.Cmd, f faultfs.Fault) *hung {
	t.Helper()
	u := &hung{disk: disk, h: h, cmd: cmd, release: make(chan struct{})}
	u.cmd.Stderr = &u.errors
	disk.WatchCalls(func(c faultfs.Call) {
		if (c.Op == faultfs.Read || c.Op == faultfs.Write) && c.Len > 4096 {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.data = append(u.data, dataCall{c, time.Now()})
		}
	})
	f.Hang = u.release
	injected := disk.Inject(f)
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = u.cmd.Wait() // the state is checked later
		close(ended)
	}()
	select {
	case <-injected.Triggered():
	case <-ended:
		t.Fatalf("%+v: it ended before the call: %v\n%s", f, u.cmd.ProcessState, u.errors.String())
	}
	t.Cleanup(func() { <-ended })
	u.ended, u.injected = ended, injected
	return u
}

// A copy with a call that hangs publishes nothing. After a signal it ends when the call
// returns, and from a second after the signal on it starts no reads and writes.
func TestSignalWhileItHangs(t *testing.T) {
	for i, f := range hangs {
		for j, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			if *torture == 0 && (i+j+int(*seed))%2 > 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s of %s, %v", f.Op, f.Name, signal), func(t *testing.T) {
				t.Parallel() // each takes more than a second
				u := startHung(t, f, "--jobs", fmt.Sprint(1+3*j))
				sent := time.Now()
				if err := u.cmd.Process.Signal(signal); err != nil {
					t.Error(err)
				}
				<-time.After(time.Second)
				waiting := transfersOf(t, u.cmd.Process.Pid)
				<-time.After(200 * time.Millisecond)
				if _, err := os.Lstat(u.h.published()); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("it is published while a call hangs, or lstat failed: %v", err)
				}
				close(u.release)
				<-u.ended
				if err := u.endedBy(signal, sent, waiting); err != nil {
					t.Errorf("%v\n%s", err, u.errors.String())
				}
			})
		}
	}
	count("signals to a copy that hangs", len(hangs))
}

// transfer is a read or write in progress.
type transfer struct{ off, n int64 }

// transfersOf returns the transfers of a process at this moment. The kernel lets one
// direct write to a file wait for another, so a write may reach the disk long after the
// process issued it.
func transfersOf(t *testing.T, pid int) (all []transfer) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, threads, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended, or the kernel does not show it
		}
		var number, fd, buf, n, off int64
		if _, err := fmt.Sscanf(string(text), "%d %v %v %v %v", &number, &fd, &buf, &n, &off); err == nil &&
			(number == unix.SYS_PREAD64 || number == unix.SYS_PWRITE64) {
			all = append(all, transfer{off, n})
		}
	}
	return all
}

func (u *hung) endedBy(signal syscall.Signal, sent time.Time, waiting []transfer) error {
	if got := statusOf(u.cmd.ProcessState); got != 128+int(signal) {
		return fmt.Errorf("got status %d, want %d", got, 128+int(signal))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.data {
		issued := func(t transfer) bool { return t.off <= c.Off && c.Off < t.off+t.n }
		if after := c.at.Sub(sent); after > time.Second && !u.sameCall(c.Call) && !slices.ContainsFunc(waiting, issued) {
			return fmt.Errorf("%v after the signal it issued %+v; one second after the signal it waited for %v", after, c.Call, waiting)
		}
	}
	u.disk.WatchCalls(nil)
	return errors.Join(u.h.checkNotPublished(), u.h.checkRecovery())
}

// sameCall reports whether this is a part of the system call that hung: the kernel
// splits a call into several.
func (u *hung) sameCall(c faultfs.Call) bool {
	hung := u.injected.FirstCall()
	return c.Op == hung.Op && c.Path == hung.Path && c.Off/blockSize == hung.Off/blockSize
}

// A signal has its effect while the first call on a disk hangs, and not only when the
// call returns.
func TestSignalIsHeardWhileItHangs(t *testing.T) {
	u := startHung(t, faultfs.Fault{Op: faultfs.Lookup, Name: "locks/shard.lock", Times: 1})
	if err := u.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	waitUntil(t, func() bool { return signalTaken(t, u.cmd.Process.Pid, syscall.SIGTERM) })
	close(u.release)
	<-u.ended
	if got := statusOf(u.cmd.ProcessState); got != 128+int(syscall.SIGTERM) {
		t.Errorf("got status %d\n%s", got, u.errors.String())
	}
	if err := errors.Join(u.h.checkNotPublished(), u.h.checkRecovery()); err != nil {
		t.Error(err)
	}
}

// signalTaken reports whether a process has handled a signal: it is no longer pending.
func signalTaken(t *testing.T, pid int, signal syscall.Signal) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), "\nShdPnd:")
	var pending uint64
	if _, err := fmt.Sscanf(line, "%x", &pending); err != nil {
		t.Fatalf("pending signals in %s: %v", text, err)
	}
	return pending&(1<<(signal-1)) == 0
}

// While a call hangs, nothing is published and no user is registered.
func TestHangingPublishesNothing(t *testing.T) {
	for i, f := range hangs {
		if *torture == 0 && (i+int(*seed))%3 > 0 {
			continue
		}
		u := startHung(t, f)
		if err := u.h.checkSound(nil); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
		if _, err := os.Lstat(u.h.published()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%+v: it is published, or lstat failed: %v", f, err)
		}
		close(u.release)
		<-u.ended
		if got := statusOf(u.cmd.ProcessState); got != 0 {
			t.Errorf("%+v: status %d\n%s", f, got, u.errors.String())
		}
		if err := errors.Join(u.h.checkSound([]string{"a"}), u.h.checkRecovery()); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// A source that hangs does not prevent registering for a shard on the SSD, does not
// keep the lock, and delays the answer only briefly. (The process ends when the call
// returns, because FUSE does not interrupt a call that its server has begun. NFS does.)
func TestHangingSourceOfPresentShard(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.Lookup, faultfs.Stat} {
		disk, h := lyingHost(t, program(t))
		if o := runCommand(h.command("-c", "a")); o.status != 0 {
			t.Fatal(o)
		}
		release := make(chan struct{})
		disk.Inject(faultfs.Fault{Op: op, Name: "source/shard", Hang: release})
		waits := h.command("-c", "b", "--json")
		var said strings.Builder
		waits.Stderr = &said
		answer, err := waits.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := waits.Start(); err != nil {
			t.Fatal(err)
		}
		users := []string{"a", "b"}
		waitUntil(t, func() bool { got, err := h.users(); return err == nil && slices.Equal(got, users) })
		if o := runCommand(h.command("-r", "a", "--lock-timeout", "10s")); o.status != 0 {
			t.Errorf("%s: another call: %v", op, o)
		}
		line, err := bufio.NewReader(answer).ReadString('\n') // while the source hangs
		if err != nil || !strings.Contains(line, `"outcome":"already-on-ssd"`) {
			t.Errorf("%s: the answer: %q, %v", op, line, err)
		}
		close(release)
		if err := waits.Wait(); err != nil || !strings.Contains(said.String(), "does not answer") {
			t.Errorf("%s: %v\n%s", op, err, &said)
		}
		if err := errors.Join(h.checkSound([]string{"b"}), h.checkRecovery()); err != nil {
			t.Error(err)
		}
	}
	count("sources that hang", 2)
}

// A removal or verification with a call that hangs ends within a second after the call
// returns, if it got a signal. The published name is then deleted or complete.
func TestSignalWhileRemovalOrVerifyHangs(t *testing.T) {
	for _, c := range []struct {
		mode, id string
		flags    []string
		fault    faultfs.Fault
	}{
		{"-r", "a", nil, faultfs.Fault{Op: faultfs.Sync, Name: "locks/shard.lock", Times: 1}},
		{"-r", "a", nil, faultfs.Fault{Op: faultfs.Rename, Name: "shard/trash", Times: 1}},
		{"-r", "a", nil, faultfs.Fault{Op: faultfs.Unlink, Name: "trash/big", Times: 1}},
		{"--verify", "", []string{"--jobs", "1"}, faultfs.Fault{Op: faultfs.Open, Name: "shard/manifest", Times: 1}},
		{"--verify", "", []string{"--jobs", "1"}, faultfs.Fault{Op: faultfs.Read, Name: "ssd/shard/big", Skip: 1, Times: 1}},
	} {
		t.Run(fmt.Sprintf("%s, %s of %s", c.mode, c.fault.Op, c.fault.Name), func(t *testing.T) {
			disk, h := lyingHost(t, program(t))
			if o := runCommand(h.command("-c", "a")); o.status != 0 {
				t.Fatal(o)
			}
			u := beginHung(t, disk, h, h.command(c.mode, c.id, c.flags...), c.fault)
			if err := u.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			close(u.release)
			<-u.ended
			// From the rename on, a removal blocks signals and succeeds.
			if got := statusOf(u.cmd.ProcessState); got != 128+int(syscall.SIGTERM) && (got != 0 || c.mode != "-r") {
				t.Errorf("got status %d\n%s", got, u.errors.String())
			}
			if err := h.checkRecovery(); err != nil {
				t.Error(err)
			}
		})
	}
}

// waitUntil polls for a state that no event reports.
func waitUntil(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("timeout")
		}
	}
}

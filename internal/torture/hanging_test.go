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

// hangs are calls of a first copy that may never come back.
var hangs = []faultfs.Fault{
	{Op: faultfs.Read, Name: "source/shard/big", Skip: 1, Times: 1},
	{Op: faultfs.Write, Name: "stage/big", Skip: 2, Times: 1},
	{Op: faultfs.Sync, Name: "stage/dir/small", Times: 1},
	{Op: faultfs.Sync, Name: "stage/big", Times: 1},
	{Op: faultfs.Read, Name: "stage/big", Skip: 1, Times: 1},
	{Op: faultfs.Sync, Name: "manifest.new", Times: 1},
	{Op: faultfs.Rename, Name: "shard/manifest", Times: 1},
}

// hung is a command that hangs.
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

// dataCall is a read or write of data, and when it began.
type dataCall struct {
	faultfs.Call
	at time.Time
}

func startHung(t *testing.T, f faultfs.Fault, flags ...string) *hung {
	t.Helper()
	disk, h := lyingHost(t, program(t))
	return beginHung(t, disk, h, h.command("-c", "a", flags...), f)
}

// beginHung starts a command on the disk, and returns when it hangs in a call.
func beginHung(t *testing.T, disk *faultfs.FS, h *host, cmd *exec.Cmd, f faultfs.Fault) *hung {
	t.Helper()
	u := &hung{disk: disk, h: h, cmd: cmd, release: make(chan struct{})}
	u.cmd.Stderr = &u.errors
	disk.Watch(func(c faultfs.Call) {
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
		u.cmd.Wait() //nolint:errcheck // its state is looked at
		close(ended)
	}()
	select {
	case <-injected.Met():
	case <-ended:
		t.Fatalf("%+v: it ended without the call: %v\n%s", f, u.cmd.ProcessState, u.errors.String())
	}
	t.Cleanup(func() { <-ended })
	u.ended, u.injected = ended, injected
	return u
}

// A copy in which a call hangs publishes nothing, ends after a signal when the call
// comes back, and issues no reads and writes from a second after the signal on.
func TestSignalWhileItHangs(t *testing.T) {
	for i, f := range hangs {
		for j, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			if *torture == 0 && (i+j+int(*seed))%2 > 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s of %s, %v", f.Op, f.Name, signal), func(t *testing.T) {
				t.Parallel() // each waits more than a second
				u := startHung(t, f, "--jobs", fmt.Sprint(1+3*j))
				sent := time.Now()
				if err := u.cmd.Process.Signal(signal); err != nil {
					t.Error(err)
				}
				<-time.After(time.Second)
				waiting := transfersOf(t, u.cmd.Process.Pid)
				<-time.After(200 * time.Millisecond)
				if _, err := os.Lstat(u.h.published()); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("it is published while a call hangs, or: %v", err)
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

// transfer is a read or write that a process is in.
type transfer struct{ off, n int64 }

// transfersOf are those of a process now: the kernel lets one direct write to a file
// wait for another, so that it comes here long after it was issued.
func transfersOf(t *testing.T, pid int) (all []transfer) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, threads, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended, or the kernel does not tell
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
	if got := status(u.cmd.ProcessState); got != 128+int(signal) {
		return fmt.Errorf("status %d, wanted %d", got, 128+int(signal))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.data {
		issued := func(t transfer) bool { return t.off <= c.Off && c.Off < t.off+t.n }
		if after := c.at.Sub(sent); after > time.Second && !u.sameCall(c.Call) && !slices.ContainsFunc(waiting, issued) {
			return fmt.Errorf("%v after the signal it issued %+v; a second after it, it waited for %v", after, c.Call, waiting)
		}
	}
	u.disk.Watch(nil)
	return errors.Join(u.h.notPublished(), u.h.recovers())
}

// sameCall reports what the kernel goes on with of the system call that hung: it
// comes here in pieces.
func (u *hung) sameCall(c faultfs.Call) bool {
	hung := u.injected.First()
	return c.Op == hung.Op && c.Path == hung.Path && c.Off/blockSize == hung.Off/blockSize
}

// A signal is heard while the very first call on a disk hangs, not when it comes back.
func TestSignalIsHeardWhileItHangs(t *testing.T) {
	u := startHung(t, faultfs.Fault{Op: faultfs.Lookup, Name: "locks/shard.lock", Times: 1})
	if err := u.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	eventually(t, func() bool { return heard(t, u.cmd.Process.Pid, syscall.SIGTERM) })
	close(u.release)
	<-u.ended
	if got := status(u.cmd.ProcessState); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d\n%s", got, u.errors.String())
	}
	if err := errors.Join(u.h.notPublished(), u.h.recovers()); err != nil {
		t.Error(err)
	}
}

// heard reports whether a process has taken a signal: the kernel has it no more.
func heard(t *testing.T, pid int, signal syscall.Signal) bool {
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

// Until a call that hangs comes back nothing is published and nobody registered.
func TestHangingPublishesNothing(t *testing.T) {
	for i, f := range hangs {
		if *torture == 0 && (i+int(*seed))%3 > 0 {
			continue
		}
		u := startHung(t, f)
		if err := u.h.sound(nil); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
		if _, err := os.Lstat(u.h.published()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%+v: it is published, or: %v", f, err)
		}
		close(u.release)
		<-u.ended
		if got := status(u.cmd.ProcessState); got != 0 {
			t.Errorf("%+v: status %d\n%s", f, got, u.errors.String())
		}
		if err := errors.Join(u.h.sound([]string{"a"}), u.h.recovers()); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// A source that does not answer keeps nobody from registering for a shard that is
// on the SSD, nor from the lock, nor for long from the answer. (The process ends when
// the call comes back: FUSE lets nobody out of one that its server has begun. NFS does.)
func TestHangingSourceOfPresentShard(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.Lookup, faultfs.Stat} {
		disk, h := lyingHost(t, program(t))
		if o := run(h.command("-c", "a")); o.status != 0 {
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
		eventually(t, func() bool { got, err := h.users(); return err == nil && slices.Equal(got, users) })
		if o := run(h.command("-r", "a", "--lock-timeout", "10s")); o.status != 0 {
			t.Errorf("%s: another call: %v", op, o)
		}
		line, err := bufio.NewReader(answer).ReadString('\n') // while it hangs
		if err != nil || !strings.Contains(line, `"outcome":"already-on-ssd"`) {
			t.Errorf("%s: the answer: %q, %v", op, line, err)
		}
		close(release)
		if err := waits.Wait(); err != nil || !strings.Contains(said.String(), "does not answer") {
			t.Errorf("%s: %v\n%s", op, err, &said)
		}
		if err := errors.Join(h.sound([]string{"b"}), h.recovers()); err != nil {
			t.Error(err)
		}
	}
	count("sources that hang", 2)
}

// A removal or a verification that hangs in a call ends by a signal when the call comes
// back, within a second, and what was promised holds: the name is gone or whole.
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
			if o := run(h.command("-c", "a")); o.status != 0 {
				t.Fatal(o)
			}
			u := beginHung(t, disk, h, h.command(c.mode, c.id, c.flags...), c.fault)
			if err := u.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			close(u.release)
			<-u.ended
			// From the rename on signals wait: then it has ended well.
			if got := status(u.cmd.ProcessState); got != 128+int(syscall.SIGTERM) && (got != 0 || c.mode != "-r") {
				t.Errorf("status %d\n%s", got, u.errors.String())
			}
			if err := h.recovers(); err != nil {
				t.Error(err)
			}
		})
	}
}

// eventually polls for what nothing tells of.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come")
		}
	}
}

package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/faultfs"
	"shard_to_ssd/internal/testkit"
)

// holders are processes that are stopped while they have the lock. a, b and c are the
// users before a removal. The fourth rename of a copy publishes the shard.
var holders = []task{
	{do: "-c", id: "x", fault: "write:stop-before@3"},
	{do: "-c", id: "x", fault: "rename:stop-before@4"},
	{do: "-c", id: "x", fault: "rename:stop-after@4"},
	{do: "-r", id: "a", fault: "flock:stop-after@1"},
	{do: "-r", id: "a", fault: "truncate:stop-before@1"},
}

// holdingHost makes a host on which a holder is stopped.
func holdingHost(t *testing.T, holder task) (*host, *witness, *process) {
	t.Helper()
	h, _ := sabotagedHost(t, t.TempDir())
	w := newWitness(h)
	if holder.do == "-r" {
		for _, id := range []string{"a", "b", "c"} {
			if _, err := w.runTask(task{do: "-c", id: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return h, w, startStopped(t, w, holder)
}

// startStopped starts a process and waits until it has stopped.
func startStopped(t *testing.T, w *witness, k task) *process {
	t.Helper()
	p, err := w.startProcess(k)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.halted:
	case <-p.ended:
		t.Fatalf("%v: it ended without this call: %v", k, p.result)
	}
	return p
}

// startWaiting starts a process and waits until it is one of n in the queue for the
// lock of the user file.
func startWaiting(t *testing.T, w *witness, k task, n int) *process {
	t.Helper()
	p, err := w.startProcess(k)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.waits:
	case <-p.ended:
		t.Fatalf("%v: it ended without waiting: %v", k, p.result)
	}
	waitUntil(t, func() bool { return countQueued(t, w.shards[k.shard].userFile()) >= n })
	return p
}

// countQueued returns the number of processes that wait in the kernel for the flock of
// a file.
func countQueued(t *testing.T, path string) (n int) {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", s.Ino)) {
			n++
		}
	}
	return n
}

// checkOneError wants this status, and one error line that contains all of the words.
func (o outcome) checkOneError(status int, words ...string) error {
	lines := regexp.MustCompile(`(?m)^ERROR:.*$`).FindAllString(o.err, -1)
	if o.status != status || len(lines) != 1 {
		return fmt.Errorf("want status %d and one line with an error, got %v", status, o)
	}
	for _, word := range words {
		if !strings.Contains(lines[0], word) {
			return fmt.Errorf("want %q in the error, got %v", word, o)
		}
	}
	return checkJSON(o)
}

// checkFinished lets a stopped process end. Then all events must have an explanation,
// and the host must be in order.
func checkFinished(w *witness, holder *process) error {
	if err := holder.resume(); err != nil {
		return err
	}
	<-holder.ended
	if holder.failed != nil {
		return holder.failed
	}
	w.statShard(0)
	return errors.Join(w.readUserFile(0), w.explain(), checkCleared(w.shards[0]))
}

// A process that waits for the lock ends after a signal, while the holder still has the
// lock, and changes nothing.
func TestSignalWhileWaiting(t *testing.T) {
	for i, holder := range holders {
		for j, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			for k, do := range []string{"-c", "-r"} {
				if *torture == 0 && (i+j+k+int(*seed))%2 > 0 {
					continue
				}
				h, w, p := holdingHost(t, holder)
				waiter := startWaiting(t, w, task{do: do, id: "b", signal: signal, after: time.Hour}, 1)
				before := testkit.SnapshotTree(filepath.Dir(h.ssd))
				if err := waiter.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				<-waiter.ended
				err := waiter.result.checkOneError(128+int(signal), h.userFile(), "interrupted by "+unix.SignalName(signal))
				if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(filepath.Dir(h.ssd))); len(changed) > 0 {
					err = errors.Join(err, fmt.Errorf("changed: %s", strings.Join(changed, "\n")))
				}
				if err := errors.Join(err, checkFinished(w, p)); err != nil {
					t.Errorf("holder %v, signal %v to a waiting %s: %v", holder, signal, do, err)
				}
				count("signals to processes that wait for the lock", 1)
			}
		}
	}
}

// A process that gives up names the lock and its holder, and changes nothing.
func TestLockTimeout(t *testing.T) {
	for _, holder := range holders {
		h, w, p := holdingHost(t, holder)
		before := testkit.SnapshotTree(filepath.Dir(h.ssd))
		for _, timeout := range []string{"0", "200ms"} {
			for _, do := range []string{"-c", "-r"} {
				o, err := w.runTask(task{do: do, id: "b", flags: []string{"--lock-timeout", timeout}})
				if err == nil {
					err = o.checkOneError(5, h.userFile(), "lock not obtained in time", fmt.Sprintf("process %d has it", p.Process.Pid))
				}
				if waits := strings.Contains(o.err, "Waiting for the lock"); err == nil && waits != (timeout != "0") {
					err = fmt.Errorf("it reported that it waits: %v: %v", waits, o)
				}
				if err != nil {
					t.Errorf("holder %v, %s --lock-timeout %s: %v", holder, do, timeout, err)
				}
				count("timeouts of the lock", 1)
			}
		}
		if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(filepath.Dir(h.ssd))); len(changed) > 0 {
			t.Errorf("holder %v: changed: %s", holder, strings.Join(changed, "\n"))
		}
		if err := checkFinished(w, p); err != nil {
			t.Errorf("holder %v: %v", holder, err)
		}
	}
}

// queued are the processes behind a holder. The second one deletes a new shard, so that
// the next ones wait for a user file that is deleted.
var queued = []task{{do: "-c", id: "d"}, {do: "-r", id: "d"}, {do: "-r", id: "a"}, {do: "-c", id: "e"}, {do: "-c", id: "f"}, {do: "-c", id: "a"}}

// The holder is killed while other processes wait. All of them get the lock, one after
// the other, and no registration and no data is lost.
func TestHolderKilledWhileOthersWait(t *testing.T) {
	for _, holder := range holders {
		holder.signal, holder.after = syscall.SIGKILL, time.Hour
		h, w, p := holdingHost(t, holder)
		var waiters []*process
		for i, k := range queued {
			waiters = append(waiters, startWaiting(t, w, k, i+1))
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		err := errors.Join(p.failed, waitAll(waiters), h.checkWhole())
		w.statShard(0)
		if err := errors.Join(err, w.readUserFile(0), w.explain(), checkCleared(h)); err != nil {
			t.Errorf("holder %v: %v", holder, err)
		}
		count("processes that waited while the holder was killed", len(waiters))
	}
}

// The lock of one shard does not delay processes of another shard.
func TestAnotherShardIsNotWaitedFor(t *testing.T) {
	for _, holder := range holders {
		h, _, p := holdingHost(t, holder)
		other := *h
		other.source = filepath.Join(filepath.Dir(h.source), "other")
		testkit.Apply(t, filepath.Dir(h.source), testkit.TextFile("other/file", "of another shard"))
		w := newWitness(&other)
		for _, k := range []task{{do: "-c", id: "a"}, {do: "-c", id: "b"}, {do: "--verify"}, {do: "--list"}, {do: "-r", id: "a"}, {do: "-r", id: "b"}} {
			if k.id != "" {
				k.flags = []string{"--lock-timeout", "0"}
			}
			if o, err := w.runTask(k); err != nil || o.status != 0 || strings.Contains(o.err, "Waiting") {
				t.Errorf("holder %v, another shard's %v: %v, %v", holder, k, err, o)
			}
		}
		if len(namesIn(other.locks)) != 1 {
			t.Errorf("holder %v: the lock dir contains %q", holder, namesIn(other.locks))
		}
		if err := errors.Join(p.resume(), checkCleared(h)); err != nil {
			t.Errorf("holder %v: %v", holder, err)
		}
	}
}

// lockDirectory takes the flock of a directory for this process.
func lockDirectory(t *testing.T, dir string) (unlock func()) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		t.Fatalf("lock %s: %v", dir, err)
	}
	open := true
	unlock = func() {
		if open {
			open = false
			unix.Close(fd)
		}
	}
	t.Cleanup(unlock)
	return unlock
}

// stateWait is a call that needs the lock of the state dir, which this process has.
type stateWait struct {
	name    string
	prepare func(h *host) error
	task
	users []string // after the call
}

var stateWaits = []stateWait{
	{"a copy that goes on", stoppedAt("rename", 3), task{do: "-c", id: "a"}, []string{"a"}},
	{"a copy that makes the user file", withoutUserFile, task{do: "-c", id: "a"}, []string{"a"}},
	{"the removal of a shard", copiedFor("a"), task{do: "-r", id: "a"}, nil},
	{"the removal of an orphan", orphanedShard, task{do: "-r", id: "x"}, nil},
	{"the removal of a stage", abandonedCopy, task{do: "-r", id: "a"}, nil},
}

// abandonedCopy prepares an interrupted copy that has a user.
func abandonedCopy(h *host) error {
	return errors.Join(stoppedAt("rename", 2)(h), os.WriteFile(h.userFile(), []byte("a"), 0o644))
}

// The wait for the lock of the state dir is like that for the user file: it ends with
// the timeout or a signal, and one line reports it. A call that gives up changes
// nothing.
func TestStateDirIsWaitedFor(t *testing.T) {
	for _, c := range stateWaits {
		h, _ := sabotagedHost(t, t.TempDir())
		if err := c.prepare(h); err != nil {
			t.Fatal(err)
		}
		before, unlock := testkit.SnapshotTree(filepath.Dir(h.ssd)), lockDirectory(t, h.stateDir())
		err := errors.Join(c.checkGivesUp(newWitness(h), "0", 0), c.checkGivesUp(newWitness(h), "200ms", 1), c.checkInterrupted(newWitness(h)), checkUnchanged(h, before))
		if err := errors.Join(err, c.checkContinued(newWitness(h), unlock)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		count("waits for a state dir", 4)
	}
}

// checkUnchanged reports changes on the host, except the times of the lock dir: a user
// file may have been made and deleted there.
func checkUnchanged(h *host, before testkit.Tree) error {
	for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(filepath.Dir(h.ssd))) {
		if !strings.HasPrefix(line, `"locks": mtime`) && !strings.HasPrefix(line, `"locks": ctime`) {
			return fmt.Errorf("changed: %s", line)
		}
	}
	return nil
}

// checkWaitLine wants the line about waiting this number of times.
func (c *stateWait) checkWaitLine(o outcome, h *host, times int) error {
	line := fmt.Sprintf("INFO:shard_to_ssd:Waiting for the lock on state dir %s, held by process %d\n", h.stateDir(), os.Getpid())
	if strings.Count(o.err, line) != times || strings.Count(o.err, "Waiting") != times {
		return fmt.Errorf("got %[3]v, want %[1]d times %[2]q", times, line, o)
	}
	return nil
}

func (c *stateWait) checkGivesUp(w *witness, timeout string, says int) error {
	k := c.task
	k.flags = []string{"--lock-timeout", timeout}
	o, err := w.runTask(k)
	if err != nil {
		return err
	}
	has := fmt.Sprintf("process %d has it", os.Getpid())
	return errors.Join(o.checkOneError(5, w.shards[0].stateDir(), "lock not obtained in time ("+timeout, has), c.checkWaitLine(o, w.shards[0], says))
}

func (c *stateWait) checkInterrupted(w *witness) error {
	k := c.task
	k.signal, k.after = syscall.SIGTERM, time.Hour
	p, err := w.startProcess(k)
	if err != nil {
		return err
	}
	p.waitSettled()
	if err := p.Process.Signal(k.signal); err != nil {
		return fmt.Errorf("it ended before the signal: %w: %v", err, p.result)
	}
	<-p.ended
	return errors.Join(p.result.checkOneError(128+15, w.shards[0].stateDir(), "interrupted by SIGTERM"), c.checkWaitLine(p.result, w.shards[0], 1))
}

// checkContinued checks the result when the lock is released during the wait.
func (c *stateWait) checkContinued(w *witness, unlock func()) error {
	p, err := w.startProcess(c.task)
	if err != nil {
		return err
	}
	p.waitSettled()
	unlock()
	<-p.ended
	if p.failed != nil {
		return p.failed
	}
	h := w.shards[0]
	return errors.Join(c.checkWaitLine(p.result, h, 1), h.checkSound(c.users), h.checkRecovery())
}

// A call that does not wait is not refused because another process has the lock of the
// state dir for a moment, as --list does.
func TestStateDirLockedForAMoment(t *testing.T) {
	for _, c := range stateWaits {
		h, _ := sabotagedHost(t, t.TempDir())
		if err := c.prepare(h); err != nil {
			t.Fatal(err)
		}
		unlock, k := lockDirectory(t, h.stateDir()), c.task
		k.flags, k.fault = []string{"--lock-timeout", "0"}, "flock:stop-after@2"
		p := startStopped(t, newWitness(h), k)
		unlock()
		if err := p.resume(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if err := errors.Join(p.failed, c.checkWaitLine(p.result, h, 0), h.checkSound(c.users), h.checkRecovery()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if p.result.status != 0 {
			t.Errorf("%s: %v", c.name, p.result)
		}
	}
}

// The two locks share one timeout: time spent on the first is not available for the
// second.
func TestLocksShareTheTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for _, c := range stateWaits {
		h, _ := sabotagedHost(t, t.TempDir())
		if err := c.prepare(h); err != nil {
			t.Fatal(err)
		}
		lockDirectory(t, h.stateDir())
		k := c.task
		k.flags, k.fault = []string{"--lock-timeout", timeout.String()}, "flock:stop-before@1"
		p := startStopped(t, newWitness(h), k)
		<-time.After(timeout)
		if err := p.resume(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if err := errors.Join(p.result.checkOneError(5, h.stateDir()), c.checkWaitLine(p.result, h, 0)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A process can give up even if the SSD hangs, although it then cannot report the
// progress of the holder's copy.
func TestWaitingOnADiskThatHangs(t *testing.T) {
	for _, test := range []struct {
		flags  []string
		signal syscall.Signal
		status int
	}{{[]string{"--lock-timeout", "200ms"}, 0, 5}, {nil, syscall.SIGTERM, 128 + 15}} {
		disk, h := lyingHost(t, faulty(t))
		w := newWitness(h)
		holder := startStopped(t, w, task{do: "-c", id: "a", fault: "rename:stop-before@4"})
		disk.DropCache()
		hang := make(chan struct{})
		read := disk.Inject(faultfs.Fault{Op: faultfs.Read, Name: "plan", Hang: hang})
		waiter, err := w.startProcess(task{do: "-c", id: "b", flags: test.flags, signal: test.signal, after: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		<-read.Triggered()
		if test.signal != 0 {
			if err := waiter.Process.Signal(test.signal); err != nil {
				t.Error(err)
			}
		}
		<-waiter.ended
		close(hang)
		if err := errors.Join(waiter.result.checkOneError(test.status, h.userFile()), checkFinished(w, holder)); err != nil {
			t.Errorf("%v, %v: %v", test.flags, test.signal, err)
		}
	}
}

// The user file is lost during a copy, and -r finds none: it must not clear the stage
// of the running copy.
func TestCopyWhoseUserFileIsLost(t *testing.T) {
	for _, fault := range []string{"write:stop-before@3", "rename:stop-before@4"} {
		h, _ := sabotagedHost(t, t.TempDir())
		w := newWitness(h)
		p := startStopped(t, w, task{do: "-c", id: "a", fault: fault})
		if err := os.Remove(h.userFile()); err != nil {
			t.Fatal(err)
		}
		before := testkit.SnapshotTree(h.ssd)
		o, err := w.runTask(task{do: "-r", id: "b"})
		if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(h.ssd)); err != nil || o.status != 0 || len(changed) > 0 {
			t.Errorf("%s: -r during the copy: %v, changed: %q: %v", fault, err, changed, o)
		}
		if err := p.resume(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		err = p.result.checkOneError(1, h.userFile(), "removed or replaced", "run -c again")
		if err := errors.Join(err, h.checkWhole(), h.checkRecovery("--replace")); err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}
}

// A list is shortened in place. If the process is killed, the rest of the longer list
// must not be read as users: "b" over "aa\nb" would give "ba" and "b".
func TestShorterListKilled(t *testing.T) {
	for _, c := range []struct{ list, leaves string }{
		{"aa\nb", "aa"}, {"a\nbbb", "a"}, {"aaa\nbb\nc", "aaa"}, {"aaa\nbb\nc", "bb"}, {"aaa\nb", "b"}, {"b\naaa", "b"},
	} {
		for _, fault := range []string{"write:kill-after@1", "fdatasync:kill-before@1", "fdatasync:kill-after@1", "truncate:kill-before@1", "truncate:kill-after@1"} {
			h, _ := sabotagedHost(t, t.TempDir())
			before := strings.Split(c.list, "\n")
			if err := usedBy(before...)(h); err != nil {
				t.Fatal(err)
			}
			o, err := newWitness(h).runTask(task{do: "-r", id: c.leaves, fault: fault})
			if o.status != 128+9 {
				t.Errorf("%q: %s: %v: %v", c.list, fault, err, o)
			}
			after := slices.DeleteFunc(slices.Clone(before), func(id string) bool { return id == c.leaves })
			if err := errors.Join(h.checkSound(before, after), h.checkRecovery()); err != nil {
				t.Errorf("%q without %q: %s: %v", c.list, c.leaves, fault, err)
			}
			count("kills while a list is shortened", 1)
		}
	}
}

// inspection is a process that is stopped at each of its system calls, while its
// descriptors are checked.
type inspection struct {
	pid   int
	stops int
	seen  map[string]bool // the paths that were open at some time
	err   error
}

// inspectCommand runs a command to its end. It replaces Wait of the command.
func inspectCommand(c *exec.Cmd) (*inspection, int, error) {
	c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT=stop-after@1/1")
	if err := c.Start(); err != nil {
		return nil, 0, err
	}
	x := &inspection{pid: c.Process.Pid, seen: map[string]bool{}}
	hung := time.AfterFunc(2*tooLong, func() { c.Process.Kill() })
	defer hung.Stop()
	defer func() { _ = c.Process.Release() }() // it was reaped here
	for {
		var s unix.WaitStatus
		if _, err := unix.Wait4(x.pid, &s, unix.WUNTRACED, nil); err == unix.EINTR {
			continue
		} else if err != nil {
			return x, 0, err
		}
		if !s.Stopped() {
			return x, s.ExitStatus(), x.err
		}
		x.stops++
		if err := x.checkDescriptors(); err != nil && x.err == nil {
			x.err = fmt.Errorf("at its call %d: %w", x.stops, err)
		}
		if err := unix.Kill(x.pid, unix.SIGCONT); err != nil {
			return x, 0, err
		}
	}
}

// checkDescriptors wants close-on-exec on every descriptor, except the first three and
// those that the process inherited from this one.
func (x *inspection) checkDescriptors() error {
	dir := fmt.Sprintf("/proc/%d/", x.pid)
	for _, fd := range namesIn(dir + "fd") {
		to, err := os.Readlink(dir + "fd/" + fd)
		if err != nil {
			return err
		}
		x.seen[to] = true
		if here, err := os.Readlink("/proc/self/fd/" + fd); err == nil && here == to || len(fd) == 1 && fd <= "2" {
			continue
		}
		info, err := os.ReadFile(dir + "fdinfo/" + fd)
		if err != nil {
			return err
		}
		if !regexp.MustCompile(`flags:\s+0[0-7]*[2367][0-7]{6}\n`).Match(info) { // O_CLOEXEC is 02000000
			return fmt.Errorf("a child would inherit descriptor %s, %s: %q", fd, to, info)
		}
	}
	return nil
}

// A child process never inherits a descriptor, and with it a lock.
func TestNoDescriptorIsInherited(t *testing.T) {
	h, _ := sabotagedHost(t, t.TempDir())
	testkit.Apply(t, h.source, testkit.File("large", 9<<20, 1), testkit.Symlink("a", "link"), testkit.Hardlink("a", "hard"))
	for _, c := range []struct {
		mode, id string
		open     []string // these must be open at some time
	}{
		{"-c", "a", []string{h.stateDir(), h.stateDir() + "/stage/large", h.source + "/large", h.stateDir() + "/journal"}},
		{"-c", "b", []string{h.userFile(), h.stateDir(), h.stateDir() + "/manifest"}},
		{"--verify", "", []string{h.published() + "/large", h.stateDir() + "/manifest"}},
		{"--list", "", []string{h.userFile(), h.stateDir()}},
		{"-r", "b", []string{h.userFile()}},
		{"-r", "a", []string{h.userFile(), h.stateDir(), h.locks, h.ssd}},
	} {
		x, status, err := inspectCommand(h.command(c.mode, c.id, "--jobs", "2"))
		if err != nil || status != 0 {
			t.Fatalf("%s %s: status %d, %v", c.mode, c.id, status, err)
		}
		for _, path := range c.open {
			if !x.seen[path] {
				t.Errorf("%s %s: %s was never open, of %d paths", c.mode, c.id, path, len(x.seen))
			}
		}
		count("system calls at which all descriptors were checked", x.stops)
	}
	if err := h.checkTraceless(); err != nil {
		t.Error(err)
	}
}

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

// holders are processes that are stopped while they have the lock; a, b and c are
// the users before a removal. The fourth rename of a copy publishes.
var holders = []task{
	{do: "-c", id: "x", fault: "write:stop-before@3"},
	{do: "-c", id: "x", fault: "rename:stop-before@4"},
	{do: "-c", id: "x", fault: "rename:stop-after@4"},
	{do: "-r", id: "a", fault: "flock:stop-after@1"},
	{do: "-r", id: "a", fault: "truncate:stop-before@1"},
}

// holding is a host on which a holder is stopped.
func holding(t *testing.T, holder task) (*host, *witness, *process) {
	t.Helper()
	h, _ := sabotaged(t, t.TempDir())
	w := watch(h)
	if holder.do == "-r" {
		for _, id := range []string{"a", "b", "c"} {
			if _, err := w.perform(task{do: "-c", id: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return h, w, stopped(t, w, holder)
}

// stopped starts a process and waits until it has stopped.
func stopped(t *testing.T, w *witness, k task) *process {
	t.Helper()
	p, err := w.start(k)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.halted:
	case <-p.ended:
		t.Fatalf("%v: it makes no such call: %v", k, p.result)
	}
	return p
}

// waiting starts a process and waits until it stands in the queue for the user
// file's lock, as one of n.
func waiting(t *testing.T, w *witness, k task, n int) *process {
	t.Helper()
	p, err := w.start(k)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.waits:
	case <-p.ended:
		t.Fatalf("%v: it does not wait: %v", k, p.result)
	}
	eventually(t, func() bool { return queue(t, w.shards[k.shard].userFile()) >= n })
	return p
}

// queue is how many processes the kernel has waiting for the flock of a file.
func queue(t *testing.T, path string) (n int) {
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

// one wants status, and one line with an error that has all of the words.
func (o outcome) one(status int, words ...string) error {
	lines := regexp.MustCompile(`(?m)^ERROR:.*$`).FindAllString(o.err, -1)
	if o.status != status || len(lines) != 1 {
		return fmt.Errorf("want status %d and one line with an error, got %v", status, o)
	}
	for _, word := range words {
		if !strings.Contains(lines[0], word) {
			return fmt.Errorf("want %q in the error, got %v", word, o)
		}
	}
	return jsonSays(o)
}

// finished lets a stopped process end, and wants all that happened explained, and
// the host in order.
func finished(w *witness, holder *process) error {
	if err := holder.goOn(); err != nil {
		return err
	}
	<-holder.ended
	if holder.failed != nil {
		return holder.failed
	}
	w.stat(0)
	return errors.Join(w.read(0), w.explain(), cleared(w.shards[0]))
}

// Who waits for the lock and gets a signal ends while the holder still has it, and
// has changed nothing.
func TestSignalWhileWaiting(t *testing.T) {
	for i, holder := range holders {
		for j, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			for k, do := range []string{"-c", "-r"} {
				if *torture == 0 && (i+j+k+int(*seed))%2 > 0 {
					continue
				}
				h, w, p := holding(t, holder)
				waiter := waiting(t, w, task{do: do, id: "b", signal: signal, after: time.Hour}, 1)
				before := testkit.Snapshot(filepath.Dir(h.ssd))
				if err := waiter.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				<-waiter.ended
				err := waiter.result.one(128+int(signal), h.userFile(), "interrupted by "+unix.SignalName(signal))
				if changed := testkit.Diff(before, testkit.Snapshot(filepath.Dir(h.ssd))); len(changed) > 0 {
					err = errors.Join(err, fmt.Errorf("changed: %s", strings.Join(changed, "\n")))
				}
				if err := errors.Join(err, finished(w, p)); err != nil {
					t.Errorf("holder %v, %v to a waiting %s: %v", holder, signal, do, err)
				}
				count("signals to who waits for the lock", 1)
			}
		}
	}
}

// Who gives up says which lock, and who has it, and has changed nothing.
func TestLockTimeout(t *testing.T) {
	for _, holder := range holders {
		h, w, p := holding(t, holder)
		before := testkit.Snapshot(filepath.Dir(h.ssd))
		for _, timeout := range []string{"0", "200ms"} {
			for _, do := range []string{"-c", "-r"} {
				o, err := w.perform(task{do: do, id: "b", flags: []string{"--lock-timeout", timeout}})
				if err == nil {
					err = o.one(5, h.userFile(), "lock not obtained in time", fmt.Sprintf("process %d has it", p.Process.Pid))
				}
				if waits := strings.Contains(o.err, "Waiting for the lock"); err == nil && waits != (timeout != "0") {
					err = fmt.Errorf("says that it waits: %v: %v", waits, o)
				}
				if err != nil {
					t.Errorf("holder %v, %s --lock-timeout %s: %v", holder, do, timeout, err)
				}
				count("waits for the lock given up", 1)
			}
		}
		if changed := testkit.Diff(before, testkit.Snapshot(filepath.Dir(h.ssd))); len(changed) > 0 {
			t.Errorf("holder %v: changed: %s", holder, strings.Join(changed, "\n"))
		}
		if err := finished(w, p); err != nil {
			t.Errorf("holder %v: %v", holder, err)
		}
	}
}

// queued wait behind a holder. Of a new shard the second deletes it, so that those
// behind stand in the queue of a user file that is gone.
var queued = []task{{do: "-c", id: "d"}, {do: "-r", id: "d"}, {do: "-r", id: "a"}, {do: "-c", id: "e"}, {do: "-c", id: "f"}, {do: "-c", id: "a"}}

// The holder is killed while others stand in the queue: all of them get in, one
// after the other, and nobody and nothing is lost.
func TestHolderKilledWhileOthersWait(t *testing.T) {
	for _, holder := range holders {
		holder.signal, holder.after = syscall.SIGKILL, time.Hour
		h, w, p := holding(t, holder)
		var waiters []*process
		for i, k := range queued {
			waiters = append(waiters, waiting(t, w, k, i+1))
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		err := errors.Join(p.failed, finish(waiters), h.whole())
		w.stat(0)
		if err := errors.Join(err, w.read(0), w.explain(), cleared(h)); err != nil {
			t.Errorf("holder %v: %v", holder, err)
		}
		count("processes that waited while the holder was killed", len(waiters))
	}
}

// A shard's lock is in nobody's way who wants another shard.
func TestAnotherShardIsNotWaitedFor(t *testing.T) {
	for _, holder := range holders {
		h, _, p := holding(t, holder)
		other := *h
		other.source = filepath.Join(filepath.Dir(h.source), "other")
		testkit.Apply(t, filepath.Dir(h.source), testkit.Content("other/file", "of another shard"))
		w := watch(&other)
		for _, k := range []task{{do: "-c", id: "a"}, {do: "-c", id: "b"}, {do: "--verify"}, {do: "--list"}, {do: "-r", id: "a"}, {do: "-r", id: "b"}} {
			if k.id != "" {
				k.flags = []string{"--lock-timeout", "0"}
			}
			if o, err := w.perform(k); err != nil || o.status != 0 || strings.Contains(o.err, "Waiting") {
				t.Errorf("holder %v, another shard's %v: %v, %v", holder, k, err, o)
			}
		}
		if len(names(other.locks)) != 1 {
			t.Errorf("holder %v: in the lock dir there is %q", holder, names(other.locks))
		}
		if err := errors.Join(p.goOn(), cleared(h)); err != nil {
			t.Errorf("holder %v: %v", holder, err)
		}
	}
}

// flocked takes the flock of a directory for this process.
func flocked(t *testing.T, dir string) (unlock func()) {
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

// stateWait is a call that needs the state dir's lock, which this process has.
type stateWait struct {
	name    string
	prepare func(h *host) error
	task
	users []string // when it is done
}

var stateWaits = []stateWait{
	{"a copy that goes on", stoppedAt("rename", 3), task{do: "-c", id: "a"}, []string{"a"}},
	{"a copy that makes the user file", forgotten, task{do: "-c", id: "a"}, []string{"a"}},
	{"the removal of a shard", copied("a"), task{do: "-r", id: "a"}, nil},
	{"the removal of an orphan", orphaned, task{do: "-r", id: "x"}, nil},
	{"the removal of a stage", abandoned, task{do: "-r", id: "a"}, nil},
}

// abandoned is a user of a shard of which there is only an interrupted copy.
func abandoned(h *host) error {
	return errors.Join(stoppedAt("rename", 2)(h), os.WriteFile(h.userFile(), []byte("a"), 0o644))
}

// The state dir's lock is waited for as the user file's is: up to the timeout, or a
// signal, with one line that says so. Who gives up has changed nothing.
func TestStateDirIsWaitedFor(t *testing.T) {
	for _, c := range stateWaits {
		h, _ := sabotaged(t, t.TempDir())
		if err := c.prepare(h); err != nil {
			t.Fatal(err)
		}
		before, unlock := testkit.Snapshot(filepath.Dir(h.ssd)), flocked(t, h.state())
		err := errors.Join(c.givesUp(watch(h), "0", 0), c.givesUp(watch(h), "200ms", 1), c.interrupted(watch(h)), unchanged(h, before))
		if err := errors.Join(err, c.goesOn(watch(h), unlock)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		count("waits for a state dir", 4)
	}
}

// unchanged is an error if anything changed on the host but the times of the lock
// dir, in which a user file may have been made and removed again.
func unchanged(h *host, before testkit.Tree) error {
	for _, line := range testkit.Diff(before, testkit.Snapshot(filepath.Dir(h.ssd))) {
		if !strings.HasPrefix(line, `"locks": mtime`) && !strings.HasPrefix(line, `"locks": ctime`) {
			return fmt.Errorf("changed: %s", line)
		}
	}
	return nil
}

// says wants the line about waiting that often.
func (c *stateWait) says(o outcome, h *host, times int) error {
	line := fmt.Sprintf("INFO:shard_to_ssd:Waiting for the lock on state dir %s, held by process %d\n", h.state(), os.Getpid())
	if strings.Count(o.err, line) != times || strings.Count(o.err, "Waiting") != times {
		return fmt.Errorf("want %d times %q, got %v", times, line, o)
	}
	return nil
}

func (c *stateWait) givesUp(w *witness, timeout string, says int) error {
	k := c.task
	k.flags = []string{"--lock-timeout", timeout}
	o, err := w.perform(k)
	if err != nil {
		return err
	}
	has := fmt.Sprintf("process %d has it", os.Getpid())
	return errors.Join(o.one(5, w.shards[0].state(), "lock not obtained in time ("+timeout, has), c.says(o, w.shards[0], says))
}

func (c *stateWait) interrupted(w *witness) error {
	k := c.task
	k.signal, k.after = syscall.SIGTERM, time.Hour
	p, err := w.start(k)
	if err != nil {
		return err
	}
	p.settled()
	if err := p.Process.Signal(k.signal); err != nil {
		return fmt.Errorf("it ended before the signal: %w: %v", err, p.result)
	}
	<-p.ended
	return errors.Join(p.result.one(128+15, w.shards[0].state(), "interrupted by SIGTERM"), c.says(p.result, w.shards[0], 1))
}

// goesOn is what happens when the lock is given back while it is waited for.
func (c *stateWait) goesOn(w *witness, unlock func()) error {
	p, err := w.start(c.task)
	if err != nil {
		return err
	}
	p.settled()
	unlock()
	<-p.ended
	if p.failed != nil {
		return p.failed
	}
	h := w.shards[0]
	return errors.Join(c.says(p.result, h, 1), h.sound(c.users), h.recovers())
}

// Who only tries is not refused for somebody who has the state dir's lock for a
// moment, as --list has it.
func TestStateDirLockedForAMoment(t *testing.T) {
	for _, c := range stateWaits {
		h, _ := sabotaged(t, t.TempDir())
		if err := c.prepare(h); err != nil {
			t.Fatal(err)
		}
		unlock, k := flocked(t, h.state()), c.task
		k.flags, k.fault = []string{"--lock-timeout", "0"}, "flock:stop-after@2"
		p := stopped(t, watch(h), k)
		unlock()
		if err := p.goOn(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if err := errors.Join(p.failed, c.says(p.result, h, 0), h.sound(c.users), h.recovers()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if p.result.status != 0 {
			t.Errorf("%s: %v", c.name, p.result)
		}
	}
}

// The two locks have one timeout: what was waited for the first is no more there for
// the second.
func TestLocksShareTheTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for _, c := range stateWaits {
		h, _ := sabotaged(t, t.TempDir())
		if err := c.prepare(h); err != nil {
			t.Fatal(err)
		}
		flocked(t, h.state())
		k := c.task
		k.flags, k.fault = []string{"--lock-timeout", timeout.String()}, "flock:stop-before@1"
		p := stopped(t, watch(h), k)
		<-time.After(timeout)
		if err := p.goOn(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if err := errors.Join(p.result.one(5, h.state()), c.says(p.result, h, 0)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// An SSD that hangs keeps nobody from giving up: not even he who would say how far
// the holder's copy is.
func TestWaitingOnADiskThatHangs(t *testing.T) {
	for _, test := range []struct {
		flags  []string
		signal syscall.Signal
		status int
	}{{[]string{"--lock-timeout", "200ms"}, 0, 5}, {nil, syscall.SIGTERM, 128 + 15}} {
		disk, h := lyingHost(t, faulty(t))
		w := watch(h)
		holder := stopped(t, w, task{do: "-c", id: "a", fault: "rename:stop-before@4"})
		disk.DropCache()
		hang := make(chan struct{})
		read := disk.Inject(faultfs.Fault{Op: faultfs.Read, Name: "plan", Hang: hang})
		waiter, err := w.start(task{do: "-c", id: "b", flags: test.flags, signal: test.signal, after: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		<-read.Met()
		if test.signal != 0 {
			if err := waiter.Process.Signal(test.signal); err != nil {
				t.Error(err)
			}
		}
		<-waiter.ended
		close(hang)
		if err := errors.Join(waiter.result.one(test.status, h.userFile()), finished(w, holder)); err != nil {
			t.Errorf("%v, %v: %v", test.flags, test.signal, err)
		}
	}
}

// A user file is lost while its shard is copied, and -r finds none: what it clears
// is not the stage that somebody works in.
func TestCopyWhoseUserFileIsLost(t *testing.T) {
	for _, fault := range []string{"write:stop-before@3", "rename:stop-before@4"} {
		h, _ := sabotaged(t, t.TempDir())
		w := watch(h)
		p := stopped(t, w, task{do: "-c", id: "a", fault: fault})
		if err := os.Remove(h.userFile()); err != nil {
			t.Fatal(err)
		}
		before := testkit.Snapshot(h.ssd)
		o, err := w.perform(task{do: "-r", id: "b"})
		if changed := testkit.Diff(before, testkit.Snapshot(h.ssd)); err != nil || o.status != 0 || len(changed) > 0 {
			t.Errorf("%s: -r meanwhile: %v, changed: %q: %v", fault, err, changed, o)
		}
		if err := p.goOn(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		err = p.result.one(1, h.userFile(), "removed or replaced", "run it again")
		if err := errors.Join(err, h.whole(), h.recovers("--replace")); err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}
}

// A list is shortened in place. Whatever is left of the longer one when the process
// is killed is no user: "b" over "aa\nb" would read as "ba" and "b".
func TestShorterListKilled(t *testing.T) {
	for _, c := range []struct{ list, leaves string }{
		{"aa\nb", "aa"}, {"a\nbbb", "a"}, {"aaa\nbb\nc", "aaa"}, {"aaa\nbb\nc", "bb"}, {"aaa\nb", "b"}, {"b\naaa", "b"},
	} {
		for _, fault := range []string{"write:kill-after@1", "fdatasync:kill-before@1", "fdatasync:kill-after@1", "truncate:kill-before@1", "truncate:kill-after@1"} {
			h, _ := sabotaged(t, t.TempDir())
			before := strings.Split(c.list, "\n")
			if err := usedBy(before...)(h); err != nil {
				t.Fatal(err)
			}
			o, err := watch(h).perform(task{do: "-r", id: c.leaves, fault: fault})
			if o.status != 128+9 {
				t.Errorf("%q: %s: %v: %v", c.list, fault, err, o)
			}
			after := slices.DeleteFunc(slices.Clone(before), func(id string) bool { return id == c.leaves })
			if err := errors.Join(h.sound(before, after), h.recovers()); err != nil {
				t.Errorf("%q without %q: %s: %v", c.list, c.leaves, fault, err)
			}
			count("lists shortened and killed", 1)
		}
	}
}

// inspection is a process that is stopped at each of its system calls, and has its
// descriptors looked at.
type inspection struct {
	pid   int
	stops int
	seen  map[string]bool // what was open
	err   error
}

// inspect runs a command to its end. It is not waited for by the command itself.
func inspect(c *exec.Cmd) (*inspection, int, error) {
	c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT=stop-after@1/1")
	if err := c.Start(); err != nil {
		return nil, 0, err
	}
	x := &inspection{pid: c.Process.Pid, seen: map[string]bool{}}
	hung := time.AfterFunc(2*tooLong, func() { c.Process.Kill() })
	defer hung.Stop()
	defer c.Process.Release() //nolint:errcheck // it has been waited for
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
		if err := x.look(); err != nil && x.err == nil {
			x.err = fmt.Errorf("at its call %d: %w", x.stops, err)
		}
		if err := unix.Kill(x.pid, unix.SIGCONT); err != nil {
			return x, 0, err
		}
	}
}

// look wants every descriptor closed in a child, but the first three, and those
// that the process was started with: a child has them of this one.
func (x *inspection) look() error {
	dir := fmt.Sprintf("/proc/%d/", x.pid)
	for _, fd := range names(dir + "fd") {
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
			return fmt.Errorf("a child would have descriptor %s, %s: %q", fd, to, info)
		}
	}
	return nil
}

// No child has a descriptor, and with it the lock, whenever it is made.
func TestNoDescriptorIsInherited(t *testing.T) {
	h, _ := sabotaged(t, t.TempDir())
	testkit.Apply(t, h.source, testkit.File("large", 9<<20, 1), testkit.Symlink("a", "link"), testkit.Hardlink("a", "hard"))
	for _, c := range []struct {
		mode, id string
		open     []string // at some time
	}{
		{"-c", "a", []string{h.state(), h.state() + "/stage/large", h.source + "/large", h.state() + "/journal"}},
		{"-c", "b", []string{h.userFile(), h.state(), h.state() + "/manifest"}},
		{"--verify", "", []string{h.published() + "/large", h.state() + "/manifest"}},
		{"--list", "", []string{h.userFile(), h.state()}},
		{"-r", "b", []string{h.userFile()}},
		{"-r", "a", []string{h.userFile(), h.state(), h.locks, h.ssd}},
	} {
		x, status, err := inspect(h.command(c.mode, c.id, "--jobs", "2"))
		if err != nil || status != 0 {
			t.Fatalf("%s %s: status %d, %v", c.mode, c.id, status, err)
		}
		for _, path := range c.open {
			if !x.seen[path] {
				t.Errorf("%s %s: %s was never seen open, of %d", c.mode, c.id, path, len(x.seen))
			}
		}
		count("system calls at which all descriptors were looked at", x.stops)
	}
	if err := h.traceless(); err != nil {
		t.Error(err)
	}
}

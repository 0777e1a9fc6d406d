package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// canary is the content of files that the tool must never copy or print.
const canary = "CANARY-which-nobody-may-see"

// patience is the time after which a call counts as hanging.
const patience = 30 * time.Second

// scene is a host with a victim: a directory outside, with the same names as in the
// shard, so that a path that is redirected into it finds files.
type scene struct {
	*host
	base, victim string
	planted      bool // the source has a hard link to a secret: the copy has the owner and mode of the secret
}

func newScene(t *testing.T) *scene {
	t.Helper()
	base := newBase(t)
	s := &scene{newHost(t, faulty(t), filepath.Join(base, "source"), base), base, filepath.Join(base, "victim"), false}
	if err := os.Mkdir(s.victim, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{s.source, s.victim} {
		text := "content"
		if root == s.victim {
			text = canary
		}
		testkit.Apply(t, root, testkit.TextFile("file", text), testkit.TextFile("dir/inner", text), testkit.TextFile("dir/sub/deep", text),
			testkit.TextFile("dir/sub/more", text), testkit.Xattr("file", "user.x", text), testkit.Symlink("file", "link"))
		if root == s.source {
			testkit.Apply(t, root, testkit.File("large", 5<<20, 1))
		} else {
			testkit.Apply(t, root, testkit.TextFile("large", strings.Repeat(canary, 5<<20/len(canary)+1)))
		}
	}
	testkit.Apply(t, s.victim, testkit.Chmod("file", 0o600), testkit.Chmod(".", 0o700))
	return s
}

// publishShard copies the shard for the user a.
func (s *scene) publishShard(t *testing.T) {
	t.Helper()
	if o := runCommand(s.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
}

// runHeld runs a command that stops itself at the fault, runs meanwhile, and continues
// the command. reached is false if the command ended before the fault.
func runHeld(c *exec.Cmd, fault string, meanwhile func() error) (o outcome, reached bool, err error) {
	var streams [2]*os.File
	for i := range streams {
		if streams[i], err = os.CreateTemp("", "held"); err != nil {
			return o, false, err
		}
		defer os.Remove(streams[i].Name())
		defer streams[i].Close()
	}
	c.Stdout, c.Stderr = streams[0], streams[1]
	c.Env = append(c.Environ(), "SHARD_TO_SSD_FAULT="+fault)
	if err := c.Start(); err != nil {
		return o, false, err
	}
	pid := c.Process.Pid
	var hung atomic.Bool
	timer := time.AfterFunc(patience, func() { hung.Store(true); syscall.Kill(pid, syscall.SIGKILL) })
	defer timer.Stop()
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, syscall.WUNTRACED, nil); err == syscall.EINTR {
			continue
		} else if err != nil {
			return o, reached, err
		}
		if !ws.Stopped() {
			break
		}
		if !reached {
			reached, err = true, meanwhile()
		}
		syscall.Kill(pid, syscall.SIGCONT)
	}
	c.Process.Release()
	out, _ := os.ReadFile(streams[0].Name())
	text, _ := os.ReadFile(streams[1].Name())
	o = outcome{ws.ExitStatus(), string(out), string(text)}
	if ws.Signaled() {
		o.status = 128 + int(ws.Signal())
	}
	if hung.Load() {
		err = errors.Join(err, fmt.Errorf("it did not end in %v", patience))
	}
	return o, reached, err
}

// callsOf returns the system calls of a command, each with its path.
func callsOf(t *testing.T, c *exec.Cmd) []string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	c.Env = append(c.Environ(), "SHARD_TO_SSD_FAULT_LOG="+log)
	if o := runCommand(c); o.status != 0 {
		t.Fatal(o)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// attackMoments returns faults before and after calls. A complete round takes an eighth
// of the calls, so that eight rounds take all of them. A bounded round takes some calls
// on the name.
func (r *round) attackMoments(calls []string, name string, some int) (faults []string) {
	const rounds = 8
	var near []string
	for i, call := range calls {
		before, after := fmt.Sprint("stop-before@", i+1), fmt.Sprint("stop-after@", i+1)
		if r.full && uint64(i)%rounds == r.seed%rounds {
			faults = append(faults, before, after)
		}
		if strings.Contains(call, name) {
			near = append(near, before, after)
		}
	}
	for range some {
		if !r.full && len(near) > 0 {
			faults = append(faults, near[r.IntN(len(near))])
		}
	}
	return faults
}

// leavesOut leaves out, in a bounded round, all but one in n kinds of attack.
func (r *round) leavesOut(n int) bool { return !r.full && r.IntN(n) > 0 }

// swapName puts the result of make in the place of a name below root. The old entry is
// moved out of the way.
func (s *scene) swapName(name string, make func(root, name string) testkit.Step) func(root string) error {
	return func(root string) error {
		aside := filepath.Join(s.base, "aside")
		if err := os.Mkdir(aside, 0o700); err != nil {
			return err
		}
		err := os.Rename(filepath.Join(root, name), aside+"/old")
		if err == nil {
			err = make(root, name)(root)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the name was removed before
		}
		return err
	}
}

func linkTo(target string) func(root, name string) testkit.Step {
	return func(_, name string) testkit.Step { return testkit.Symlink(target, name) }
}

func hardLinkTo(target string) func(root, name string) testkit.Step {
	return func(root, name string) testkit.Step {
		return func(string) error { return os.Link(target, filepath.Join(root, name)) }
	}
}

func makeFIFO(_, name string) testkit.Step { return testkit.FIFO(name) }
func makeDir(_, name string) testkit.Step  { return testkit.TextFile(name+"/x", "x") }

// treeSwaps are attacks by a user who may write to a tree. The first word of each is
// the name that it swaps.
func (s *scene) treeSwaps() map[string]func(root string) error {
	return map[string]func(root string) error{
		"dir link":     s.swapName("dir", linkTo(s.victim+"/dir")),
		"dir/sub link": s.swapName("dir/sub", linkTo(s.victim+"/dir/sub")),
		"file link":    s.swapName("file", linkTo(s.victim+"/file")),
		"large link":   s.swapName("large", linkTo(s.victim+"/large")),
		"large FIFO":   s.swapName("large", makeFIFO),
		"file hard link": func(root string) error {
			s.planted = true
			return s.swapName("file", hardLinkTo(s.victim+"/file"))(root)
		},
		"dir/inner FIFO": s.swapName("dir/inner", makeFIFO),
		"file directory": s.swapName("file", makeDir),
		"dir FIFO":       s.swapName("dir", makeFIFO),
	}
}

// checkAttacked runs a command with an attack at a moment. The victim must not change,
// its secrets must not appear anywhere, and the command must end with a message.
func (s *scene) checkAttacked(c *exec.Cmd, fault string, attack func() error, allowed ...string) error {
	before := testkit.SnapshotTree(s.victim)
	o, reached, err := runHeld(c, fault, attack)
	if !reached {
		count("attacks that were too late", 1)
	}
	count("attacks", 1)
	for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(s.victim)) {
		// A hard link changes the ctime.
		if !strings.Contains(line, ": ctime: ") {
			err = errors.Join(err, fmt.Errorf("the victim: %s", line))
		}
	}
	for _, place := range []string{s.ssd, s.locks} {
		err = errors.Join(err, s.checkNoLeak(place))
	}
	if strings.Contains(o.out+o.err, canary) {
		err = errors.Join(err, errors.New("the secret is in a message"))
	}
	if strings.Contains(o.err, "panic") || strings.Contains(o.err, "goroutine ") {
		err = errors.Join(err, errors.New("it panicked"))
	}
	if (o.status != 0) != strings.Contains(o.err, "ERROR:") {
		err = errors.Join(err, errors.New("the status does not match the messages"))
	}
	if err != nil {
		return fmt.Errorf("%w\n%s %s: %v", err, fault, strings.Join(c.Args, " "), o)
	}
	return nil
}

// checkNoLeak reports an error if the secret is below dir. A hard link by the attacker
// is the victim's own file. A copy of a hard link in the source has the owner and mode
// of the secret, so that a user who could not read the secret cannot read the copy.
func (s *scene) checkNoLeak(dir string) error {
	own := map[uint64]bool{}
	for _, fact := range testkit.SnapshotTree(s.victim) {
		own[fact.Ino] = true
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || own[st.Ino] || s.planted && st.Uid == 0 && st.Mode&0o077 == 0 {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(canary)) {
			return fmt.Errorf("the secret is in %s", path)
		}
		return err
	})
}

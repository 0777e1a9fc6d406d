package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// Half a shard can lie next to a manifest of a complete one in three ways. In each, the
// next -c publishes the complete shard, and does not rely on the old manifest:
//
//  1. the older script is killed during a removal,
//  2. it is killed during the copy after that,
//  3. this tool is killed while it replaces the leftovers.
//
// The tests run on ext4, which gives the inode numbers of a deleted shard to the next
// one.

// deadly makes the older script kill itself at its change of the tree with the number
// OLD_KILL, from 0; a copy is then half done. With OLD_EMPTIED the script first empties
// the user file, like an older version that writes the list of users before it removes
// the shard.
const deadly = `
import os, shutil, signal

left = int(os.environ["OLD_KILL"])

def die():
    if os.environ.get("OLD_EMPTIED"):
        os.truncate(os.environ["OLD_EMPTIED"], 0)
    os.kill(os.getpid(), signal.SIGKILL)

def half(source, target, **_):
    with open(source, "rb") as a, open(target, "wb") as b:
        data = a.read()
        b.write(data[:len(data) // 2])

def count(module, name, before=None):
    call = getattr(module, name)
    def counted(*args, **named):
        global left
        if left == 0:
            if before:
                before(*args)
            die()
        left -= 1
        return call(*args, **named)
    setattr(module, name, counted)

for name in "unlink", "rmdir", "mkdir", "symlink":
    count(os, name)
count(shutil, "copyfile", half)
count(shutil, "copystat")
`

// older is the older script, with kills.
type older struct{ script, dir string }

func newOlder(t testing.TB) *older {
	t.Helper()
	o := &older{testkit.OldScript(t), t.TempDir()}
	testkit.Apply(t, o.dir, testkit.TextFile("sitecustomize.py", deadly))
	return o
}

// runKilled runs the script up to its change number at, and reports whether it was
// killed there. With emptied, the list of users is already written.
func (o *older) runKilled(h *host, mode, id string, at int, emptied bool) (bool, error) {
	c := exec.Command(o.script, mode, "-l", h.locks, "-s", h.ssd, "-i", id, h.source)
	c.Env = append(os.Environ(), "PYTHONPATH="+o.dir, fmt.Sprint("OLD_KILL=", at))
	if emptied {
		c.Env = append(c.Env, "OLD_EMPTIED="+h.userFile())
	}
	switch out := runCommand(c); out.status {
	case 0:
		return false, nil
	case 137:
		return true, nil
	default:
		return false, fmt.Errorf("the older script: %v", out)
	}
}

// never is the number of a change that no script reaches.
const never = 1 << 20

// halves is the place of the three ways.
type halves struct {
	*host
	older *older
}

func newHalves(t *testing.T, bin string) *halves {
	t.Helper()
	source := t.TempDir()
	h := &halves{newHost(t, bin, source, testkit.Mount(t, "ext4", 256<<20)), newOlder(t)}
	testkit.Apply(t, h.source, testkit.File("large", 4<<20+77, 1), testkit.File("small", 5000, 2), testkit.File("empty", 0, 3),
		testkit.File("below/small", 70, 4), testkit.Symlink("../large", "below/link"), testkit.Dir("nothing", 0o755))
	return h
}

// copyShard makes the tool copy the shard, or register another user.
func (h *halves) copyShard(id string) error {
	if o := runCommand(h.command("-c", id)); o.status != 0 {
		return fmt.Errorf("copy: %v", o)
	}
	return nil
}

// firstWay kills the removal of the only user's shard at a change, and then another
// user copies. more is false if the removal ended before that change.
func (h *halves) firstWay(at int, emptied bool) (more bool, err error) {
	if err := h.copyShard("a"); err != nil {
		return false, err
	}
	killed, err := h.older.runKilled(h.host, "-r", "a", at, emptied)
	if err != nil {
		return false, err
	}
	_, gone := os.Lstat(h.host.published())
	atTop := len(namesIn(h.host.published())) < len(namesIn(h.source))
	o := runCommand(h.command("-c", "b"))
	switch {
	case killed && !emptied && gone == nil && atTop:
		return true, h.checkHalfRefused(o)
	case o.status != 0:
		return false, fmt.Errorf("the next copy: %v", o)
	case killed && !emptied && gone == nil && at > 0:
		// The list of users is unchanged, so a user needs the shard as it is. Only
		// --verify can detect missing files below the top directory.
		if o := runCommand(h.command("--verify", "")); o.status != 3 {
			return false, fmt.Errorf("verify of half a shard with users: %v", o)
		}
		return true, h.removeShard("b", "a")
	case killed && strings.Contains(o.err, "Starting copy") != (at > 0):
		return false, fmt.Errorf("after %d changes: %v", at, o)
	}
	users := []string{"b"}
	if killed && !emptied {
		users = []string{"a", "b"}
	}
	return killed, errors.Join(h.checkSound(users), h.checkRecovery())
}

// checkHalfRefused checks that no user is registered for half a shard that has a user,
// and that the remedy in the error works.
func (h *halves) checkHalfRefused(o outcome) error {
	if o.status != 3 || !strings.Contains(o.err, "is no longer complete") || !strings.Contains(o.err, ": missing") {
		return fmt.Errorf("half a shard with a user: %v", o)
	}
	if err := h.checkUsersAmong([]string{"a"}); err != nil {
		return err
	}
	count("halves with users that were refused", 1)
	if o := runCommand(h.command("-r", "a")); o.status != 0 {
		return fmt.Errorf("removal of half a shard: %v", o)
	}
	return h.checkRecovery()
}

func (h *halves) removeShard(ids ...string) error {
	for _, id := range ids {
		if o := runCommand(h.command("-r", id)); o.status != 0 {
			return fmt.Errorf("removal by %s: %v", id, o)
		}
	}
	return h.checkTraceless()
}

// leaveHalf leaves half a copy of the older script, after at changes, without users,
// next to the manifest of the removed shard. more is false if the copy ended before
// that change.
func (h *halves) leaveHalf(at int, removalKilled bool) (more bool, err error) {
	if err := h.copyShard("a"); err != nil {
		return false, err
	}
	end := never
	if removalKilled { // after its last change of the shard, before it deletes the user file
		if end, err = h.countChanges(); err != nil {
			return false, err
		}
	}
	killed, err := h.older.runKilled(h.host, "-r", "a", end, removalKilled)
	if err != nil || killed != removalKilled {
		return false, fmt.Errorf("got killed %v, want %v: %w", killed, removalKilled, err)
	}
	if _, err := os.Stat(filepath.Join(h.stateDir(), "manifest")); err != nil {
		return false, err
	}
	return h.older.runKilled(h.host, "-c", "c", at, false)
}

// countChanges returns the number of changes of a removal.
func (h *halves) countChanges() (n int, err error) {
	err = filepath.WalkDir(h.host.published(), func(string, os.DirEntry, error) error { n++; return nil })
	return n, err
}

// secondWay kills the copy that follows the removal.
func (h *halves) secondWay(at int, removalKilled bool) (more bool, err error) {
	more, err = h.leaveHalf(at, removalKilled)
	if err != nil {
		return false, err
	}
	if !more { // the older script has registered
		return false, errors.Join(h.copyShard("b"), h.checkSound([]string{"c", "b"}), h.removeShard("c", "b"))
	}
	return true, errors.Join(h.copyShard("b"), h.checkSound([]string{"b"}), h.checkRecovery())
}

// thirdWay kills the tool while it replaces such a half.
func (h *halves) thirdWay(at int, fault string) (killed bool, err error) {
	if _, err := h.leaveHalf(at, false); err != nil {
		return false, err
	}
	was := testkit.SnapshotTree(h.host.published())
	c := h.command("-c", "b")
	c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT="+fault)
	o := runCommand(c)
	if o.status != 0 && o.status != 137 {
		return false, fmt.Errorf("%v", o)
	}
	users, err := h.users()
	if err != nil {
		return false, err
	}
	if len(users) > 0 || len(testkit.DiffSnapshots(was, testkit.SnapshotTree(h.host.published()))) > 0 {
		if err := h.checkSound(nil, []string{"b"}); err != nil {
			return false, fmt.Errorf("%w\n%v", err, o)
		}
	}
	return o.status == 137, h.checkRecovery()
}

func TestOlderRemovalKilled(t *testing.T) {
	h := newHalves(t, program(t))
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for _, emptied := range []bool{true, false} {
			tryAdoptions(t, r, "older removal killed", 6, func(at int) (bool, error) { return h.firstWay(at, emptied) })
		}
	})
}

func TestOlderCopyKilled(t *testing.T) {
	h := newHalves(t, program(t))
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for _, removalKilled := range []bool{true, false} {
			tryAdoptions(t, r, "older copy killed", 9, func(at int) (bool, error) { return h.secondWay(at, removalKilled) })
		}
	})
}

func TestReplacementKilled(t *testing.T) {
	h := newHalves(t, faulty(t))
	rounds(t, 0.06, func(t *testing.T, r *round) {
		tryAdoptions(t, r, "replacement killed", 90, func(at int) (bool, error) {
			fault := fmt.Sprintf("kill-%s@%d", []string{"before", "after"}[r.IntN(2)], at+1)
			killed, err := h.thirdWay(1+r.IntN(6), fault)
			if err != nil {
				err = fmt.Errorf("SHARD_TO_SSD_FAULT=%s: %w", fault, err)
			}
			return killed, err
		})
	})
}

// tryAdoptions calls try with 0, 1, 2 and so on, until there is nothing more. A bounded
// round takes random steps of at most step.
func tryAdoptions(t *testing.T, r *round, kind string, step int, try func(at int) (more bool, err error)) {
	t.Helper()
	for at := 0; ; {
		more, err := try(at)
		if err != nil {
			t.Fatalf("%s, change %d, seed %d: %v", kind, at, r.seed, err)
		}
		count(kind, 1)
		if !more || r.over() {
			return
		}
		if at++; !r.full {
			at += r.IntN(step)
		}
	}
}

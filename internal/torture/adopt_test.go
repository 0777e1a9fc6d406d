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

// Three ways in which half a shard comes to lie beside a manifest that was right
// before. In each the next -c publishes all of it, and the manifest of before does
// not vouch for the half:
//
//  1. the older script is killed in its removal;
//  2. it is killed in the copy after that;
//  3. the tool is killed while it replaces what that has left.
//
// On ext4, which gives the inode numbers of the deleted shard to the next one.

// deadly kills the older script at the change of a tree numbered OLD_KILL, from 0.
// A copied file is half there then. With OLD_EMPTIED that file is emptied before:
// an older script that writes the list of users before it removes.
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

// older is the older script, which can be killed.
type older struct{ script, dir string }

func newOlder(t testing.TB) *older {
	t.Helper()
	o := &older{testkit.OldScript(t), t.TempDir()}
	testkit.Apply(t, o.dir, testkit.Content("sitecustomize.py", deadly))
	return o
}

// killed runs it to its change of a tree numbered at; it says whether it came to
// that. Emptied: with the list of users already written.
func (o *older) killed(h *host, mode, id string, at int, emptied bool) (bool, error) {
	c := exec.Command(o.script, mode, "-l", h.locks, "-s", h.ssd, "-i", id, h.source)
	c.Env = append(os.Environ(), "PYTHONPATH="+o.dir, fmt.Sprint("OLD_KILL=", at))
	if emptied {
		c.Env = append(c.Env, "OLD_EMPTIED="+h.userFile())
	}
	switch out := run(c); out.status {
	case 0:
		return false, nil
	case 137:
		return true, nil
	default:
		return false, fmt.Errorf("the older script: %v", out)
	}
}

// never is a change that no script comes to.
const never = 1 << 20

// halves is where the three ways are tried.
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

// copy has the tool copy the shard, or register another user of it.
func (h *halves) copy(id string) error {
	if o := run(h.command("-c", id)); o.status != 0 {
		return fmt.Errorf("copy: %v", o)
	}
	return nil
}

// firstWay kills the removal of the only user's shard at a change, and has another
// user copy. more is false when the removal was through.
func (h *halves) firstWay(at int, emptied bool) (more bool, err error) {
	if err := h.copy("a"); err != nil {
		return false, err
	}
	killed, err := h.older.killed(h.host, "-r", "a", at, emptied)
	if err != nil {
		return false, err
	}
	_, gone := os.Lstat(h.host.published())
	atTop := len(names(h.host.published())) < len(names(h.source))
	o := run(h.command("-c", "b"))
	switch {
	case killed && !emptied && gone == nil && atTop:
		return true, h.refusedHalf(o)
	case o.status != 0:
		return false, fmt.Errorf("the copy after: %v", o)
	case killed && !emptied && gone == nil && at > 0:
		// The list of users was left as it was: it says that somebody needs the
		// shard as it is. What is gone further down only --verify sees.
		if o := run(h.command("--verify", "")); o.status != 3 {
			return false, fmt.Errorf("verify of half a shard that has users: %v", o)
		}
		return true, h.removed("b", "a")
	case killed && strings.Contains(o.err, "Starting copy") != (at > 0):
		return false, fmt.Errorf("after %d changes: %v", at, o)
	}
	users := []string{"b"}
	if killed && !emptied {
		users = []string{"a", "b"}
	}
	return killed, errors.Join(h.sound(users), h.recovers())
}

// refusedHalf wants nobody registered for half a shard that has a user, and the way
// out that the error names.
func (h *halves) refusedHalf(o outcome) error {
	if o.status != 3 || !strings.Contains(o.err, "is not whole any more") || !strings.Contains(o.err, ": missing") {
		return fmt.Errorf("half a shard that has a user: %v", o)
	}
	if err := h.usersAmong([]string{"a"}); err != nil {
		return err
	}
	count("halves with users that were refused", 1)
	if o := run(h.command("-r", "a")); o.status != 0 {
		return fmt.Errorf("removal of half a shard: %v", o)
	}
	return h.recovers()
}

func (h *halves) removed(ids ...string) error {
	for _, id := range ids {
		if o := run(h.command("-r", id)); o.status != 0 {
			return fmt.Errorf("removal by %s: %v", id, o)
		}
	}
	return h.traceless()
}

// half leaves half a copy of the older script, of so many changes, without users,
// beside the manifest of what it has removed. more is false when the copy was
// through.
func (h *halves) half(at int, removalKilled bool) (more bool, err error) {
	if err := h.copy("a"); err != nil {
		return false, err
	}
	end := never
	if removalKilled { // after its last change of the shard, before the user file goes
		if end, err = h.changes(); err != nil {
			return false, err
		}
	}
	killed, err := h.older.killed(h.host, "-r", "a", end, removalKilled)
	if err != nil || killed != removalKilled {
		return false, fmt.Errorf("killed: %v, wanted %v, %w", killed, removalKilled, err)
	}
	if _, err := os.Stat(filepath.Join(h.state(), "manifest")); err != nil {
		return false, err
	}
	return h.older.killed(h.host, "-c", "c", at, false)
}

// changes is how many it takes to remove the shard.
func (h *halves) changes() (n int, err error) {
	err = filepath.WalkDir(h.host.published(), func(string, os.DirEntry, error) error { n++; return nil })
	return n, err
}

// secondWay kills the copy that comes after the removal.
func (h *halves) secondWay(at int, removalKilled bool) (more bool, err error) {
	more, err = h.half(at, removalKilled)
	if err != nil {
		return false, err
	}
	if !more { // registered by the older script
		return false, errors.Join(h.copy("b"), h.sound([]string{"c", "b"}), h.removed("c", "b"))
	}
	return true, errors.Join(h.copy("b"), h.sound([]string{"b"}), h.recovers())
}

// thirdWay kills the tool while it replaces such a half.
func (h *halves) thirdWay(at int, fault string) (killed bool, err error) {
	if _, err := h.half(at, false); err != nil {
		return false, err
	}
	was := testkit.Snapshot(h.host.published())
	c := h.command("-c", "b")
	c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT="+fault)
	o := run(c)
	if o.status != 0 && o.status != 137 {
		return false, fmt.Errorf("%v", o)
	}
	users, err := h.users()
	if err != nil {
		return false, err
	}
	if len(users) > 0 || len(testkit.Diff(was, testkit.Snapshot(h.host.published()))) > 0 {
		if err := h.sound(nil, []string{"b"}); err != nil {
			return false, fmt.Errorf("%w\n%v", err, o)
		}
	}
	return o.status == 137, h.recovers()
}

func TestOlderRemovalKilled(t *testing.T) {
	h := newHalves(t, program(t))
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for _, emptied := range []bool{true, false} {
			adoptions(t, r, "older removal killed", 6, func(at int) (bool, error) { return h.firstWay(at, emptied) })
		}
	})
}

func TestOlderCopyKilled(t *testing.T) {
	h := newHalves(t, program(t))
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for _, removalKilled := range []bool{true, false} {
			adoptions(t, r, "older copy killed", 9, func(at int) (bool, error) { return h.secondWay(at, removalKilled) })
		}
	})
}

func TestReplacementKilled(t *testing.T) {
	h := newHalves(t, faulty(t))
	rounds(t, 0.06, func(t *testing.T, r *round) {
		adoptions(t, r, "replacement killed", 90, func(at int) (bool, error) {
			fault := fmt.Sprintf("kill-%s@%d", []string{"before", "after"}[r.IntN(2)], at+1)
			killed, err := h.thirdWay(1+r.IntN(6), fault)
			if err != nil {
				err = fmt.Errorf("SHARD_TO_SSD_FAULT=%s: %w", fault, err)
			}
			return killed, err
		})
	})
}

// sweep tries at 0, 1, 2, ... as long as there is more to come; in a bounded round
// steps of up to step.
func adoptions(t *testing.T, r *round, kind string, step int, try func(at int) (more bool, err error)) {
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

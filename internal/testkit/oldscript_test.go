package testkit

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// oldScriptRun has the script and the directories for it.
type oldScriptRun struct{ script, locks, ssd, source, users string }

func newOldScriptRun(t *testing.T) oldScriptRun {
	t.Helper()
	base := t.TempDir()
	Apply(t, base, Dir("locks", 0o755), Dir("ssd", 0o755), TextFile("source/shard2/dir/file", "x"),
		Symlink("dir/file", "source/shard2/link"))
	locks := filepath.Join(base, "locks")
	return oldScriptRun{OldScript(t), locks, filepath.Join(base, "ssd"),
		filepath.Join(base, "source/shard2"), filepath.Join(locks, "shard2.lock")}
}

func (o oldScriptRun) args(mode, id string) []string {
	return []string{mode, "-l", o.locks, "-s", o.ssd, "-i", id, o.source}
}

func (o oldScriptRun) run(t *testing.T, mode, id, want string) {
	t.Helper()
	lock := "INFO:shard_to_ssd:Lock on file " + o.users
	want = lock + " acquired\nINFO:root:" + want + "\n" + lock + " released\n"
	if got := RunCommand(t, o.script, o.args(mode, id)...); got != want {
		t.Errorf("%s %s: got %q, want %q", mode, id, got, want)
	}
}

func (o oldScriptRun) wantUsers(t *testing.T, want string) {
	t.Helper()
	if got, err := os.ReadFile(o.users); err != nil || string(got) != want {
		t.Errorf("user file: got %q, %v, want %q", got, err, want)
	}
}

func TestOldScriptTranscript(t *testing.T) {
	o := newOldScriptRun(t)
	copied := filepath.Join(o.ssd, "shard2")
	o.run(t, "-c", "instance1", "Starting copy shard shard2 to ssd")
	o.wantUsers(t, "instance1")
	ExpectSame(t, o.source, copied)
	o.run(t, "-c", "instance2", "Shard shard2 is already on ssd")
	o.wantUsers(t, "instance1\ninstance2")
	o.run(t, "-r", "instance1", "Some services need shard: shard2 Do nothing.")
	o.wantUsers(t, "instance2")
	o.run(t, "-r", "instance2", "I am last user. Removing shard shard2 from "+o.ssd)
	for _, path := range []string{copied, o.users} {
		if tree := SnapshotTree(path); len(tree) != 0 {
			t.Errorf("%s is still there", path)
		}
	}
}

// While the script waits, the user file is unlinked. Without --check-inode the script
// continues with the old inode, which no other process will lock. With it, the script
// makes a new user file.
func TestOldScriptUnlinkedWhileItWaits(t *testing.T) {
	for option, there := range map[string]bool{"--check-inode": true, "": false} {
		o := newOldScriptRun(t)
		users := holdLock(t, o.users)
		cmd := exec.CommandContext(t.Context(), o.script, strings.Fields(option)...)
		cmd.Args = append(cmd.Args, o.args("-c", "instance1")...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitForWaiter(t, users)
		if err := os.Remove(o.users); err != nil {
			t.Fatal(err)
		}
		users.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(o.users); (err == nil) != there {
			t.Errorf("with %q: got user file present %v, want %v", option, err == nil, there)
		}
	}
}

func holdLock(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return f
}

// waitForWaiter returns when a process waits for the lock: /proc/locks then has a line
// "N: -> FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF".
func waitForWaiter(t *testing.T, f *os.File) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for t.Context().Err() == nil {
		if isLockAwaited(t, st.Ino) {
			return
		}
	}
	t.Fatal("no process waits for the lock")
}

func isLockAwaited(t *testing.T, inode uint64) bool {
	t.Helper()
	locks, err := os.Open("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	defer locks.Close()
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		line := lines.Text()
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, ":"+strconv.FormatUint(inode, 10)+" ") {
			return true
		}
	}
	return false
}

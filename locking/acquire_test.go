package locking

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

func TestMutualExclusion(t *testing.T) {
	const processes, rounds = "50", "20"
	dir, counter := t.TempDir(), filepath.Join(t.TempDir(), "counter")
	noError(t, os.WriteFile(counter, []byte("0"), 0o600))
	var peers []*peer
	for range 50 {
		peers = append(peers, startPeer(t, "count", dir, "shard", counter, rounds))
	}
	for _, p := range peers {
		p.waitForEnd(t)
	}
	wantEqual(t, "counter", readFile(t, counter), "1000")
	wantEqual(t, "left in the lock dir", listDir(t, dir), "")
}

func TestExistedAndCreate(t *testing.T) {
	dir := t.TempDir()
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{})
	wantError(t, err, ErrNoUserFile)
	wantEqual(t, "left by a failed Acquire", listDir(t, dir), "")

	u := mustAcquire(t, dir, AcquireOptions{Create: true})
	wantEqual(t, "existed", u.Existed(), false)
	wantEqual(t, "path", u.Path(), filepath.Join(dir, "shard.lock"))
	noError(t, u.Unlock())
	noError(t, u.Unlock())
	wantEqual(t, "existed", mustAcquire(t, dir, AcquireOptions{}).Existed(), true)
}

func TestMissingLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{})
	wantError(t, err, ErrNoUserFile)
	_, err = Acquire(t.Context(), dir, "shard", AcquireOptions{Create: true})
	wantError(t, err, fs.ErrNotExist)
	if errors.Is(err, ErrNoUserFile) {
		t.Errorf("got ErrMissing in %v: with Create only the missing lock dir is the error", err)
	}
}

func TestBadShardName(t *testing.T) {
	for _, shard := range []string{"", ".", "..", "a/b", "../x", "a\x00b"} {
		_, err := Acquire(t.Context(), t.TempDir(), shard, AcquireOptions{Create: true})
		if err == nil || !strings.Contains(err.Error(), "shard name") {
			t.Errorf("shard %q: got error %v, want one about the shard name", shard, err)
		}
	}
	_, err := Acquire(t.Context(), t.TempDir(), strings.Repeat("x", 251), AcquireOptions{Create: true})
	wantError(t, err, unix.ENAMETOOLONG)
	u, err := Acquire(t.Context(), t.TempDir(), strings.Repeat("x", 250), AcquireOptions{Create: true})
	noError(t, err)
	_, err = u.Register("a")
	noError(t, errors.Join(err, u.Unlock()))
}

func TestRelativeLockDir(t *testing.T) {
	dir, path := lockDirWith(t, "a")
	t.Chdir(filepath.Dir(dir))
	wantEqual(t, "path", mustAcquire(t, filepath.Base(dir), AcquireOptions{}).Path(), path)
}

// Both ways to create the file give it mode 0644 with any umask, and fail if the file exists.
func TestCreateModeAndExclusion(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	ways := map[string]func(*sys.File, string) (*sys.File, error){
		"locked": createLocked, "named": createNamed,
	}
	for name, create := range ways {
		path := filepath.Join(t.TempDir(), "shard.lock")
		dir, err := sys.OpenDir(filepath.Dir(path))
		noError(t, err)
		f, err := create(dir, "shard.lock")
		noError(t, err)
		s, err := f.Stat()
		noError(t, err)
		wantEqual(t, name+": mode", s.Perm(), 0o644)
		wantEqual(t, name+": links", s.Nlink, 1)
		wantEqual(t, name+": inode", s.Ino, inodeOf(t, path))
		_, err = create(dir, "shard.lock")
		wantError(t, err, fs.ErrExist)
		noError(t, errors.Join(f.Close(), dir.Close()))
	}
}

// No other process may lock a new user file before its creator does.
func TestCreatedFileAppearsLocked(t *testing.T) {
	dir, err := sys.OpenDir(t.TempDir())
	noError(t, err)
	f, err := createLocked(dir, "shard.lock")
	noError(t, err)
	other, err := dir.OpenAt("shard.lock", unix.O_RDWR, 0)
	noError(t, err)
	wantError(t, other.TryLock(), unix.EWOULDBLOCK)
	noError(t, errors.Join(f.Close(), other.Close(), dir.Close()))
}

// If a later step of Acquire fails, it deletes the file that it created.
func TestFailedAcquireLeavesNoNewFile(t *testing.T) {
	dir := t.TempDir()
	noError(t, os.MkdirAll(filepath.Join(dir, "shard.lock.log"), 0o700)) // cannot be unlinked
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{Create: true})
	wantError(t, err, unix.EISDIR)
	wantEqual(t, "left in the lock dir", listDir(t, dir), "shard.lock.log")
}

func TestRefusesOtherTypes(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	noError(t, os.WriteFile(outside, []byte("a"), 0o600))
	for want, make := range map[string]func(path string) error{
		"a symbolic link": func(path string) error { return os.Symlink(outside, path) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a FIFO":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a socket":        func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
		"2 hard links":    func(path string) error { return os.Link(outside, path) },
	} {
		dir := t.TempDir()
		noError(t, make(filepath.Join(dir, "shard.lock")))
		for _, create := range []bool{true, false} {
			_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{Create: create})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got error %v, want one with %q", err, want)
			}
		}
		if _, err := ReadUsers(dir, "shard"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadUsers: got error %v, want one with %q", err, want)
		}
		wantEqual(t, want+": lock dir", listDir(t, dir), "shard.lock")
	}
	dir := t.TempDir()
	noError(t, os.Symlink("nowhere", filepath.Join(dir, "shard.lock")))
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{Create: true})
	wantError(t, err, unix.ELOOP)
	wantEqual(t, "outside", readFile(t, outside), "a")
}

// A second link that appears during the wait is refused, too.
func TestRefusesLateHardLink(t *testing.T) {
	dir, path := lockDirWith(t, "")
	held := mustAcquire(t, dir, AcquireOptions{})
	onWait := func(int) {
		noError(t, os.Link(path, path+"2"))
		noError(t, held.Unlock())
	}
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{OnWait: onWait})
	if err == nil || !strings.Contains(err.Error(), "2 hard links") {
		t.Errorf("got error %v, want one with %q", err, "2 hard links")
	}
}

// The file is unlinked during the wait for its lock, and another one may be created.
func TestUnlinkedDuringWait(t *testing.T) {
	for _, again := range []bool{true, false} {
		dir, path := lockDirWith(t, "")
		held := mustAcquire(t, dir, AcquireOptions{})
		waits := 0
		onWait := func(int) {
			waits++
			noError(t, os.Remove(path))
			if again {
				noError(t, os.WriteFile(path, []byte("new"), 0o644))
			}
			noError(t, held.Unlock())
		}
		u, err := Acquire(t.Context(), dir, "shard", AcquireOptions{Create: again, OnWait: onWait})
		wantEqual(t, "calls of OnWait", waits, 1)
		if !again {
			wantError(t, err, ErrNoUserFile)
			continue
		}
		noError(t, err)
		s, err := u.file.Stat()
		noError(t, err)
		wantEqual(t, "locked inode", s.Ino, inodeOf(t, path))
		wantEqual(t, "users", strings.Join(u.Users(), " "), "new")
		wantEqual(t, "existed", u.Existed(), true)
		noError(t, u.Unlock())
	}
}

func TestChildrenDoNotInheritTheLock(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "spawn", dir, "shard")
	p.expectLine(t, "ready") // from the child, which survives its parent
	noError(t, p.cmd.Process.Kill())
	_, err := p.cmd.Process.Wait()
	noError(t, err)
	mustAcquire(t, dir, AcquireOptions{Timeout: new(duration)})
}

// Between fork and exec a child shares the open file. Unlock must release the lock even so.
func TestUnlockDespiteSharedDescriptor(t *testing.T) {
	dir, _ := lockDirWith(t, "")
	u := mustAcquire(t, dir, AcquireOptions{})
	shared, err := unix.Dup(u.file.Fd())
	noError(t, err)
	defer unix.Close(shared)
	noError(t, u.Unlock())
	mustAcquire(t, dir, AcquireOptions{Timeout: new(duration)})
}

func TestUnlockReturnsErrors(t *testing.T) {
	dir, path := lockDirWith(t, "")
	u := mustAcquire(t, dir, AcquireOptions{})
	noError(t, unix.Close(u.file.Fd()))
	err := u.Unlock()
	wantError(t, err, unix.EBADF)
	if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got error %q, want one line with %s", err, path)
	}
}

func TestRemoveUserFile(t *testing.T) {
	dir, path := lockDirWith(t, "a")
	u := mustAcquire(t, dir, AcquireOptions{})
	if err := u.Remove(); err == nil {
		t.Error("Remove of a file with a user: got no error")
	}
	wantEqual(t, "user file", readFile(t, path), "a")
	_, err := u.Unregister("a")
	noError(t, err)
	noError(t, os.WriteFile(path+".log", nil, 0o600))
	noError(t, u.Remove())
	wantEqual(t, "left in the lock dir", listDir(t, dir), "")
	noError(t, u.Remove())
	_, err = u.Register("b")
	wantError(t, err, errRemoved)
	noError(t, u.Unlock())
	wantError(t, u.Remove(), errUnlocked)
}

// If another program replaced the user file, Remove does not delete the new one.
func TestRemoveSparesReplacedFile(t *testing.T) {
	dir, path := lockDirWith(t, "")
	u := mustAcquire(t, dir, AcquireOptions{})
	noError(t, os.Rename(path, path+".old"))
	noError(t, os.WriteFile(path, []byte("b"), 0o644))
	noError(t, u.Remove())
	wantEqual(t, "user file", readFile(t, path), "b")
}

func TestCancelledBeforeAcquire(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	cancel(cause)
	_, err := Acquire(ctx, dir, "shard", AcquireOptions{Create: true})
	wantError(t, err, cause)
	wantEqual(t, "lock dir", listDir(t, dir), "")
}

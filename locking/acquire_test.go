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
	check(t, os.WriteFile(counter, []byte("0"), 0o600))
	var peers []*peer
	for range 50 {
		peers = append(peers, startPeer(t, "count", dir, "shard", counter, rounds))
	}
	for _, p := range peers {
		p.end(t)
	}
	equal(t, "counter", contents(t, counter), "1000")
	equal(t, "left in the lock dir", names(t, dir), "")
}

func TestExistedAndCreate(t *testing.T) {
	dir := t.TempDir()
	_, err := Acquire(t.Context(), dir, "shard", Options{})
	wantError(t, err, ErrMissing)
	equal(t, "left by a failed Acquire", names(t, dir), "")

	u := acquire(t, dir, Options{Create: true})
	equal(t, "existed", u.Existed(), false)
	equal(t, "path", u.Path(), filepath.Join(dir, "shard.lock"))
	check(t, u.Unlock())
	check(t, u.Unlock())
	equal(t, "existed", acquire(t, dir, Options{}).Existed(), true)
}

func TestMissingLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := Acquire(t.Context(), dir, "shard", Options{})
	wantError(t, err, ErrMissing)
	_, err = Acquire(t.Context(), dir, "shard", Options{Create: true})
	wantError(t, err, fs.ErrNotExist)
	if errors.Is(err, ErrMissing) {
		t.Errorf("%v: a missing lock dir is no missing user file if it is to be created", err)
	}
}

func TestBadShardName(t *testing.T) {
	for _, shard := range []string{"", ".", "..", "a/b", "../x", "a\x00b"} {
		_, err := Acquire(t.Context(), t.TempDir(), shard, Options{Create: true})
		if err == nil || !strings.Contains(err.Error(), "shard name") {
			t.Errorf("shard %q: got error %v", shard, err)
		}
	}
	_, err := Acquire(t.Context(), t.TempDir(), strings.Repeat("x", 251), Options{Create: true})
	wantError(t, err, unix.ENAMETOOLONG)
	u, err := Acquire(t.Context(), t.TempDir(), strings.Repeat("x", 250), Options{Create: true})
	check(t, err)
	_, err = u.Register("a")
	check(t, errors.Join(err, u.Unlock()))
}

func TestRelativeLockDir(t *testing.T) {
	dir, path := lockDirWith(t, "a")
	t.Chdir(filepath.Dir(dir))
	equal(t, "path", acquire(t, filepath.Base(dir), Options{}).Path(), path)
}

// Both ways to create the file: mode 0644 whatever the umask, and only the one
// that finds no file.
func TestCreateModeAndExclusion(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	ways := map[string]func(*sys.File, string) (*sys.File, error){
		"unseen": createUnseen, "named": createNamed,
	}
	for name, create := range ways {
		path := filepath.Join(t.TempDir(), "shard.lock")
		dir, err := sys.OpenDir(filepath.Dir(path))
		check(t, err)
		f, err := create(dir, "shard.lock")
		check(t, err)
		s, err := f.Stat()
		check(t, err)
		equal(t, name+": mode", s.Perm(), 0o644)
		equal(t, name+": links", s.Nlink, 1)
		equal(t, name+": inode", s.Ino, inode(t, path))
		_, err = create(dir, "shard.lock")
		wantError(t, err, fs.ErrExist)
		check(t, errors.Join(f.Close(), dir.Close()))
	}
}

// Nobody may lock a new user file before its creator, and see that it existed.
func TestCreatedFileAppearsLocked(t *testing.T) {
	dir, err := sys.OpenDir(t.TempDir())
	check(t, err)
	f, err := createUnseen(dir, "shard.lock")
	check(t, err)
	other, err := dir.OpenAt("shard.lock", unix.O_RDWR, 0)
	check(t, err)
	wantError(t, other.Lock(false), unix.EWOULDBLOCK)
	check(t, errors.Join(f.Close(), other.Close(), dir.Close()))
}

// A file that this Acquire has made goes when what follows fails.
func TestFailedAcquireLeavesNoNewFile(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "shard.lock.log"), 0o700)) // cannot be unlinked
	_, err := Acquire(t.Context(), dir, "shard", Options{Create: true})
	wantError(t, err, unix.EISDIR)
	equal(t, "left in the lock dir", names(t, dir), "shard.lock.log")
}

func TestRefusesWhatIsNoUserFile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	check(t, os.WriteFile(outside, []byte("a"), 0o600))
	for want, make := range map[string]func(path string) error{
		"a symbolic link": func(path string) error { return os.Symlink(outside, path) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a FIFO":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a socket":        func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
		"2 hard links":    func(path string) error { return os.Link(outside, path) },
	} {
		dir := t.TempDir()
		check(t, make(filepath.Join(dir, "shard.lock")))
		for _, create := range []bool{true, false} {
			_, err := Acquire(t.Context(), dir, "shard", Options{Create: create})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got error %v", want, err)
			}
		}
		if _, err := ReadUsers(dir, "shard"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: ReadUsers: got error %v", want, err)
		}
		equal(t, want+": lock dir", names(t, dir), "shard.lock")
	}
	dir := t.TempDir()
	check(t, os.Symlink("nowhere", filepath.Join(dir, "shard.lock")))
	_, err := Acquire(t.Context(), dir, "shard", Options{Create: true})
	wantError(t, err, unix.ELOOP)
	equal(t, "outside", contents(t, outside), "a")
}

// A second link that appears while we wait is refused too.
func TestRefusesLateHardLink(t *testing.T) {
	dir, path := lockDirWith(t, "")
	held := acquire(t, dir, Options{})
	onWait := func(int) {
		check(t, os.Link(path, path+"2"))
		check(t, held.Unlock())
	}
	_, err := Acquire(t.Context(), dir, "shard", Options{OnWait: onWait})
	if err == nil || !strings.Contains(err.Error(), "2 hard links") {
		t.Errorf("got error %v", err)
	}
}

// The file is unlinked, and another made, while we wait for the first.
func TestStaleInode(t *testing.T) {
	for _, again := range []bool{true, false} {
		dir, path := lockDirWith(t, "")
		held := acquire(t, dir, Options{})
		waits := 0
		onWait := func(int) {
			waits++
			check(t, os.Remove(path))
			if again {
				check(t, os.WriteFile(path, []byte("new"), 0o644))
			}
			check(t, held.Unlock())
		}
		u, err := Acquire(t.Context(), dir, "shard", Options{Create: again, OnWait: onWait})
		equal(t, "calls of OnWait", waits, 1)
		if !again {
			wantError(t, err, ErrMissing)
			continue
		}
		check(t, err)
		s, err := u.file.Stat()
		check(t, err)
		equal(t, "locked inode", s.Ino, inode(t, path))
		equal(t, "users", strings.Join(u.Users(), " "), "new")
		equal(t, "existed", u.Existed(), true)
		check(t, u.Unlock())
	}
}

func TestChildrenDoNotInheritTheLock(t *testing.T) {
	dir := t.TempDir()
	p := startPeer(t, "spawn", dir, "shard")
	p.expect(t, "ready") // the child, which goes on when its parent is dead
	check(t, p.cmd.Process.Kill())
	_, err := p.cmd.Process.Wait()
	check(t, err)
	acquire(t, dir, Options{Timeout: new(duration)})
}

// Between fork and exec a child has the open file; unlocking must not wait for it.
func TestUnlockDespiteSharedDescriptor(t *testing.T) {
	dir, _ := lockDirWith(t, "")
	u := acquire(t, dir, Options{})
	shared, err := unix.Dup(u.file.Fd())
	check(t, err)
	defer unix.Close(shared)
	check(t, u.Unlock())
	acquire(t, dir, Options{Timeout: new(duration)})
}

func TestUnlockErrorCounts(t *testing.T) {
	dir, path := lockDirWith(t, "")
	u := acquire(t, dir, Options{})
	check(t, unix.Close(u.file.Fd()))
	err := u.Unlock()
	wantError(t, err, unix.EBADF)
	if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q: wanted one line with %s", err, path)
	}
}

func TestRemove(t *testing.T) {
	dir, path := lockDirWith(t, "a")
	u := acquire(t, dir, Options{})
	if err := u.Remove(); err == nil {
		t.Error("removed a file with a user")
	}
	equal(t, "contents", contents(t, path), "a")
	_, err := u.Unregister("a")
	check(t, err)
	check(t, os.WriteFile(path+".log", nil, 0o600))
	check(t, u.Remove())
	equal(t, "left in the lock dir", names(t, dir), "")
	check(t, u.Remove())
	_, err = u.Register("b")
	wantError(t, err, errRemoved)
	check(t, u.Unlock())
	wantError(t, u.Remove(), errUnlocked)
}

// What is at the path after somebody replaced our file is not ours to remove.
func TestRemoveSparesAnothersFile(t *testing.T) {
	dir, path := lockDirWith(t, "")
	u := acquire(t, dir, Options{})
	check(t, os.Rename(path, path+".old"))
	check(t, os.WriteFile(path, []byte("b"), 0o644))
	check(t, u.Remove())
	equal(t, "contents", contents(t, path), "b")
}

func TestCancelledBeforeBegin(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	cancel(cause)
	_, err := Acquire(ctx, dir, "shard", Options{Create: true})
	wantError(t, err, cause)
	equal(t, "lock dir", names(t, dir), "")
}

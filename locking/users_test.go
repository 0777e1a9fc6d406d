package locking

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

func TestParseUsers(t *testing.T) {
	for _, c := range []struct {
		list string
		want []string
	}{
		{"", nil},
		{"\n\n", nil},
		{"a", []string{"a"}},
		{"a\nb", []string{"a", "b"}},
		{"\na\n\nb\n", []string{"a", "b"}},
		{"b\na\nb", []string{"b", "a"}},
		{"a\r\n \n\xff", []string{"a\r", " ", "\xff"}},
	} {
		got, err := parseUsers([]byte(c.list))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("list %q: got %q, %v, want %q", c.list, got, err, c.want)
		}
	}
}

func TestNulIsDamage(t *testing.T) {
	dir, path := lockDirWith(t, "a\nb\x00\x00c")
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{})
	_, readErr := ReadUsers(dir, "shard")
	for _, err := range []error{err, readErr} {
		if err == nil || !strings.Contains(err.Error(), "NUL") || !strings.Contains(err.Error(), path) {
			t.Errorf("got error %v, want one with NUL and %s", err, path)
		}
	}
	wantEqual(t, "user file", readFile(t, path), "a\nb\x00\x00c")
}

// When a list grows, its size can reach the disk before its data. When it shrinks, the zeros
// after it in its last page can reach the disk before its size.
func TestTrailingNulsAreTheOldList(t *testing.T) {
	page := strings.Repeat("\x00", pageSize-len("a\nb"))
	for _, list := range []string{"a\nb\x00\x00", "a\nb" + page + "\n\n\n"} {
		dir, path := lockDirWith(t, list)
		u := mustAcquire(t, dir, AcquireOptions{})
		wantEqual(t, "users", strings.Join(u.Users(), ","), "a,b")
		if _, err := u.Register("c"); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "user file", readFile(t, path), "a\nb\nc")
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, " ": true, "a b": true, "\r": true, "\xff/../-": true,
		"": false, "a\nb": false, "\n": false, "a\x00": false,
	} {
		wantEqual(t, strconv.Quote(id), CheckID(id) == nil, want)
	}
	dir, path := lockDirWith(t, "a\nb")
	u := mustAcquire(t, dir, AcquireOptions{})
	_, err := u.Register("a\nb")
	_, unErr := u.Unregister("")
	if err == nil || unErr == nil {
		t.Errorf("got errors %v, %v, want two", err, unErr)
	}
	wantEqual(t, "user file", readFile(t, path), "a\nb")
}

// The user file has the same bytes as in the transcript of the older script, and stays one
// inode.
func TestTranscriptBytes(t *testing.T) {
	dir := t.TempDir()
	u := mustAcquire(t, dir, AcquireOptions{Create: true})
	was := inodeOf(t, u.Path())
	for _, step := range []struct {
		change func(string) (bool, error)
		id     string
		want   string
	}{
		{u.Register, "instance1", "instance1"},
		{u.Register, "instance2", "instance1\ninstance2"},
		{u.Unregister, "instance1", "instance2"},
		{u.Unregister, "instance2", ""},
	} {
		done, err := step.change(step.id)
		noError(t, err)
		wantEqual(t, step.id+" changed", done, true)
		wantEqual(t, "user file", readFile(t, u.Path()), step.want)
		wantEqual(t, "users", strings.Join(u.Users(), "\n"), step.want)
		wantEqual(t, "inode", inodeOf(t, u.Path()), was)
	}
	noError(t, u.Remove())
	noError(t, u.Unlock())
	wantEqual(t, "left in the lock dir", listDir(t, dir), "")
}

func TestChangesOfUntidyFiles(t *testing.T) {
	for _, c := range []struct{ list, register, unregister string }{
		{"a\n", "a\nid", "a"},
		{"\n", "id", ""},
		{"a\n\n\n\n\n\n\nb", "a\nb\nid", "a\nb"},
		{"\nb\na\nb\n", "b\na\nid", "b\na"},
		{"a\nid\nb\nid\n", "", "a\nb"},
		{"id\n" + strings.Repeat("\n", 5000), "", ""},
		{"a" + strings.Repeat("\n", 5000), "a\nid", "a"},
	} {
		has := strings.Contains(c.list, "id")
		for name, want := range map[string]string{"register": c.register, "unregister": c.unregister} {
			dir, path := lockDirWith(t, c.list)
			was := inodeOf(t, path)
			u := mustAcquire(t, dir, AcquireOptions{})
			change := u.Register
			if name == "unregister" {
				change = u.Unregister
			}
			done, err := change("id")
			noError(t, err)
			if has == (name == "register") {
				want = c.list // there is no change, so the file is not tidied either
			}
			wantEqual(t, name+" changed", done, want != c.list)
			wantEqual(t, name+" in "+strconv.Quote(c.list), readFile(t, path), want)
			wantEqual(t, "inode", inodeOf(t, path), was)
			wantEqual(t, "lock dir", listDir(t, dir), "shard.lock")
		}
	}
}

func TestNothingToDoWritesNothing(t *testing.T) {
	dir, path := lockDirWith(t, "a\n\n")
	long := time.Unix(1e9, 0)
	noError(t, os.Chtimes(path, long, long))
	u := mustAcquire(t, dir, AcquireOptions{})
	added, err := u.Register("a")
	removed, unErr := u.Unregister("b")
	noError(t, errors.Join(err, unErr, u.Unlock()))
	wantEqual(t, "a change", added || removed, false)
	info, err := os.Stat(path)
	noError(t, err)
	wantEqual(t, "mtime", info.ModTime(), long)
}

func TestUnlockedCannotChange(t *testing.T) {
	dir, path := lockDirWith(t, "a")
	u := mustAcquire(t, dir, AcquireOptions{})
	noError(t, u.Unlock())
	for _, id := range []string{"a", "b"} {
		_, err := u.Register(id)
		wantError(t, err, errUnlocked)
		_, err = u.Unregister(id)
		wantError(t, err, errUnlocked)
	}
	wantEqual(t, "user file", readFile(t, path), "a")
}

func TestReadUsers(t *testing.T) {
	dir, _ := lockDirWith(t, "a\nb\n")
	mustAcquire(t, dir, AcquireOptions{}) // ReadUsers must not wait for this lock
	users, err := ReadUsers(dir, "shard")
	noError(t, err)
	wantEqual(t, "users", strings.Join(users, " "), "a b")
	_, err = ReadUsers(dir, "other")
	wantError(t, err, ErrNoUserFile)
	_, err = ReadUsers(dir+"/none", "shard")
	wantError(t, err, ErrNoUserFile)
}

// A file that ends before its length is refused: written back, it would lose users. Files
// of sysfs have a page according to stat, but contain less.
func TestHalfReadIsRefused(t *testing.T) {
	f, err := sys.Open("/sys/kernel/uevent_seqnum", unix.O_RDONLY)
	noError(t, err)
	defer f.Close()
	if b, err := readAll(f, maxList); err != nil || len(b) == 0 {
		t.Fatalf("readAll: got %q, %v, want some bytes", b, err)
	}
	if b, err := readWhole(f, maxList); err == nil || !strings.Contains(err.Error(), "of 4096 bytes") {
		t.Errorf("readWhole: got %q, %v, want an error", b, err)
	}
}

func TestTooLongFile(t *testing.T) {
	dir, path := lockDirWith(t, "a")
	noError(t, os.WriteFile(path, []byte(strings.Repeat("x", maxList-1)), 0o600))
	u := mustAcquire(t, dir, AcquireOptions{})
	if _, err := u.Register("b"); err == nil {
		t.Error("Register beyond the limit: got no error")
	}
	noError(t, u.Unlock())
	noError(t, os.Truncate(path, maxList+1))
	_, err := Acquire(t.Context(), dir, "shard", AcquireOptions{})
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got error %v, want one with %q", err, "more than")
	}
}

// After a write that fails half-way, the old list is there and no log.
func TestFailedWriteIsUndone(t *testing.T) {
	long := strings.Repeat("x", 4000)
	for name, c := range map[string]struct {
		old       string
		id, limit int
	}{
		"in a page":                {long, 80, 4050},
		"in a page, untidy":        {"\n" + long, 80, 4050},
		"log":                      {long, 200, 5000},
		"nothing can be written":   {"", 10, 0},
		"part of an id is written": {"", 100, 10},
	} {
		dir, path := lockDirWith(t, c.old)
		p := startPeer(t, "limited", dir, "shard", strings.Repeat("y", c.id), strconv.Itoa(c.limit))
		p.expectLine(t, "false true "+strconv.Itoa(min(len(c.old), 1)))
		p.waitForEnd(t)
		wantEqual(t, name, readFile(t, path), c.old)
		wantEqual(t, "lock dir", listDir(t, dir), "shard.lock")
	}
}

// If the old list cannot be restored, the error says so, and no later change is possible.
func TestUnknownListIsNotChanged(t *testing.T) {
	dir, _ := lockDirWith(t, "a")
	u := mustAcquire(t, dir, AcquireOptions{})
	noError(t, u.file.Close())
	_, err := u.Register("b")
	if err == nil || !strings.Contains(err.Error(), "could not be restored") {
		t.Errorf("got error %v, want one with %q", err, "could not be restored")
	}
	_, err = u.Unregister("a")
	wantError(t, err, errUnknown)
}

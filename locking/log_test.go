package locking

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// manyUsers returns n ids, of 16 bytes each with its newline.
func manyUsers(n int) (users []string) {
	for i := range n {
		users = append(users, fmt.Sprintf("instance-%06d", i))
	}
	return users
}

// longChanges returns pairs of an old and a new list, longer than a page, as Register and
// Unregister write them.
func longChanges() map[string][2][]byte {
	users := manyUsers(800)
	all := joinUsers(users)
	return map[string][2][]byte{
		"first of many leaves":   {all, joinUsers(users[1:])},
		"long id leaves":         {append([]byte(strings.Repeat("x", 5000)+"\n"), all...), all},
		"one joins":              {all, append(slices.Clip(all), strings.Repeat("y", 5000)...)},
		"one joins within page":  {all, append(slices.Clip(all), "\ninstance"...)},
		"one joins untidy, grow": {append([]byte("\n"), all...), append(slices.Clip(all), "\ninstance"...)},
		"down to a page":         {all[:4112-1], joinUsers(users[1:257])},
		"over a page":            {all[:4096-1], append(slices.Clip(all[:4096-1]), "\ninstance"...)},
	}
}

// tornDir makes a lock dir as a crash leaves it.
func tornDir(t *testing.T, now, log []byte) (dir, path string) {
	dir, path = lockDirWith(t, string(now))
	noError(t, os.WriteFile(path+".log", log, 0o644))
	return dir, path
}

// recoverWith returns the user file after Acquire has found it beside a log.
func recoverWith(t *testing.T, now, log []byte) string {
	t.Helper()
	dir, path := tornDir(t, now, log)
	was := inodeOf(t, path)
	u := mustAcquire(t, dir, AcquireOptions{})
	onDisk := readFile(t, path)
	wantEqual(t, "users", strings.Join(u.Users(), "\n"), strings.Join(mustParse(t, onDisk), "\n"))
	wantEqual(t, "lock dir", listDir(t, dir), "shard.lock")
	wantEqual(t, "inode", inodeOf(t, path), was)
	noError(t, u.Unlock())
	return onDisk
}

func mustParse(t *testing.T, list string) []string {
	t.Helper()
	users, err := parseUsers([]byte(list))
	noError(t, err)
	return users
}

// Any pages of the new list can be missing after a crash.
func TestReplayOfEveryMixture(t *testing.T) {
	for name, c := range longChanges() {
		old, list := c[0], c[1]
		image := padList(list, len(old))
		pages := (len(image) + pageSize - 1) / pageSize
		for mask := range 1 << pages {
			now := mixPages(old, image, mask)
			want := string(list)
			if bytes.Equal(now, old) || bytes.Equal(now, image) {
				want = string(now)
			}
			if got := recoverWith(t, now, formatLog(old, list)); got != want {
				t.Errorf("%s: pages %b new: got %q, want %q", name, mask, got, want)
			}
		}
	}
}

// mixPages returns image with the pages of old where mask has no bit. Beyond the end of old
// there are zeros, or nothing if no later page is new.
func mixPages(old, image []byte, mask int) []byte {
	now := make([]byte, len(image))
	copy(now, old)
	if mask == 0 {
		return now[:len(old)]
	}
	for at := 0; at < len(image); at += pageSize {
		if mask>>(at/pageSize)&1 == 1 {
			copy(now[at:], image[at:min(at+pageSize, len(image))])
		}
	}
	return now
}

// SIGKILL stops a long write between two pages.
func TestReplayOfWriteCutShort(t *testing.T) {
	all := joinUsers(manyUsers(800))
	list := append(slices.Clip(all), strings.Repeat("y", 9000)...)
	now := list[:(len(all)/pageSize+2)*pageSize]
	wantEqual(t, "recovered", recoverWith(t, now, formatLog(all, list)), string(list))
}

func TestLogIsDroppedAfterOtherWrites(t *testing.T) {
	users := manyUsers(800)
	old, list := joinUsers(users), joinUsers(users[1:])
	halfNew := mixPages(old, padList(list, len(old)), 1)
	grown := append(slices.Clip(old), "\ninstance10"...)
	touched := slices.Clone(halfNew)
	touched[len(touched)-1] = 'x'
	for name, c := range map[string]struct{ now, old, list []byte }{
		"a page of neither":  {touched, old, list},
		"longer":             {append(slices.Clip(halfNew), "\nx"...), old, list},
		"shorter":            {halfNew[:len(halfNew)-1], old, list},
		"short":              {[]byte("a"), old, list},
		"empty":              {nil, old, list},
		"a prefix of our id": {grown[:len(grown)-1], old, grown},
		"old":                {old, old, list},
		"new":                {list, old, list},
		"padded":             {padList(list, len(old)), old, list},
	} {
		if got := recoverWith(t, c.now, formatLog(c.old, c.list)); got != string(c.now) {
			t.Errorf("%s: got %q, want %q", name, got, c.now)
		}
	}
}

func TestInvalidLogIsDropped(t *testing.T) {
	users := manyUsers(800)
	old, list := joinUsers(users), joinUsers(users[1:])
	now := mixPages(old, padList(list, len(old)), 1)
	log := formatLog(old, list)
	flipped := slices.Clone(log)
	flipped[len(flipped)-100] ^= 1 // in a page of the new list that is not on disk
	for name, log := range map[string][]byte{
		"empty": nil, "torn": log[:pageSize], "a byte short": log[:len(log)-1],
		"a byte long": append(slices.Clip(log), 0), "flipped bit": flipped, "no log": []byte("hello"),
		"zeros": make([]byte, len(log)),
	} {
		if got := recoverWith(t, now, log); got != string(now) {
			t.Errorf("%s: got %q, want %q", name, got, now)
		}
	}
}

// A log that another user may have put there is not read, and is deleted.
func TestForeignLogIsDropped(t *testing.T) {
	users := manyUsers(800)
	old, list := joinUsers(users), joinUsers(users[1:])
	now := mixPages(old, padList(list, len(old)), 1)
	elsewhere := filepath.Join(t.TempDir(), "log")
	noError(t, os.WriteFile(elsewhere, formatLog(old, list), 0o644))
	plants := map[string]func(path string) error{
		"symbolic link": func(path string) error { return os.Symlink(elsewhere, path) },
		"hard link":     func(path string) error { return os.Link(elsewhere, path) },
	}
	if os.Geteuid() == 0 { // only root can give files away
		plants["another's file"] = func(path string) error {
			err := os.WriteFile(path, formatLog(old, list), 0o644)
			return errors.Join(err, os.Chown(path, 12345, 12345))
		}
	}
	for name, plant := range plants {
		dir, path := lockDirWith(t, string(now))
		noError(t, plant(path+".log"))
		noError(t, mustAcquire(t, dir, AcquireOptions{}).Unlock())
		wantEqual(t, name+": list", readFile(t, path), string(now))
		wantEqual(t, name+": lock dir", listDir(t, dir), "shard.lock")
		wantEqual(t, name+": elsewhere", readFile(t, elsewhere), string(formatLog(old, list)))
	}
}

// While a long list is written there is a complete log, while a short one is written there
// is no log.
func TestLogAroundLongLists(t *testing.T) {
	for _, n := range []int{256, 257} { // 4095 and 4111 bytes
		dir, path := lockDirWith(t, string(joinUsers(manyUsers(n))))
		u := mustAcquire(t, dir, AcquireOptions{})
		noError(t, u.file.Close()) // so that writing and restoring fail
		if _, err := u.Unregister("instance-000000"); err == nil {
			t.Fatal("Unregister with a closed file: got no error")
		}
		log, err := os.ReadFile(path + ".log")
		if n == 256 {
			wantEqual(t, "no log", os.IsNotExist(err), true)
			continue
		}
		noError(t, err)
		old, list, ok := parseLog(log)
		wantEqual(t, "whole log", ok, true)
		wantEqual(t, "old list", string(old), readFile(t, path))
		wantEqual(t, "new list", string(list), string(joinUsers(manyUsers(n)[1:])))
	}
}

func TestLongListsChange(t *testing.T) {
	users := manyUsers(600)
	dir, path := lockDirWith(t, "")
	noError(t, os.WriteFile(path+".log", []byte("an old log"), 0o600))
	u := mustAcquire(t, dir, AcquireOptions{})
	u.users = append(u.users, users[:250]...)
	_, err := u.storeUsers(u.users)
	noError(t, err)
	noError(t, os.WriteFile(path+".log", []byte("another old log"), 0o600))
	for _, id := range users[250:270] {
		_, err := u.Register(id)
		noError(t, err)
	}
	wantEqual(t, "list", readFile(t, path), string(joinUsers(users[:270])))
	for _, id := range users[:20] {
		_, err := u.Unregister(id)
		noError(t, err)
	}
	wantEqual(t, "list", readFile(t, path), string(joinUsers(users[20:270])))
	wantEqual(t, "lock dir", listDir(t, dir), "shard.lock")
}

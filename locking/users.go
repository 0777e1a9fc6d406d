package locking

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// maxList is the length of the longest user file that is accepted, in bytes.
const maxList = 16 << 20

// The reasons why a UserFile cannot be changed.
var (
	errUnlocked = errors.New("it is unlocked")
	errRemoved  = errors.New("it is removed")
	errUnknown  = errors.New("its contents on disk are unknown after an earlier error")
	errReplaced = errors.New("it was removed or replaced by another process while it was locked")
)

// CheckID returns an error if id cannot be in a user file: it is empty, or has a newline or
// NUL. All other bytes are valid.
func CheckID(id string) error {
	switch {
	case id == "":
		return errors.New("id is empty")
	case strings.ContainsAny(id, "\n\x00"):
		return fmt.Errorf("id %q has a newline or NUL", id)
	}
	return nil
}

// ReadUsers returns the list of users without taking the lock. Use it only to show the
// list: another process may be in the middle of a change. The error is ErrMissing if
// there is no user file.
func ReadUsers(lockDir, shard string) ([]string, error) {
	users, err := readUnlocked(lockDir, shard)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNoUserFile, err)
	}
	return users, err
}

func readUnlocked(lockDir, shard string) ([]string, error) {
	u, err := openLockDir(lockDir, shard)
	if err != nil {
		return nil, err
	}
	defer u.dir.Close()
	u.file, err = openExisting(u.dir, u.name, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("read user file %q: %w", u.Path(), err)
	}
	defer u.file.Close()
	if err := u.loadList(readAll); err != nil {
		return nil, fmt.Errorf("read user file %q: %w", u.Path(), err)
	}
	return u.users, nil
}

// loadList reads the list from disk; read is readAll or readWhole.
func (u *UserFile) loadList(read func(*sys.File, int) ([]byte, error)) (err error) {
	if u.raw, err = read(u.file, maxList); err != nil {
		return err
	}
	u.users, err = parseUsers(u.raw)
	return err
}

// readWhole is readAll for a file that no other process may change meanwhile. It refuses a
// file that ends early: if half a list were written back, users would be lost.
func readWhole(f *sys.File, limit int) ([]byte, error) {
	b, err := readAll(f, limit)
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil && int64(len(b)) < s.Size {
		err = &fs.PathError{Op: "read", Path: f.Path(), Err: fmt.Errorf("got %d of %d bytes", len(b), s.Size)}
	}
	return b, err
}

// readAll reads f from its start. A file of more than limit bytes is an error.
func readAll(f *sys.File, limit int) ([]byte, error) {
	buf, n := make([]byte, 4<<10), 0
	for {
		k, err := f.ReadAt(buf[n:], len(buf)-n, int64(n))
		n += k
		switch {
		case err != nil:
			return nil, err
		case n > limit:
			return nil, &fs.PathError{Op: "read", Path: f.Path(), Err: fmt.Errorf("has more than %d bytes", limit)}
		case n < len(buf):
			return buf[:n], nil
		}
		buf = append(buf, make([]byte, len(buf))...)
	}
}

// parseUsers returns the ids in a user file, each once. It skips blank lines, since a list
// that was just shortened ends in them. A carriage return is part of the id.
//
// A power cut leaves NULs at the end of the file in two cases, and in both the list before
// them is the old one. If an id was being added, the size of the file reached the disk
// before the data. If the list was being shortened, the NULs are followed by newlines: the
// last page of the list, cut off, reached the disk before the size (ext4 writes the page
// first).
func parseUsers(list []byte) (users []string, err error) {
	list = bytes.TrimRight(list, "\x00\n")
	if i := bytes.IndexByte(list, 0); i >= 0 {
		return nil, fmt.Errorf("has a NUL byte at offset %d, so it is damaged: correct it by hand, one id per line", i)
	}
	seen := make(map[string]bool)
	for line := range strings.SplitSeq(string(list), "\n") {
		if line != "" && !seen[line] {
			seen[line] = true
			users = append(users, line)
		}
	}
	return users, nil
}

func joinUsers(users []string) []byte { return []byte(strings.Join(users, "\n")) }

// Register adds id at the end of the list, and is durable when it returns. If the list has
// id already, it writes nothing.
//
// If it returns added and an error, the list on disk has id, but a step after the write
// failed.
func (u *UserFile) Register(id string) (added bool, err error) {
	if added, err = u.addUser(id); err != nil {
		return added, fmt.Errorf("register %q in user file %q: %w", id, u.Path(), err)
	}
	return added, nil
}

func (u *UserFile) addUser(id string) (added bool, err error) {
	if err := u.checkChange(id); err != nil {
		return false, err
	}
	if slices.Contains(u.users, id) {
		err = u.file.SyncData() // the process that added it may have died before its sync
	} else {
		added, err = u.storeUsers(append(u.Users(), id))
	}
	if err != nil {
		return added, err
	}
	// The process that created the file, this tool or the older script, may have died
	// before the name was durable.
	if err := u.dir.Sync(); err != nil {
		return added, err
	}
	if err := u.confirmCurrent(); err != nil {
		return false, err
	}
	return added, nil
}

// Unregister takes id off the list, and is durable when it returns. If the list does not
// have id, it writes nothing.
//
// If it returns removed and an error, the list on disk is without id, but a step after the
// write failed.
func (u *UserFile) Unregister(id string) (removed bool, err error) {
	if removed, err = u.removeUser(id); err != nil {
		return removed, fmt.Errorf("unregister %q from user file %q: %w", id, u.Path(), err)
	}
	return removed, nil
}

func (u *UserFile) removeUser(id string) (removed bool, err error) {
	if err := u.checkChange(id); err != nil {
		return false, err
	}
	if i := slices.Index(u.users, id); i < 0 {
		err = u.file.SyncData() // the process that removed it may have died before its sync
	} else {
		removed, err = u.storeUsers(slices.Delete(u.Users(), i, i+1))
	}
	if err != nil {
		return removed, err
	}
	if err := u.confirmCurrent(); err != nil {
		return false, err
	}
	return removed, nil
}

// confirmCurrent returns an error unless the path still leads to this user file. A program
// can delete or replace the file, or the lock dir, without the lock. Then no later process
// would find the list that was written, and this UserFile accepts no more changes.
func (u *UserFile) confirmCurrent() error {
	for _, isCurrent := range []func() (bool, error){u.isCurrent, u.isDirCurrent} {
		current, err := isCurrent()
		if err == nil && !current {
			err = errReplaced
		}
		if err != nil {
			u.changeErr = err
			return err
		}
	}
	return nil
}

// checkChange returns the reason why the list cannot be changed by id, if there is one.
func (u *UserFile) checkChange(id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	return u.changeErr
}

// storeUsers makes users the list on disk. done reports whether it is: it can be true
// beside an error, if the cleanup failed.
func (u *UserFile) storeUsers(users []string) (done bool, err error) {
	list := joinUsers(users)
	if len(list) > maxList {
		return false, fmt.Errorf("the list would have %d bytes, more than %d", len(list), maxList)
	}
	if len(list) <= pageSize && len(u.raw) <= pageSize {
		done, err = u.replaceList(list)
	} else {
		done, err = u.replaceLogged(list)
	}
	if done {
		u.raw, u.users = list, users
	}
	return done, err
}

// replaceList writes list over the old one, from the first byte that differs: it appends to
// a tidy file. After an error it restores the old list.
func (u *UserFile) replaceList(list []byte) (done bool, err error) {
	from := commonPrefix(u.raw, list)
	if err = overwriteList(u.file, list, from, len(u.raw)); err == nil {
		return true, nil
	}
	if undoErr := u.restoreList(from, len(list)); undoErr != nil {
		u.changeErr = errUnknown
		return false, fmt.Errorf("%w; and the old list could not be restored: %w", err, undoErr)
	}
	return false, err
}

// overwriteList writes list[from:] to its place in f, which has length bytes now. A
// shorter list is first padded with newlines. So a crash leaves one of the two lists, as
// long as both fit in a page; for longer ones see log.go.
func overwriteList(f *sys.File, list []byte, from, length int) error {
	if err := f.WriteAt(padList(list, length)[from:], int64(from)); err != nil {
		return err
	}
	if err := f.SyncData(); err != nil || length <= len(list) {
		return err
	}
	if err := f.Truncate(int64(len(list))); err != nil {
		return err
	}
	return f.Sync()
}

// restoreList undoes a failed overwriteList with a list of length bytes. If the file became
// longer, it is cut first: on a full disk nothing else still works.
func (u *UserFile) restoreList(from, length int) error {
	if length > len(u.raw) {
		if err := u.file.Truncate(int64(len(u.raw))); err != nil {
			return err
		}
	}
	if err := u.file.WriteAt(u.raw[from:], int64(from)); err != nil {
		return err
	}
	return u.file.Sync()
}

// padList returns list with newlines up to length bytes.
func padList(list []byte, length int) []byte {
	if length <= len(list) {
		return list
	}
	return append(slices.Clip(list), bytes.Repeat([]byte{'\n'}, length-len(list))...)
}

func commonPrefix(a, b []byte) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// ListUserFiles returns the names of the shards that have a user file in a lock dir, or
// something with such a name. A lock dir that does not exist has none.
func ListUserFiles(lockDir string, scratch []byte) (shards []string, err error) {
	dir, err := sys.OpenDir(lockDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.ListNames(scratch)
	for _, name := range names {
		if shard, ok := strings.CutSuffix(name, ".lock"); ok {
			shards = append(shards, shard)
		}
	}
	return shards, err
}

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

// maxList is the longest user file, in bytes. A longer one is no user file.
const maxList = 16 << 20

// Why a UserFile cannot be changed.
var (
	errUnlocked = errors.New("it is unlocked")
	errRemoved  = errors.New("it is removed")
	errUnknown  = errors.New("what is on disk is unknown since an earlier error")
	errReplaced = errors.New("it was removed or replaced by somebody while it was locked")
)

// ValidID reports what is wrong with an id. Any bytes are right but newline and
// NUL, as long as there is one.
func ValidID(id string) error {
	switch {
	case id == "":
		return errors.New("id is empty")
	case strings.ContainsAny(id, "\n\x00"):
		return fmt.Errorf("id %q has a newline or NUL", id)
	}
	return nil
}

// ReadUsers is the list of users without the lock, for showing it only: it may
// be half-way through a change. ErrMissing if there is no user file.
func ReadUsers(lockDir, shard string) ([]string, error) {
	users, err := readUsers(lockDir, shard)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return users, err
}

func readUsers(lockDir, shard string) ([]string, error) {
	u, err := openLockDir(lockDir, shard)
	if err != nil {
		return nil, err
	}
	defer u.dir.Close() //nolint:errcheck // opened for reading
	u.file, err = openExisting(u.dir, u.name, unix.O_RDONLY)
	if err == nil {
		defer u.file.Close() //nolint:errcheck // opened for reading
		err = u.load(readAll)
	}
	if err != nil {
		return nil, fmt.Errorf("read user file %q: %w", u.Path(), err)
	}
	return u.users, nil
}

// load reads the list from disk, by readAll or readWhole.
func (u *UserFile) load(read func(*sys.File, int) ([]byte, error)) (err error) {
	if u.raw, err = read(u.file, maxList); err != nil {
		return err
	}
	u.users, err = parseUsers(u.raw)
	return err
}

// readWhole is readAll of a file that nobody may change meanwhile: one that ends
// early is an error. Half a list, written back, would be users forgotten.
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

// readAll reads f from its start, an error if it has more than limit bytes.
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

// parseUsers lists the ids in a user file, each once. Blank lines are skipped: a
// list that was just shortened ends in them. A carriage return belongs to the id.
// NULs at the end are what a power cut leaves of an id that was being added, if
// the file's size reached the disk before its data: the list is the old one. NULs
// and then newlines are left of a shortened list, if the last page of it, cut off,
// reached the disk before the size: ext4 writes it first.
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

// Register adds id at the end of the list, and is durable when it returns. If id
// is there already it writes nothing.
//
// With added and an error, the list on disk has id, but what comes after writing
// it failed.
func (u *UserFile) Register(id string) (added bool, err error) {
	err = u.ready(id)
	if err == nil && !slices.Contains(u.users, id) {
		added, err = u.store(append(u.Users(), id))
	} else if err == nil {
		err = u.file.SyncData() // who added it may have died before that
	}
	if err == nil {
		// Whoever made the file, this or the older script, may have died before
		// its name was durable.
		err = u.dir.Sync()
	}
	if err == nil {
		err = u.confirm()
		added = added && err == nil
	}
	if err != nil {
		return added, fmt.Errorf("register %q in user file %q: %w", id, u.Path(), err)
	}
	return added, nil
}

// Unregister takes id off the list, and is durable when it returns. If id is not
// there it writes nothing.
//
// With removed and an error, the list on disk is without id, but what comes after
// writing it failed.
func (u *UserFile) Unregister(id string) (removed bool, err error) {
	err = u.ready(id)
	if i := slices.Index(u.users, id); err == nil && i >= 0 {
		removed, err = u.store(slices.Delete(u.Users(), i, i+1))
	} else if err == nil {
		err = u.file.SyncData() // who took it off may have died before that
	}
	if err == nil {
		err = u.confirm()
		removed = removed && err == nil
	}
	if err != nil {
		return removed, fmt.Errorf("unregister %q from user file %q: %w", id, u.Path(), err)
	}
	return removed, nil
}

// confirm is an error unless the path still leads to this user file. Whoever deletes
// or replaces it, or the lock dir, does not ask for the lock, and nobody would find
// what was written.
func (u *UserFile) confirm() error {
	current, err := u.current()
	if err == nil && current {
		current, err = u.dirCurrent()
	}
	if err == nil && !current {
		err = errReplaced
	}
	if err != nil {
		u.unfit = err
	}
	return err
}

// ready is why the list cannot be changed by id.
func (u *UserFile) ready(id string) error {
	if err := ValidID(id); err != nil {
		return err
	}
	return u.unfit
}

// store makes users the list on disk. done tells whether it is, also if the
// error is one of cleaning up.
func (u *UserFile) store(users []string) (done bool, err error) {
	list := joinUsers(users)
	if len(list) > maxList {
		return false, fmt.Errorf("the list would have %d bytes, more than %d", len(list), maxList)
	}
	if len(list) <= pageSize && len(u.raw) <= pageSize {
		done, err = u.replace(list)
	} else {
		done, err = u.replaceLogged(list)
	}
	if done {
		u.raw, u.users = list, users
	}
	return done, err
}

// replace writes list over the old one, from where they differ: to a tidy file it
// appends. On an error it restores the old list.
func (u *UserFile) replace(list []byte) (done bool, err error) {
	from := commonPrefix(u.raw, list)
	if err = overwrite(u.file, list, from, len(u.raw)); err == nil {
		return true, nil
	}
	if undoErr := u.restore(from, len(list)); undoErr != nil {
		u.unfit = errUnknown
		return false, fmt.Errorf("%w; and the old list could not be restored: %w", err, undoErr)
	}
	return false, err
}

// overwrite puts list[from:] in its place in f, which has length bytes now. A
// shorter list is padded with newlines first, so that whatever a crash leaves is
// one of the two lists.
func overwrite(f *sys.File, list []byte, from, length int) error {
	if err := f.WriteAt(padded(list, length)[from:], int64(from)); err != nil {
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

// restore undoes a failed overwrite by a list of length bytes. A longer file is
// cut first: on a full disk that is all that still works.
func (u *UserFile) restore(from, length int) error {
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

// padded is list with newlines up to length bytes.
func padded(list []byte, length int) []byte {
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

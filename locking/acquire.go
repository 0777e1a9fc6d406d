package locking

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/sys"
)

var (
	// ErrNoUserFile means that there is no user file, and that AcquireOptions.Create was not set.
	// A lock dir that is missing has no user file either.
	ErrNoUserFile = errors.New("no user file")
	// ErrTimeout means that the lock was not free within AcquireOptions.Timeout.
	ErrTimeout = errors.New("lock not obtained in time")
)

// fileMode is the mode of a new user file, independent of the umask: every service may
// read the list of users.
const fileMode = 0o644

// AcquireOptions of Acquire.
type AcquireOptions struct {
	// Create creates the user file if it is missing.
	Create bool
	// Timeout limits the wait for the lock. nil waits without a limit, 0 only tries.
	Timeout *time.Duration
	// OnWait is called once, before the wait, with the process that holds the lock, or
	// 0 if that process is unknown.
	OnWait func(pid int)
}

// UserFile is a locked user file, until Unlock. It is for one goroutine.
type UserFile struct {
	dir  *sys.File // the lock dir
	file *sys.File // locked
	name string    // in dir

	created   bool
	raw       []byte   // as on disk
	users     []string // parsed from raw
	changeErr error    // the reason why the list can no longer be changed
}

// Acquire locks the user file of a shard and reads it. The lock dir must exist.
//
// When ctx ends, the wait ends at once with context.Cause(ctx). One process may hold only
// one UserFile per shard: a second Acquire waits for the Unlock of the first.
func Acquire(ctx context.Context, lockDir, shard string, o AcquireOptions) (*UserFile, error) {
	u, err := openLockDir(lockDir, shard)
	if err != nil {
		if !o.Create && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrNoUserFile, err)
		}
		return nil, err
	}
	if err := u.lockAndRead(ctx, o); err != nil {
		u.dir.Close()
		return nil, fmt.Errorf("lock user file %q: %w", u.Path(), err)
	}
	return u, nil
}

// openLockDir checks the name of the shard and opens the lock dir.
func openLockDir(lockDir, shard string) (*UserFile, error) {
	if shard == "" || shard == "." || shard == ".." || strings.ContainsAny(shard, "/\x00") {
		return nil, fmt.Errorf("shard name %q: wanted the last component of a path", shard)
	}
	path, err := filepath.Abs(lockDir)
	if err != nil {
		return nil, fmt.Errorf("lock dir %q: %w", lockDir, err)
	}
	dir, err := sys.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("lock dir: %w", err)
	}
	return &UserFile{dir: dir, name: shard + ".lock"}, nil
}

// lockAndRead sets u.file to the current file of that name, locked, and reads it. After an
// error it leaves no file behind that it has created itself.
func (u *UserFile) lockAndRead(ctx context.Context, o AcquireOptions) error {
	w := lockWait{ctx: ctx, onWait: o.OnWait, timeout: o.Timeout}
	if o.Timeout != nil {
		timer := time.NewTimer(*o.Timeout)
		defer timer.Stop()
		w.expired = timer.C
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err := u.openOrCreate(o.Create)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := w.lockFile(u.file); err != nil {
			return err
		}
		current, err := u.prepareIfCurrent()
		if err == nil && current {
			return nil
		}
		_ = unlockAndClose(u.file) // no write of this call can be lost
		if err != nil {
			return err
		}
	}
}

// openOrCreate sets u.file, and u.created if it created the file. After fs.ErrExist the
// caller tries again: another process created the file first.
func (u *UserFile) openOrCreate(create bool) error {
	f, err := openExisting(u.dir, u.name, unix.O_RDWR)
	// With fs.protected_regular, O_CREAT of another owner's file in a sticky directory
	// fails even for root. So O_CREAT is only used if the file is missing.
	u.created = create && errors.Is(err, fs.ErrNotExist)
	switch {
	case u.created:
		f, err = createLocked(u.dir, u.name)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			f, err = createNamed(u.dir, u.name)
		}
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %w", ErrNoUserFile, err)
	}
	u.file = f
	return err
}

// openExisting opens the user file and checks its type. Another process may unlink the
// file meanwhile.
func openExisting(dir *sys.File, name string, flags int) (*sys.File, error) {
	f, err := dir.OpenAt(name, flags, 0)
	if err != nil {
		if s, statErr := dir.StatAt(name); statErr == nil && !s.IsRegular() {
			return nil, fmt.Errorf("is %s, wanted a regular file: %w", typeName(&s), err)
		}
		return nil, err
	}
	if err := checkOpenType(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// createLocked creates the user file such that it is locked before its name appears. With
// a plain O_CREAT another process could lock the file first. It would find an empty user
// file that existed before, and would take a foreign directory for a copy that the older
// script has made.
func createLocked(dir *sys.File, name string) (*sys.File, error) {
	f, err := dir.CreateUnnamed(name, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lockAndLink(dir, f, name); err != nil {
		_ = unlockAndClose(f) // it has no name
		return nil, err
	}
	return f, nil
}

func lockAndLink(dir, f *sys.File, name string) error {
	if err := f.Chmod(fileMode); err != nil {
		return err
	}
	if err := f.TryLock(); err != nil {
		return err
	}
	return dir.LinkUnnamed(f, name)
}

// createNamed is for file systems without O_TMPFILE, and for hosts without /proc.
func createNamed(dir *sys.File, name string) (*sys.File, error) {
	f, err := dir.OpenAt(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil {
		f.Close()
		return nil, errs.Join(err, dir.UnlinkAt(name))
	}
	return f, nil
}

// isCurrent reports whether the name still leads to the locked file.
func (u *UserFile) isCurrent() (bool, error) {
	mine, err := u.file.Stat()
	if err != nil {
		return false, err
	}
	named, err := u.dir.StatAt(u.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !mine.SameFile(&named) || mine.Nlink == 0 {
		return false, nil
	}
	return true, checkType(&mine)
}

// isDirCurrent reports whether the path of the lock dir, which may be a symbolic link,
// still leads to the open lock dir.
func (u *UserFile) isDirCurrent() (bool, error) {
	named, err := sys.OpenDir(u.dir.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer named.Close()
	mine, err := u.dir.Stat()
	if err != nil {
		return false, err
	}
	there, err := named.Stat()
	return err == nil && mine.SameFile(&there), err
}

// prepareIfCurrent prepares the locked file for use, if the name still leads to it. If that
// fails for a file that this Acquire created, it deletes the file.
func (u *UserFile) prepareIfCurrent() (current bool, err error) {
	if current, err = u.isCurrent(); err != nil || !current {
		return false, err
	}
	err = u.prepareList()
	if err != nil && u.created {
		err = errs.Join(err, u.dir.UnlinkAt(u.name))
	}
	return true, err
}

// prepareList makes a new file durable, finishes a change that a crash interrupted, and
// reads the list.
func (u *UserFile) prepareList() error {
	if u.created {
		if err := u.dir.Sync(); err != nil {
			return err
		}
	}
	if err := u.recoverList(); err != nil {
		return err
	}
	return u.loadList(readWhole)
}

func checkOpenType(f *sys.File) error {
	s, err := f.Stat()
	if err != nil {
		return err
	}
	return checkType(&s)
}

// checkType wants a regular file with one link. A file with a second name may belong to
// another program.
func checkType(s *sys.Stat) error {
	switch {
	case !s.IsRegular():
		return fmt.Errorf("is %s, wanted a regular file", typeName(s))
	case s.Nlink > 1:
		return fmt.Errorf("has %d hard links, wanted 1", s.Nlink)
	}
	return nil
}

// typeName names the type of an entry that is not a regular file.
func typeName(s *sys.Stat) string {
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}

// Path returns the absolute path of the user file.
func (u *UserFile) Path() string { return filepath.Join(u.dir.Path(), u.name) }

// Existed reports whether the file existed before Acquire. It is false if Acquire created
// the file.
func (u *UserFile) Existed() bool { return !u.created }

// Users returns the ids in the file, in its order.
func (u *UserFile) Users() []string { return slices.Clone(u.users) }

// Remove unlinks the user file, which must have no users, and syncs the lock dir. The lock
// is held until Unlock. The order matters: if the file were unlinked after Unlock, another
// process could already have locked it.
func (u *UserFile) Remove() error {
	if err := u.removeUnused(); err != nil {
		return fmt.Errorf("remove user file %q: %w", u.Path(), err)
	}
	return nil
}

func (u *UserFile) removeUnused() error {
	if len(u.users) > 0 {
		return fmt.Errorf("it still has %s", humanize.Count(len(u.users), "user"))
	}
	if errors.Is(u.changeErr, errUnlocked) {
		return u.changeErr
	}
	current, err := u.isCurrent()
	if err != nil {
		return err
	}
	if current { // otherwise another process has removed or replaced it
		if err := u.unlinkWithLog(); err != nil {
			return err
		}
	}
	u.changeErr = errRemoved
	return u.dir.Sync()
}

// unlinkWithLog unlinks the log before the user file: no later process would look for a
// log that has no user file.
func (u *UserFile) unlinkWithLog() error {
	if err := u.unlinkLog(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return u.dir.UnlinkAt(u.name)
}

// Unlock releases the lock. Do not ignore its error, which may be that of a write. A second
// call does nothing.
func (u *UserFile) Unlock() error {
	if errors.Is(u.changeErr, errUnlocked) {
		return nil
	}
	u.changeErr = errUnlocked
	if err := errs.Join(unlockAndClose(u.file), u.dir.Close()); err != nil {
		return fmt.Errorf("unlock user file %q: %w", u.Path(), err)
	}
	return nil
}

// unlockAndClose unlocks before it closes. Closing alone is not enough: a child between
// fork and exec shares the open file, and would keep the lock.
func unlockAndClose(f *sys.File) error { return errs.Join(f.Unlock(), f.Close()) }

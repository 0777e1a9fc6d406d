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

	"shard_to_ssd/internal/sys"
)

var (
	// ErrMissing says that there is no user file, and that Acquire was not asked
	// to create one. A missing lock dir has no user file either.
	ErrMissing = errors.New("no user file")
	// ErrTimeout says that the lock was not free within Options.Timeout.
	ErrTimeout = errors.New("lock not obtained in time")
)

// fileMode is the mode of a new user file, whatever the umask: every service may
// read who the users are.
const fileMode = 0o644

// Options of Acquire.
type Options struct {
	// Create makes the user file if it is missing.
	Create bool
	// Timeout limits the wait for the lock. nil waits as long as it takes, 0
	// only tries.
	Timeout *time.Duration
	// OnWait is called once, before waiting, with the process that holds the
	// lock, 0 if that is unknown.
	OnWait func(pid int)
}

// UserFile is a locked user file, until Unlock. It is for one goroutine.
type UserFile struct {
	dir  *sys.File // the lock dir
	file *sys.File // locked
	name string    // in dir

	created bool
	raw     []byte   // as on disk
	users   []string // parsed from raw
	unfit   error    // why the list can no longer be changed
}

// Acquire locks the user file of shard and reads it. The lock dir must exist.
//
// The end of ctx ends the wait at once, with context.Cause(ctx). In one process
// one UserFile per shard may be held: a second Acquire waits for the first's
// Unlock.
func Acquire(ctx context.Context, lockDir, shard string, o Options) (*UserFile, error) {
	u, err := openLockDir(lockDir, shard)
	if err != nil {
		if !o.Create && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrMissing, err)
		}
		return nil, err
	}
	if err := u.acquire(ctx, o); err != nil {
		u.dir.Close() //nolint:errcheck // opened for reading: nothing to lose
		return nil, fmt.Errorf("lock user file %q: %w", u.Path(), err)
	}
	return u, nil
}

// openLockDir is where a user file's name is checked.
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

// acquire sets u.file, locked and current, and reads it. On an error nothing of
// it is left but what belongs to another holder.
func (u *UserFile) acquire(ctx context.Context, o Options) error {
	w := waiter{ctx: ctx, onWait: o.OnWait, timeout: o.Timeout}
	if o.Timeout != nil {
		timer := time.NewTimer(*o.Timeout)
		defer timer.Stop()
		w.expired = timer.C
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := u.open(o.Create); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := w.lock(u.file); err != nil {
			return err
		}
		current, err := u.current()
		if err == nil && current {
			err = u.settle()
		}
		if err == nil && current {
			return nil
		}
		unlockAndClose(u.file) //nolint:errcheck // nothing of ours was written to it
		if err != nil {
			return err
		}
	}
}

// open sets u.file, and u.created if it made it. fs.ErrExist means: try again.
func (u *UserFile) open(create bool) error {
	f, err := openExisting(u.dir, u.name, unix.O_RDWR)
	// With fs.protected_regular, O_CREAT of another owner's file in a sticky
	// directory fails even for root: so it is not asked for until it is needed.
	u.created = create && errors.Is(err, fs.ErrNotExist)
	switch {
	case u.created:
		f, err = createUnseen(u.dir, u.name)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			f, err = createNamed(u.dir, u.name)
		}
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %w", ErrMissing, err)
	}
	u.file = f
	return err
}

// openExisting opens the user file name if it is one. It may be unlinked by now.
func openExisting(dir *sys.File, name string, flags int) (*sys.File, error) {
	f, err := dir.OpenAt(name, flags, 0)
	if err != nil {
		if s, statErr := dir.StatAt(name); statErr == nil && !s.IsRegular() {
			return nil, fmt.Errorf("is %s, wanted a regular file: %w", kind(&s), err)
		}
		return nil, err
	}
	s, err := f.Stat()
	if err == nil {
		err = checkKind(&s)
	}
	if err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nil, err
	}
	return f, nil
}

// createUnseen makes the user file such that its name appears when it is locked
// already. With a plain O_CREAT another process could lock the file first, find
// a user file that "existed" and is empty, and take a foreign directory for one
// that the older script has managed.
func createUnseen(dir *sys.File, name string) (*sys.File, error) {
	f, err := dir.CreateUnnamed(name, fileMode)
	if err != nil {
		return nil, err
	}
	err = f.Chmod(fileMode)
	if err == nil {
		err = f.Lock(false)
	}
	if err == nil {
		err = dir.LinkUnnamed(f, name)
	}
	if err != nil {
		unlockAndClose(f) //nolint:errcheck // it has no name
		return nil, err
	}
	return f, nil
}

// createNamed is for file systems without O_TMPFILE, and a missing /proc.
func createNamed(dir *sys.File, name string) (*sys.File, error) {
	f, err := dir.OpenAt(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil {
		f.Close() //nolint:errcheck // the chmod's error says more
		return nil, both(err, dir.UnlinkAt(name))
	}
	return f, nil
}

// current reports whether the name still leads to the locked file.
func (u *UserFile) current() (bool, error) {
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
	return true, checkKind(&mine)
}

// dirCurrent reports whether the lock dir's path, which may be a symbolic link, still
// leads to it.
func (u *UserFile) dirCurrent() (bool, error) {
	named, err := sys.OpenDir(u.dir.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer named.Close() //nolint:errcheck // opened for reading
	mine, err := u.dir.Stat()
	if err != nil {
		return false, err
	}
	there, err := named.Stat()
	return err == nil && mine.SameFile(&there), err
}

// settle makes a new file durable, finishes what a crash interrupted, and reads
// the list. A file that was created for nothing goes.
func (u *UserFile) settle() error {
	var err error
	if u.created {
		err = u.dir.Sync()
	}
	if err == nil {
		err = u.recover()
	}
	if err == nil {
		err = u.load(readWhole)
	}
	if err != nil && u.created {
		err = both(err, u.dir.UnlinkAt(u.name))
	}
	return err
}

// checkKind wants a regular file; one with a second name could be anybody's.
func checkKind(s *sys.Stat) error {
	switch {
	case !s.IsRegular():
		return fmt.Errorf("is %s, wanted a regular file", kind(s))
	case s.Nlink > 1:
		return fmt.Errorf("has %d hard links, wanted 1", s.Nlink)
	}
	return nil
}

func kind(s *sys.Stat) string {
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

// Path is the absolute path of the user file.
func (u *UserFile) Path() string { return filepath.Join(u.dir.Path(), u.name) }

// Existed reports whether the file was there before Acquire, false if Acquire
// has created it.
func (u *UserFile) Existed() bool { return !u.created }

// Users are the ids in the file, in its order.
func (u *UserFile) Users() []string { return slices.Clone(u.users) }

// Remove unlinks the user file, which must have no users, and syncs the lock dir.
// The lock is held until Unlock: unlinked after it, another process could lock
// the file and lose it.
func (u *UserFile) Remove() error {
	if err := u.remove(); err != nil {
		return fmt.Errorf("remove user file %q: %w", u.Path(), err)
	}
	return nil
}

func (u *UserFile) remove() error {
	if len(u.users) > 0 {
		return fmt.Errorf("it has %d users, wanted none", len(u.users))
	}
	if errors.Is(u.unfit, errUnlocked) {
		return u.unfit
	}
	current, err := u.current()
	if err == nil && current { // else somebody removed it before us
		err = u.unlink()
	}
	if err != nil {
		return err
	}
	u.unfit = errRemoved
	return u.dir.Sync()
}

// unlink takes the log first: one without a user file would lie there for ever.
func (u *UserFile) unlink() error {
	if err := u.unlinkLog(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return u.dir.UnlinkAt(u.name)
}

// Unlock gives the lock back. Its error counts: it may be a write's. A second
// call does nothing.
func (u *UserFile) Unlock() error {
	if errors.Is(u.unfit, errUnlocked) {
		return nil
	}
	u.unfit = errUnlocked
	if err := both(unlockAndClose(u.file), u.dir.Close()); err != nil {
		return fmt.Errorf("unlock user file %q: %w", u.Path(), err)
	}
	return nil
}

// unlockAndClose does not leave the unlocking to close: a child between fork and
// exec has the open file too, and would keep the lock.
func unlockAndClose(f *sys.File) error { return both(f.Unlock(), f.Close()) }

// both is errs.Join on one line.
func both(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return fmt.Errorf("%w; %w", a, b)
}

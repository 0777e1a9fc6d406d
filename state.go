package shardtossd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/locking"
)

// The names in an SSD dir and in a state dir that are this package's; stage,
// plan and journal are the copier's, manifest and sums are verify's.
const (
	stateRootName = ".shard_to_ssd"
	trashName     = "trash"
	lockDirName   = "lockdir"  // the lock dir that the state dir was made with
	verifiedName  = "verified" // when and how --verify last found no damage
	damagedName   = "damaged"  // when it last found some
)

// stateDir is <ssddir>/.shard_to_ssd/<shard>.
type stateDir struct {
	ssd  *sys.File // the SSD dir; not its own
	root *sys.File // .shard_to_ssd
	name string
	*sys.File
}

// openState opens the state dir of a shard; fs.ErrNotExist if there is none.
func openState(ssd *sys.File, name string) (*stateDir, error) {
	root, err := openOwn(ssd, stateRootName)
	if err != nil {
		return nil, err
	}
	dir, err := openOwn(root, name)
	if err != nil {
		root.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return &stateDir{ssd, root, name, dir}, nil
}

// makeState opens the state dir of a shard and makes it if it is missing.
func makeState(ssd *sys.File, name string) (*stateDir, error) {
	root, err := mkdirPrivate(ssd, stateRootName)
	if err != nil {
		return nil, err
	}
	dir, err := mkdirPrivate(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		err = errUnlinked
	}
	if err != nil {
		root.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return &stateDir{ssd, root, name, dir}, nil
}

// mkdirPrivate opens a directory that only this process's user can enter, and
// makes it if it is missing, durably. The stage must inherit nothing of it: no
// default ACL, no group.
func mkdirPrivate(in *sys.File, name string) (*sys.File, error) {
	err := in.MkdirAt(name, 0o700)
	if err != nil && !sys.Is(err, unix.EEXIST) {
		return nil, err
	}
	made := err == nil
	d, err := openOwn(in, name)
	if err != nil {
		return nil, err
	}
	s, err := d.Stat()
	if err == nil && (made || s.Perm() != 0o700) {
		err = makePrivate(in, d, name)
	}
	if err != nil {
		d.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return d, nil
}

// openOwn opens a directory of the state dirs.
func openOwn(in *sys.File, name string) (*sys.File, error) {
	d, err := in.OpenDirAt(name)
	if err != nil {
		return nil, err
	}
	if err := checkOwn(in, d); err != nil {
		d.Close() //nolint:errcheck // opened for reading
		return nil, err
	}
	return d, nil
}

// checkOwn refuses a directory that somebody else has made: he could look into a
// stage, or forge a manifest. It also refuses one from which nothing can be renamed
// to its public name, before all is copied in vain.
func checkOwn(in, d *sys.File) error {
	s, err := d.Stat()
	if err != nil {
		return err
	}
	above, err := in.Stat()
	switch {
	case err != nil:
		return err
	case s.UID != uint32(os.Geteuid()):
		return fmt.Errorf("%s belongs to user %d, not to this one, %d", d.Path(), s.UID, os.Geteuid())
	case s.MountPoint || s.Dev != above.Dev:
		return fmt.Errorf("%s is a mount, or on another file system than %s: nothing could be renamed out of it", d.Path(), in.Path())
	}
	return nil
}

func makePrivate(in, d *sys.File, name string) error {
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		if err := in.RemoveXattrAt(name, acl); err != nil {
			return err
		}
	}
	if err := d.Chmod(0o700); err != nil {
		return err
	}
	return in.Sync()
}

func (s *stateDir) close() error {
	return errs.Join(s.File.Close(), s.root.Close())
}

// recordLockDir writes down which lock dir the state dir belongs to, unless it is
// written already. The state dir is locked.
func (s *stateDir) recordLockDir(lockDir string) error {
	recorded, err := s.read(lockDirName)
	if err == nil && recorded != "" {
		return s.checkLockDir(lockDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.write(lockDirName, lockDir); err != nil {
		s.root.RmdirAt(s.name) //nolint:errcheck // only if it is new there is nothing in it
		return err
	}
	return s.Sync()
}

// write makes a short file of the state dir, at once whole, or leaves nothing.
func (s *stateDir) write(name, text string) error { return s.writeVia(name+".new", name, text) }

// writeVia is write by way of a temporary name: one of its own for each process that
// does not have the lock.
func (s *stateDir) writeVia(temporary, name, text string) error {
	err := s.writeNew(temporary, text)
	if err == nil {
		err = s.RenameAt(temporary, s.File, name, sys.Replace)
	}
	if err != nil {
		return errs.Join(err, s.UnlinkIfThere(temporary))
	}
	return nil
}

func (s *stateDir) writeNew(name, text string) error {
	f, err := s.OpenAt(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = f.WriteAt([]byte(text), 0)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// checkLockDir refuses a state dir that belongs to another lock dir: two of them
// are two truths about who needs the shard.
func (s *stateDir) checkLockDir(lockDir string) error {
	recorded, err := s.read(lockDirName)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && recorded == "") {
		return nil
	}
	if err != nil {
		return err
	}
	if recorded != lockDir {
		return fmt.Errorf("shard %q belongs to the lock dir %q, not to %q: its users are written there", s.name, recorded, lockDir)
	}
	return nil
}

// read returns a short file of the state dir.
func (s *stateDir) read(name string) (string, error) {
	f, err := s.OpenAt(name, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	buf := make([]byte, 8192)
	n, err := f.ReadAt(buf, len(buf), 0)
	return string(buf[:n]), err
}

// lock takes the flock of the state dir. The user file's lock has been taken
// before, so that only somebody who makes room or lists, or a user of another lock
// dir, who is refused, can have it: polling is enough. What the path leads to is
// looked at again, since whoever had the lock may have deleted it.
func (s *stateDir) lock(ctx context.Context, p *patience) error {
	for {
		err := s.Lock(false)
		if err == nil {
			return s.checkLinked()
		}
		if sys.Is(err, unix.EWOULDBLOCK) {
			err = p.wait(ctx, s)
		}
		if err != nil {
			return fmt.Errorf("lock state dir %q: %w", s.Path(), err)
		}
	}
}

// patience is how long the lock of a state dir is waited for.
type patience struct {
	limit  *time.Duration // nil: as long as it takes
	left   time.Duration  // of limit, from began on
	began  time.Time
	onWait func(*stateDir) // called once
	polls  int
}

// wait is until the next try. The first time it waits without a word, whatever the
// limit: --list has the lock for less than that, and is nobody to give up for.
func (p *patience) wait(ctx context.Context, s *stateDir) error {
	switch {
	case p.polls > 0 && p.limit != nil && time.Since(p.began) >= p.left:
		return fmt.Errorf("%w (%v): %s has it", ErrLockTimeout, *p.limit, process(locking.Holder(s.File)))
	case p.polls == 1:
		p.onWait(s)
	}
	p.polls++
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// errUnlinked says that a state dir was deleted while it was waited for.
var errUnlinked = errors.New("deleted meanwhile")

func (s *stateDir) checkLinked() error {
	mine, err := s.Stat()
	if err != nil {
		return err
	}
	there, err := s.root.StatAt(s.name)
	if sys.Is(err, unix.ENOENT) || (err == nil && !there.SameFile(&mine)) {
		return errUnlinked
	}
	return err
}

// clearTrash deletes what was renamed away and not deleted in the end. Whoever
// renamed it may have died before that was durable: a power cut would bring half
// a shard back under its public name.
func (s *stateDir) clearTrash(ctx context.Context, jobs int) error {
	there, err := s.has(trashName)
	if !there || err != nil {
		return err
	}
	if err := errs.Join(s.Sync(), s.ssd.Sync()); err != nil {
		return err
	}
	return tree.Remove(ctx, s.File, trashName, jobs)
}

// has reports whether there is a name in the state dir.
func (s *stateDir) has(name string) (bool, error) {
	_, err := s.StatAt(name)
	if sys.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// remove deletes the state dir with everything in it. A --verify that ends just
// now may write its record there, once.
func (s *stateDir) remove(ctx context.Context, jobs int) error {
	if err := copier.DropJournal(ctx, s.File); err != nil { // first: nobody resumes half a stage
		return err
	}
	if err := s.clearTrash(ctx, jobs); err != nil {
		return err
	}
	err := tree.Remove(ctx, s.root, s.name, jobs)
	for range 2 {
		if !sys.Is(err, unix.ENOTEMPTY) {
			break
		}
		err = tree.Remove(ctx, s.root, s.name, jobs)
	}
	if err != nil {
		return err
	}
	return s.root.Sync()
}

// stateNames lists the names in .shard_to_ssd.
func stateNames(ssd *sys.File) ([]string, error) {
	root, err := ssd.OpenDirAt(stateRootName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	names, err := root.Names(make([]byte, 64<<10))
	var shards []string
	for _, name := range names {
		if checkName(name) == nil {
			shards = append(shards, name)
		}
	}
	return shards, err
}

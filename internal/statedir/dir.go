package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// RootName is the directory in an SSD dir that holds the state dirs of all its
// shards. No shard may have this name.
const RootName = ".shard_to_ssd"

// TrashName is the name in a state dir of a tree that waits to be deleted.
const TrashName = "trash"

// Dir is the open state dir of one shard.
type Dir struct {
	ssd  *sys.File // the SSD dir; the caller closes it
	root *sys.File // RootName in it
	name string    // of the shard
	*sys.File
}

// Open opens the state dir of a shard. The error is fs.ErrNotExist without a
// state dir.
func Open(ssd *sys.File, shard string) (*Dir, error) {
	root, err := openPrivate(ssd, RootName)
	if err != nil {
		return nil, err
	}
	dir, err := openPrivate(root, shard)
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Dir{ssd, root, shard, dir}, nil
}

// OpenIfExists opens the state dir of a shard, and returns nil without one.
func OpenIfExists(ssd *sys.File, shard string) (*Dir, error) {
	d, err := Open(ssd, shard)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return d, err
}

// Make opens the state dir of a shard, and creates it if it is missing. The error
// is ErrUnlinked if another process deletes the state dirs at the same moment:
// call it again.
func Make(ssd *sys.File, shard string) (*Dir, error) {
	root, err := makePrivate(ssd, RootName)
	if err != nil {
		return nil, err
	}
	dir, err := makePrivate(root, shard)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrUnlinked
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Dir{ssd, root, shard, dir}, nil
}

// Close closes the state dir, which gives its flock back. A nil Dir is closed
// already.
func (d *Dir) Close() {
	if d == nil {
		return
	}
	d.File.Close()
	d.root.Close()
}

// SyncAll makes the names in the state dir and the state dir's own name durable.
// The process that made the state dir may have died before it could.
func (d *Dir) SyncAll() error {
	if err := d.Sync(); err != nil {
		return err
	}
	return d.root.Sync()
}

// makePrivate opens a directory that only this process's user can enter, and
// creates it durably if it is missing. A stage must inherit neither a default ACL
// nor a group from it.
func makePrivate(parent *sys.File, name string) (*sys.File, error) {
	err := parent.MkdirAt(name, 0o700)
	if err != nil && !sys.IsErrno(err, unix.EEXIST) {
		return nil, err
	}
	made := err == nil
	dir, err := openPrivate(parent, name)
	if err != nil {
		return nil, err
	}
	s, err := dir.Stat()
	if err == nil && (made || s.Perm() != 0o700) {
		err = restrictAccess(parent, dir, name)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

func openPrivate(parent *sys.File, name string) (*sys.File, error) {
	dir, err := parent.OpenDirAt(name)
	if err != nil {
		return nil, err
	}
	if err := checkOwner(parent, dir); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// checkOwner refuses a directory that another user made: that user could look into a
// stage, or forge a manifest. It also refuses a directory from which nothing can be
// renamed to a public name, before everything is copied in vain.
func checkOwner(parent, dir *sys.File) error {
	s, err := dir.Stat()
	if err != nil {
		return err
	}
	above, err := parent.Stat()
	switch {
	case err != nil:
		return err
	case s.UID != uint32(os.Geteuid()):
		return fmt.Errorf("%s belongs to user %d, but this process runs as user %d", dir.Path(), s.UID, os.Geteuid())
	case s.MountPoint || s.Dev != above.Dev:
		return fmt.Errorf("%s is a mount, or on another file system than %s: nothing could be renamed out of it", dir.Path(), parent.Path())
	}
	return nil
}

func restrictAccess(parent, dir *sys.File, name string) error {
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		if err := parent.RemoveXattrAt(name, acl); err != nil {
			return err
		}
	}
	if err := dir.Chmod(0o700); err != nil {
		return err
	}
	return parent.Sync()
}

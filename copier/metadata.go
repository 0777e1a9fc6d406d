package copier

import (
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// creationDefaults are the owner and the mode that a new entry of the stage gets by
// itself. If the plan wants the same, they need not be set. For millions of small files
// that saves a fifth of the time.
type creationDefaults struct {
	known    bool
	uid, gid uint32
	umask    uint32
}

// findDefaults finds the creation defaults from a file that never gets a name. In a
// resumed stage all metadata is set, and the defaults stay unknown.
func (c *copyRun) findDefaults() (d creationDefaults, err error) {
	if c.stage.Resumed || c.stage.IsFile() {
		return d, nil
	}
	root, err := c.stage.openDir("")
	if err != nil {
		return d, err
	}
	defer root.Close()
	const mode = 0o644
	f, err := root.CreateUnnamed("probe", mode)
	if err != nil {
		return d, nil // some file systems have no unnamed files: all metadata is set
	}
	defer func() { _ = f.Close() }() // nothing was written to it
	s, err := f.Stat()
	if err != nil {
		return d, err
	}
	d.uid, d.gid = s.UID, s.GID
	d.umask, d.known = sys.Umask()
	// Inherited ACLs change the mode, and some mounts have modes of their own.
	d.known = d.known && s.Perm() == mode&^d.umask
	return d, nil
}

// matchOwner reports whether a new entry gets the owner that the plan wants.
func (d *creationDefaults) matchOwner(it *PlanEntry) bool {
	return d.known && d.uid == it.UID && d.gid == it.GID
}

// createMode returns the mode to create a file with. final reports whether the mode
// needs no change later. It does if the file has an ACL, which changes the mode, or
// gets another owner, which removes set-id bits. The owner can read and write the new
// file in any case, because it may have to be opened a second time.
func (d *creationDefaults) createMode(it *PlanEntry) (mode uint32, final bool) {
	if d.matchOwner(it) && it.Kind == tree.Regular && it.Xattrs == 0 && it.Mode&(0o7000|d.umask) == 0 && it.Mode&0o600 == 0o600 {
		return it.Mode, true
	}
	return 0o600, false
}

// setMetadata sets the owner, extended attributes, mode and times of an entry of the
// stage, in this order: a change of owner clears set-id bits and capabilities, and an
// ACL changes mode bits. out is the open entry, or nil for a symbolic link. d is the
// metadata that the entry has already.
func (c *copyRun) setMetadata(dirs dirPair, out *sys.File, it *PlanEntry, d creationDefaults) error {
	name := c.stage.nameOf(it.Name)
	if it.Kind == tree.Dir {
		name = "."
	}
	if c.asRoot && !d.matchOwner(it) {
		if err := setOwner(dirs.dst, out, name, it); err != nil {
			return err
		}
	}
	if it.Xattrs != 0 {
		if err := c.copyXattrs(dirs, out, name, it); err != nil {
			return err
		}
	}
	if _, final := d.createMode(it); out != nil && !final {
		if err := out.Chmod(it.Mode); err != nil {
			return err
		}
	}
	return dirs.dst.SetTimesAt(name, it.Source.Atime, it.Mtime)
}

func setOwner(dst, out *sys.File, name string, it *PlanEntry) error {
	if out != nil {
		return out.Chown(it.UID, it.GID)
	}
	return dst.ChownAt(name, it.UID, it.GID)
}

func (c *copyRun) copyXattrs(dirs dirPair, out *sys.File, name string, it *PlanEntry) error {
	from := c.src.nameOf(it.Name)
	if it.Kind == tree.Dir {
		from = "."
	}
	attrs, _, err := tree.ReadXattrs(dirs.src, from, make([]byte, 4096))
	if err != nil {
		return err
	}
	if tree.DigestXattrs(attrs) != it.Xattrs {
		return sourceChanged(it.RelativePath(), "it has other extended attributes")
	}
	if !c.asRoot && out != nil { // a file of an interrupted copy may be sealed already
		if err := out.Chmod(0o700); err != nil {
			return err
		}
	}
	for _, a := range attrs {
		if err := dirs.dst.SetXattrAt(name, a.Name, a.Value); err != nil {
			return err
		}
	}
	return nil
}

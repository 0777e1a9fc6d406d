package copier

import (
	"context"
	"strings"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// birth is what a new entry of the stage has by itself. What the plan wants just so
// need not be set: of some millions of small files that is a fifth of the time.
type birth struct {
	known    bool
	uid, gid uint32
	umask    uint32
}

// atBirth finds it out, where nothing is there from an interrupted copy, from a file
// that never gets a name.
func (c *copying) atBirth() (b birth, err error) {
	if c.stage.Resumed || c.stage.IsFile() {
		return b, nil
	}
	root, err := c.stage.open("")
	if err != nil {
		return b, err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	const mode = 0o644
	f, err := root.CreateUnnamed("probe", mode)
	if err != nil {
		return birth{}, nil // not every file system can; everything is set, then
	}
	defer f.Close() //nolint:errcheck // it has no name
	s, err := f.Stat()
	if err != nil {
		return b, err
	}
	b.uid, b.gid = s.UID, s.GID
	b.umask, b.known = sys.Umask()
	b.known = b.known && s.Perm() == mode&^b.umask // inherited ACLs, mounts with modes of their own
	return b, nil
}

// owns says that the entry belongs to whom the plan says.
func (b *birth) owns(it *Item) bool { return b.known && b.uid == it.UID && b.gid == it.GID }

// mode is what to create a file with, final if nothing has to be set any more. An ACL
// changes the mode, a change of owner takes set-id bits away, and a file may have to be
// opened a second time.
func (b *birth) mode(it *Item) (mode uint32, final bool) {
	if b.owns(it) && it.Kind == tree.Regular && it.Xattrs == 0 && it.Mode&(0o7000|b.umask) == 0 && it.Mode&0o600 == 0o600 {
		return it.Mode, true
	}
	return 0o600, false
}

// setMeta gives the entry of the stage what the plan says of its owner, extended
// attributes, mode and times, in that order: a change of owner clears set-id bits
// and capabilities, and an ACL changes mode bits. out is the open entry, nil for
// a symbolic link. born is what it has already.
func (c *copying) setMeta(src, dst, out *sys.File, it *Item, born birth) error {
	name := c.stage.name(it.Name)
	if it.Kind == tree.Dir {
		name = "."
	}
	if err := c.setOwner(dst, out, name, it, born); err != nil {
		return err
	}
	if it.Xattrs != 0 {
		if err := c.carryXattrs(src, dst, out, name, it); err != nil {
			return err
		}
	}
	if _, final := born.mode(it); out != nil && !final {
		if err := out.Chmod(it.Mode); err != nil {
			return err
		}
	}
	return dst.SetTimesAt(name, it.Source.Atime, it.Mtime)
}

func (c *copying) setOwner(dst, out *sys.File, name string, it *Item, born birth) error {
	switch {
	case !c.asRoot, born.owns(it):
		return nil
	case out != nil:
		return out.Chown(it.UID, it.GID)
	}
	return dst.ChownAt(name, it.UID, it.GID)
}

func (c *copying) carryXattrs(src, dst, out *sys.File, name string, it *Item) error {
	from := c.src.name(it.Name)
	if it.Kind == tree.Dir {
		from = "."
	}
	attrs, _, err := tree.ReadXattrs(src, from, make([]byte, 4096))
	if err != nil {
		return err
	}
	if tree.DigestXattrs(attrs) != it.Xattrs {
		return changed(it.Below(), "other extended attributes")
	}
	if !c.asRoot && out != nil { // a kept file may be sealed already
		if err := out.Chmod(0o700); err != nil {
			return err
		}
	}
	for _, a := range attrs {
		if err := dst.SetXattrAt(name, a.Name, a.Value); err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) symlink(ctx context.Context, src, dst *sys.File, it *Item) error {
	if c.stage.Resumed {
		if err := c.unlinkOld(ctx, dst, it.Name); err != nil {
			return err
		}
	}
	if err := dst.SymlinkAt(it.Target, it.Name); err != nil {
		return err
	}
	return c.setMeta(src, dst, nil, it, c.born)
}

// hardLinks hands out the further names of files. Their first names have been read
// back: a file that is made again must not have them yet.
func (c *copying) hardLinks(ctx context.Context, emit func(pool.Task) error) error {
	want := func(it *Item) bool { return it.Kind == tree.HardLink }
	if c.plan.HardLinks == 0 {
		return nil
	}
	return c.inStage(ctx, emit, want, c.hardLink)
}

// hardLink gives a file that is in the stage already one more name.
func (c *copying) hardLink(ctx context.Context, dst *sys.File, it *Item) error {
	path, name := "", it.Target
	if i := strings.LastIndexByte(it.Target, '/'); i >= 0 {
		path, name = it.Target[:i], it.Target[i+1:]
	}
	from, err := c.stage.open(path)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // opened for reading
	if c.stage.Resumed {
		if err := c.unlinkOld(ctx, dst, it.Name); err != nil {
			return err
		}
	}
	return dst.LinkAt(from, name, it.Name)
}

// sealDirs sets the metadata of the directories, each after those in it: the
// directory that the plan opens next, or the end of the plan, says that all open
// ones at its depth and below are through.
func (c *copying) sealDirs(ctx context.Context) error {
	var open []Item
	leave := func(depth int) error {
		for len(open) > depth {
			if ctx.Err() != nil { // syncing many directories takes long
				return context.Cause(ctx)
			}
			last := len(open) - 1
			if err := c.sealDir(&open[last]); err != nil {
				return err
			}
			open = open[:last]
		}
		return nil
	}
	err := c.plan.Each(ctx, func(it *Item) error {
		if it.Kind != tree.Dir {
			return nil
		}
		err := leave(it.Depth)
		open = append(open, *it)
		return err
	})
	if err != nil {
		return err
	}
	return leave(0)
}

func (c *copying) sealDir(it *Item) error {
	dst, err := c.stage.open(it.Path)
	if err != nil {
		return err
	}
	defer dst.Close() //nolint:errcheck // opened for reading
	src := c.src.base
	if it.Xattrs != 0 {
		if src, err = c.openSourceDir(it.Path); err != nil {
			return err
		}
		defer src.Close() //nolint:errcheck // opened for reading
	}
	if err := c.setMeta(src, dst, dst, it, birth{}); err != nil {
		return err
	}
	if c.syncEach {
		return c.synced(dst.Sync)
	}
	return nil
}

// syncEach reports whether the files and directories of a plan are few enough,
// and plain enough, to be synced one by one. Links have no descriptor to sync.
func (p *Plan) syncEach() bool {
	return p.Entries() <= syncEachBelow && p.Symlinks == 0 && p.HardLinks == 0
}

// syncSmall makes the small files durable before they are read back. Without
// syncfs they were synced one by one.
func (c *copying) syncSmall() error {
	if c.syncEach {
		return nil
	}
	return c.synced(c.stage.state.SyncFS)
}

// SyncStage makes the whole stage durable, after everything else was written to
// the state dir: with one syncfs, unless each file and directory was synced.
// More of them lie open in files; the caller has their list.
func (p *Plan) SyncStage(files ...*sys.File) error {
	if !p.syncEach() {
		return p.state.SyncFS()
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return p.state.Sync()
}

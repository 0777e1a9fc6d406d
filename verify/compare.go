package verify

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// A Shard is a published tree, or one in a stage: the name of a directory or of
// a regular file in an open directory.
type Shard struct {
	In   *sys.File
	Name string
	Only *tree.Only // what of it is looked at; nil: everything
}

// comparer holds a tree against a manifest, both in the same order, with one
// directory of it in memory.
type comparer struct {
	ctx    context.Context
	shard  Shard
	report func(Difference)
	// file is told of each regular file that is there with the right length, and
	// where: its name in d, the open directory at path below shard.In. sums is told
	// of the sums of the blocks of the file before.
	file func(d *sys.File, path, name string, r *tree.Record) error
	sums func(r *tree.Record) error

	strict  bool              // what cannot be read is an error
	linked  map[uint64]string // by inode, the path of each file met that has several names
	isTree  bool              // a directory came first
	summing bool              // the last regular file was handed to file
	dir     *sys.File         // nil where the directory of the records is not there
	path    string
	names   []string // of dir, not met in the manifest yet
	scratch []byte
}

// CompareTree reports every difference in names and metadata between a tree and
// its manifest, which must have been checked. It reads no contents.
func CompareTree(ctx context.Context, m *Manifest, shard Shard, report func(Difference)) error {
	return newComparer(ctx, shard, report).compare(m)
}

// ProveTree is CompareTree of a tree that has just been made: what cannot be read
// of it is an error, and proves nothing.
func ProveTree(ctx context.Context, m *Manifest, shard Shard, report func(Difference)) error {
	c := newComparer(ctx, shard, report)
	c.strict = true
	return c.compare(m)
}

func newComparer(ctx context.Context, shard Shard, report func(Difference)) *comparer {
	return &comparer{ctx: ctx, shard: shard, report: report,
		file: func(*sys.File, string, string, *tree.Record) error { return nil },
		sums: func(*tree.Record) error { return nil }}
}

func (c *comparer) compare(m *Manifest) error {
	c.scratch, c.linked = make([]byte, 64<<10), map[uint64]string{}
	if err := m.each(c.record); err != nil {
		if c.dir != nil {
			c.dir.Close() //nolint:errcheck // opened for reading
		}
		return err // names that were not come to are no extra ones
	}
	return c.leave()
}

func (c *comparer) record(r *tree.Record) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	c.summing = c.summing && r.Kind == tree.Sums
	switch {
	case r.Kind == tree.Dir:
		if err := c.leave(); err != nil {
			return err
		}
		return c.enter(r)
	case r.Kind == tree.Sums:
		if !c.summing {
			return nil // of a file that is not there to be compared
		}
		return c.sums(r)
	case !c.isTree:
		return c.single(r)
	case c.dir == nil:
		return nil // the directory was reported
	}
	for len(c.names) > 0 && c.names[0] < r.Name {
		c.extra(c.names[0])
		c.names = c.names[1:]
	}
	wanted := c.shard.Only.Leads(r.Below())
	if len(c.names) == 0 || c.names[0] != r.Name {
		if wanted {
			c.differs(r.Name, Missing, "")
		}
		return nil
	}
	c.names = c.names[1:]
	if !wanted {
		return nil
	}
	return c.entry(c.dir, r.Name, r)
}

func (c *comparer) extra(name string) {
	if c.shard.Only.Has(below(c.path, name)) {
		c.differs(name, Extra, "")
	}
}

func (c *comparer) differs(name string, kind Kind, detail string) {
	c.report(Difference{Path: below(c.path, name), Kind: kind, Detail: detail})
}

// enter opens the directory of the records that follow.
func (c *comparer) enter(r *tree.Record) error {
	c.isTree, c.path, c.names = true, r.Path, nil
	if !c.shard.Only.Leads(r.Below()) {
		return nil
	}
	d, err := c.shard.In.OpenBelow(tree.Join(c.shard.Name, r.Path))
	switch {
	case sys.Is(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP):
		if r.Depth == 0 {
			c.rootDiffers(err)
		}
		return nil // its name was reported in the directory above
	case err != nil:
		return c.unreadable(".", err)
	}
	c.dir = d
	s, err := d.Stat()
	if err != nil {
		return c.unseen(err)
	}
	wanted := c.shard.Only.Has(r.Below())
	if wanted {
		c.meta(".", r, &s)
	}
	if c.names, err = d.Names(c.scratch); err != nil {
		return c.unseen(err)
	}
	if !wanted {
		return nil
	}
	return c.xattrs(d, ".", ".", r)
}

// unseen reports the open directory, of whose names nothing can be said.
func (c *comparer) unseen(err error) error {
	c.names = nil
	return errs.Join(c.unreadable(".", err), c.leave())
}

// unreadable reports an entry that the file system does not give back. That this
// process has not the means to read it says nothing of the entry.
func (c *comparer) unreadable(name string, err error) error {
	if c.strict || Ours(err) {
		return err
	}
	c.differs(name, Unreadable, err.Error())
	return nil
}

// Ours reports the errors of a process that lacks descriptors, memory or rights.
func Ours(err error) bool {
	return sys.Is(err, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.EPERM)
}

func (c *comparer) rootDiffers(err error) {
	if sys.Is(err, unix.ENOENT) {
		c.differs(".", Missing, "")
		return
	}
	c.differs(".", Type, "not a directory")
}

// leave reports what the manifest has not of the directory that was open.
func (c *comparer) leave() error {
	if c.dir == nil {
		return nil
	}
	for _, name := range c.names {
		c.extra(name)
	}
	err := c.dir.Close()
	c.dir = nil
	return err
}

// single compares a shard that is one regular file.
func (c *comparer) single(r *tree.Record) error {
	_, err := c.shard.In.StatAt(c.shard.Name)
	if sys.Is(err, unix.ENOENT) {
		c.differs(".", Missing, "")
		return nil
	}
	if err != nil {
		return err
	}
	return c.entry(c.shard.In, c.shard.Name, r)
}

// entry compares name in d, which is there, with its record.
func (c *comparer) entry(d *sys.File, name string, r *tree.Record) error {
	s, err := d.StatAt(name)
	if err != nil {
		return c.unreadable(r.Name, err)
	}
	want := typeOf(r.Kind)
	if r.Kind == tree.HardLink && s.IsSymlink() {
		want = unix.S_IFLNK // of what type it was, its first name knows
	}
	if s.Mode&unix.S_IFMT != want {
		c.differs(r.Name, Type, fmt.Sprintf("found %s, published as %s", typeName(s.Mode), typeName(want)))
		return nil
	}
	switch r.Kind {
	case tree.Subdir:
		return nil
	case tree.Symlink:
		target, err := d.ReadlinkAt(name)
		if err != nil {
			return c.unreadable(r.Name, err)
		}
		if target != r.Target {
			c.differs(r.Name, LinkTarget, fmt.Sprintf("found %q, published %q", target, r.Target))
		}
		c.notLinked(r, &s)
	case tree.Regular:
		c.notLinked(r, &s)
	case tree.HardLink:
		if err := c.hardLink(r, &s); err != nil {
			return err
		}
	}
	c.meta(r.Name, r, &s)
	if err := c.xattrs(d, name, r.Name, r); err != nil {
		return err
	}
	if r.Kind != tree.Regular || s.Size != r.Size {
		return nil
	}
	c.summing = true
	if !c.isTree {
		return c.file(d, "", name, r)
	}
	return c.file(d, tree.Join(c.shard.Name, r.Path), name, r)
}

// notLinked reports a file that is the same as one before it, and was not.
func (c *comparer) notLinked(r *tree.Record, s *sys.Stat) {
	if s.Nlink < 2 {
		return
	}
	if other, met := c.linked[s.Ino]; met {
		c.differs(r.Name, HardLink, fmt.Sprintf("the same file as %q", other))
		return
	}
	c.linked[s.Ino] = r.Below()
}

func (c *comparer) hardLink(r *tree.Record, s *sys.Stat) error {
	path, name := "", r.Target
	if i := strings.LastIndexByte(r.Target, '/'); i >= 0 {
		path, name = r.Target[:i], r.Target[i+1:]
	}
	d, err := c.shard.In.OpenBelow(tree.Join(c.shard.Name, path))
	if err == nil {
		defer d.Close() //nolint:errcheck // opened for reading
		var first sys.Stat
		if first, err = d.StatAt(name); err == nil && first.SameFile(s) {
			return nil
		}
	}
	if err != nil && !sys.Is(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP) {
		return c.unreadable(r.Name, err)
	}
	c.differs(r.Name, HardLink, fmt.Sprintf("not the same file as %q", r.Target))
	return nil
}

func (c *comparer) meta(name string, r *tree.Record, s *sys.Stat) {
	if (r.Kind == tree.Regular || r.Kind == tree.HardLink) && s.Size != r.Size {
		c.differs(name, Size, fmt.Sprintf("found %d bytes, published %d", s.Size, r.Size))
	}
	if r.Kind != tree.Symlink && s.Perm() != r.Mode {
		c.differs(name, Mode, fmt.Sprintf("found %04o, published %04o", s.Perm(), r.Mode))
	}
	if s.UID != r.UID || s.GID != r.GID {
		c.differs(name, Owner, fmt.Sprintf("found %d:%d, published %d:%d", s.UID, s.GID, r.UID, r.GID))
	}
	if s.Mtime != r.Mtime {
		c.differs(name, Mtime, fmt.Sprintf("found %s, published %s", stamp(s.Mtime), stamp(r.Mtime)))
	}
}

func stamp(t sys.Time) string { return t.Time().UTC().Format("2006-01-02T15:04:05.000000000Z") }

func (c *comparer) xattrs(d *sys.File, name, planned string, r *tree.Record) error {
	attrs, _, err := tree.ReadXattrs(d, name, c.scratch)
	if err != nil {
		return c.unreadable(planned, err)
	}
	if tree.DigestXattrs(attrs) != r.Xattrs {
		var names []string
		for _, a := range attrs {
			names = append(names, a.Name)
		}
		c.differs(planned, Xattrs, fmt.Sprintf("found %d %q", len(names), names))
	}
	return nil
}

func typeOf(kind tree.Kind) uint32 {
	switch kind {
	case tree.Subdir, tree.Dir:
		return unix.S_IFDIR
	case tree.Symlink:
		return unix.S_IFLNK
	}
	return unix.S_IFREG
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFREG:
		return "regular file"
	case unix.S_IFLNK:
		return "symbolic link"
	}
	return "special file"
}

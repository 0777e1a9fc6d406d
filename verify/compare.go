package verify

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// A Shard is a published tree, or one in a stage: the name of a directory or of a
// regular file in an open directory.
type Shard struct {
	Parent *sys.File
	Name   string
	Paths  *tree.PathSet // the entries to compare; nil: all of them
}

// comparer compares a tree with a manifest. It walks the tree in the order of the
// manifest, so that only one directory of the tree is in memory.
type comparer struct {
	ctx    context.Context
	shard  Shard
	report func(Difference)
	// onFile is called for each regular file that exists and has the right length:
	// name is its name in d, the open directory at path below shard.In. onSums is
	// called with the checksums of the blocks of that file.
	onFile func(d *sys.File, path, name string, r *tree.Record) error
	onSums func(r *tree.Record) error

	strict     bool              // an entry that cannot be read is an error
	linked     map[uint64]string // inode to path, of each file met that has several names
	isTree     bool              // the first record is a directory
	sumsWanted bool              // the last regular file was passed to onFile
	dir        *sys.File         // nil if the tree does not have the directory of the records
	path       string            // of dir
	names      []string          // of dir, not met in the manifest yet
	scratch    []byte
}

// CompareTree reports every difference in names and metadata between a tree and its
// manifest, which must have been checked. It reads no contents.
func CompareTree(ctx context.Context, m *Manifest, shard Shard, report func(Difference)) error {
	return newComparer(ctx, shard, report).compareManifest(m)
}

// CompareTreeStrictly is CompareTree for a tree that was just made: an entry that cannot be read
// is an error and not a difference, since then nothing is proven.
func CompareTreeStrictly(ctx context.Context, m *Manifest, shard Shard, report func(Difference)) error {
	c := newComparer(ctx, shard, report)
	c.strict = true
	return c.compareManifest(m)
}

func newComparer(ctx context.Context, shard Shard, report func(Difference)) *comparer {
	return &comparer{ctx: ctx, shard: shard, report: report,
		onFile: func(*sys.File, string, string, *tree.Record) error { return nil },
		onSums: func(*tree.Record) error { return nil }}
}

func (c *comparer) compareManifest(m *Manifest) error {
	c.scratch, c.linked = make([]byte, 64<<10), map[uint64]string{}
	if err := m.EachRecord(c.compareRecord); err != nil {
		if c.dir != nil {
			c.dir.Close()
		}
		return err // the names that are left may be in records that were not reached
	}
	return c.closeDirectory()
}

func (c *comparer) compareRecord(r *tree.Record) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	c.sumsWanted = c.sumsWanted && r.Kind == tree.Sums
	switch {
	case r.Kind == tree.Dir:
		if err := c.closeDirectory(); err != nil {
			return err
		}
		return c.openDirectory(r)
	case r.Kind == tree.Sums:
		if !c.sumsWanted {
			return nil // their file is not compared
		}
		return c.onSums(r)
	case !c.isTree:
		return c.compareSingleFile(r)
	case c.dir == nil:
		return nil // the directory was reported
	}
	return c.compareName(r)
}

// compareName reports the names of the open directory that sort before the record's name,
// which the manifest does not have, and compares the entry of that name.
func (c *comparer) compareName(r *tree.Record) error {
	for len(c.names) > 0 && c.names[0] < r.Name {
		c.reportExtra(c.names[0])
		c.names = c.names[1:]
	}
	wanted := c.shard.Paths.ContainsAtOrBelow(r.RelativePath())
	if len(c.names) == 0 || c.names[0] != r.Name {
		if wanted {
			c.reportDifference(r.Name, Missing, "")
		}
		return nil
	}
	c.names = c.names[1:]
	if !wanted {
		return nil
	}
	return c.compareEntry(c.dir, r.Name, r)
}

func (c *comparer) reportExtra(name string) {
	if c.shard.Paths.Contains(entryPath(c.path, name)) {
		c.reportDifference(name, Extra, "")
	}
}

func (c *comparer) reportDifference(name string, kind DifferenceKind, detail string) {
	c.report(Difference{Path: entryPath(c.path, name), Kind: kind, Detail: detail})
}

// openDirectory opens the directory of the records that follow, and compares it.
func (c *comparer) openDirectory(r *tree.Record) error {
	c.isTree, c.path, c.names = true, r.Path, nil
	if !c.shard.Paths.ContainsAtOrBelow(r.RelativePath()) {
		return nil
	}
	d, err := c.shard.Parent.OpenBelow(tree.JoinPath(c.shard.Name, r.Path))
	switch {
	case sys.IsErrno(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP):
		if r.Depth == 0 {
			c.reportRoot(err)
		}
		return nil // its name was reported in the directory above
	case err != nil:
		return c.reportUnreadable(".", err)
	}
	c.dir = d
	s, err := d.Stat()
	if err != nil {
		return c.reportUnreadableDir(err)
	}
	wanted := c.shard.Paths.Contains(r.RelativePath())
	if wanted {
		c.compareMetadata(".", r, &s)
	}
	if c.names, err = d.ListNames(c.scratch); err != nil {
		return c.reportUnreadableDir(err)
	}
	if !wanted {
		return nil
	}
	return c.compareXattrs(d, ".", ".", r)
}

// reportUnreadableDir reports the open directory and none of its names, which are unknown.
func (c *comparer) reportUnreadableDir(err error) error {
	c.names = nil
	return errs.Join(c.reportUnreadable(".", err), c.closeDirectory())
}

// reportUnreadable reports an entry that the file system fails to return. If this process
// lacks the means to read the entry, it returns the error: the entry may be good.
func (c *comparer) reportUnreadable(name string, err error) error {
	if c.strict || IsProcessError(err) {
		return err
	}
	c.reportDifference(name, Unreadable, err.Error())
	return nil
}

// IsProcessError reports whether err is one of a process that lacks descriptors, memory or rights.
// Such an error does not show that the file is damaged.
func IsProcessError(err error) bool {
	return sys.IsErrno(err, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.EPERM)
}

func (c *comparer) reportRoot(err error) {
	if sys.IsErrno(err, unix.ENOENT) {
		c.reportDifference(".", Missing, "")
		return
	}
	c.reportDifference(".", Type, "not a directory")
}

// closeDirectory closes the open directory, if there is one, and reports the names that
// the manifest does not have.
func (c *comparer) closeDirectory() error {
	if c.dir == nil {
		return nil
	}
	for _, name := range c.names {
		c.reportExtra(name)
	}
	err := c.dir.Close()
	c.dir = nil
	return err
}

// compareSingleFile compares a shard that is one regular file.
func (c *comparer) compareSingleFile(r *tree.Record) error {
	_, err := c.shard.Parent.StatAt(c.shard.Name)
	if sys.IsErrno(err, unix.ENOENT) {
		c.reportDifference(".", Missing, "")
		return nil
	}
	if err != nil {
		return err
	}
	return c.compareEntry(c.shard.Parent, c.shard.Name, r)
}

// compareEntry compares name in d, which exists, with its record.
func (c *comparer) compareEntry(d *sys.File, name string, r *tree.Record) error {
	s, err := d.StatAt(name)
	if err != nil {
		return c.reportUnreadable(r.Name, err)
	}
	if !c.compareType(r, &s) {
		return nil
	}
	switch r.Kind {
	case tree.Subdir:
		return nil
	case tree.Symlink:
		target, err := d.ReadlinkAt(name)
		if err != nil {
			return c.reportUnreadable(r.Name, err)
		}
		if target != r.Target {
			c.reportDifference(r.Name, LinkTarget, fmt.Sprintf("found %q, published %q", target, r.Target))
		}
		c.compareNotLinked(r, &s)
	case tree.Regular:
		c.compareNotLinked(r, &s)
	case tree.HardLink:
		if err := c.compareHardLink(r, &s); err != nil {
			return err
		}
	}
	c.compareMetadata(r.Name, r, &s)
	if err := c.compareXattrs(d, name, r.Name, r); err != nil {
		return err
	}
	if r.Kind != tree.Regular || s.Size != r.Size {
		return nil
	}
	c.sumsWanted = true
	if !c.isTree {
		return c.onFile(d, "", name, r)
	}
	return c.onFile(d, tree.JoinPath(c.shard.Name, r.Path), name, r)
}

// compareType reports whether the entry has the type of its record. If not, that is the
// only difference of the entry that is reported.
func (c *comparer) compareType(r *tree.Record, s *sys.Stat) bool {
	want := fileType(r.Kind)
	if r.Kind == tree.HardLink && s.IsSymlink() {
		want = unix.S_IFLNK // a hard link has the type of its first name, which is compared by itself
	}
	if s.Mode&unix.S_IFMT == want {
		return true
	}
	c.reportDifference(r.Name, Type, fmt.Sprintf("found %s, published as %s", typeName(s.Mode), typeName(want)))
	return false
}

// compareNotLinked reports an entry that is the same file as an earlier one, although the
// manifest has it as a file of its own.
func (c *comparer) compareNotLinked(r *tree.Record, s *sys.Stat) {
	if s.Nlink < 2 {
		return
	}
	if other, met := c.linked[s.Ino]; met {
		c.reportDifference(r.Name, HardLink, fmt.Sprintf("the same file as %q", other))
		return
	}
	c.linked[s.Ino] = r.RelativePath()
}

func (c *comparer) compareHardLink(r *tree.Record, s *sys.Stat) error {
	same, err := c.isSameFile(r.Target, s)
	switch {
	case same:
		return nil
	case err != nil && !sys.IsErrno(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP):
		return c.reportUnreadable(r.Name, err)
	}
	c.reportDifference(r.Name, HardLink, fmt.Sprintf("not the same file as %q", r.Target))
	return nil
}

// isSameFile reports whether a path below the shard leads to the file s.
func (c *comparer) isSameFile(path string, s *sys.Stat) (bool, error) {
	dir, name := splitPath(path)
	d, err := c.shard.Parent.OpenBelow(tree.JoinPath(c.shard.Name, dir))
	if err != nil {
		return false, err
	}
	defer d.Close()
	found, err := d.StatAt(name)
	return err == nil && found.SameFile(s), err
}

func (c *comparer) compareMetadata(name string, r *tree.Record, s *sys.Stat) {
	if (r.Kind == tree.Regular || r.Kind == tree.HardLink) && s.Size != r.Size {
		c.reportDifference(name, Size, fmt.Sprintf("found %s, published %d", humanize.Count(s.Size, "byte"), r.Size))
	}
	if r.Kind != tree.Symlink && s.Perm() != r.Mode {
		c.reportDifference(name, Mode, fmt.Sprintf("found %04o, published %04o", s.Perm(), r.Mode))
	}
	if s.UID != r.UID || s.GID != r.GID {
		c.reportDifference(name, Owner, fmt.Sprintf("found %d:%d, published %d:%d", s.UID, s.GID, r.UID, r.GID))
	}
	if s.Mtime != r.Mtime {
		c.reportDifference(name, Mtime, fmt.Sprintf("found %s, published %s", formatMtime(s.Mtime), formatMtime(r.Mtime)))
	}
}

// formatMtime is RFC 3339 with all nanoseconds: two times may differ in the last of them.
func formatMtime(t sys.Time) string { return t.Time().UTC().Format("2006-01-02T15:04:05.000000000Z") }

// compareXattrs compares the extended attributes of name in d; entry is its name in
// differences.
func (c *comparer) compareXattrs(d *sys.File, name, entry string, r *tree.Record) error {
	attrs, _, err := tree.ReadXattrs(d, name, c.scratch)
	if err != nil {
		return c.reportUnreadable(entry, err)
	}
	if tree.DigestXattrs(attrs) != r.Xattrs {
		var names []string
		for _, a := range attrs {
			names = append(names, a.Name)
		}
		c.reportDifference(entry, Xattrs, fmt.Sprintf("found %d %q", len(names), names))
	}
	return nil
}

// fileType returns the S_IFMT bits that the entry of a record has.
func fileType(kind tree.Kind) uint32 {
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

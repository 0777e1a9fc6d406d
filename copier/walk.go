package copier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// planVersion is the version of the plan. It changes if this program cannot resume a
// stage of an older program.
const planVersion = 1

// ErrUnsupportedEntry is in the error of MakePlan if the source holds an entry of a type that a
// shard may not hold.
var ErrUnsupportedEntry = errors.New("a shard holds only files, directories and symbolic links")

// maxRefusedNamed is the number of refused entries that the error names.
const maxRefusedNamed = 10

// walker writes the plan of a source.
type walker struct {
	ctx          context.Context
	src          *Source
	enc          *tree.Encoder
	plan         *Plan
	only         *tree.PathSet // the entries to record; nil: all
	scratch      []byte
	firstNames   map[inode]*linkedFile // of files with several names
	refused      []string
	refusedCount int
	asRoot       bool
}

type inode struct{ dev, ino uint64 }

type linkedFile struct {
	path string // of the name that the walk met first
	left uint32 // names not met yet
}

// walkSource writes every entry of the source to out, directory by directory.
func walkSource(ctx context.Context, src *Source, out io.Writer, plan *Plan, only *tree.PathSet) error {
	enc, err := tree.NewEncoder(out, tree.PlanKind, planVersion, nil)
	if err != nil {
		return err
	}
	w := &walker{ctx: ctx, src: src, enc: enc, plan: plan, only: only, scratch: make([]byte, 64<<10),
		firstNames: map[inode]*linkedFile{}, asRoot: os.Geteuid() == 0}
	plan.probes = xattrProbes{}
	if err := w.walkRoot(); err != nil {
		return err
	}
	if w.refusedCount > 0 {
		return fmt.Errorf("%w: found %s, the first: %s", ErrUnsupportedEntry, humanize.Count(w.refusedCount, "other entry"), strings.Join(w.refused, ", "))
	}
	plan.sum = enc.Identity()
	return enc.Close()
}

func (w *walker) walkRoot() error {
	if !w.src.IsFile() {
		return w.walkDir("", ".", 0)
	}
	_, err := w.recordEntries(w.src.base, "", []string{w.src.file})
	return err
}

// walkDir records a directory and its entries, and then walks its subdirectories. It
// holds no descriptor while it walks them.
func (w *walker) walkDir(below, name string, depth int) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	d, err := w.src.openDir(below)
	if err != nil {
		return err
	}
	subdirs, err := w.recordDir(d, below, name, depth)
	if err := firstError(err, d.Close()); err != nil {
		return err
	}
	for _, subdir := range subdirs {
		if err := w.walkDir(tree.JoinPath(below, subdir), subdir, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// recordDir records d, the directory at below, and its entries. It returns the names of
// the subdirectories.
func (w *walker) recordDir(d *sys.File, below, name string, depth int) (subdirs []string, err error) {
	s, err := d.Stat() // before the names: if they change later, the recheck finds other times
	if err != nil {
		return nil, err
	}
	attrs, skipped, err := tree.ReadXattrs(d, ".", w.scratch)
	if err != nil {
		return nil, err
	}
	r := w.newRecord(tree.Dir, name, &s)
	r.Path, r.Depth = below, depth
	if err := w.writeRecord(&r, attrs, skipped); err != nil {
		return nil, err
	}
	w.plan.Dirs++
	names, err := d.ListNames(w.scratch)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !w.only.ContainsAtOrBelow(tree.JoinPath(below, name)) })
	for part := range slices.Chunk(names, statsAtOnce) {
		more, err := w.recordEntries(d, below, part)
		if err != nil {
			return nil, err
		}
		subdirs = append(subdirs, more...)
	}
	return subdirs, nil
}

// recordEntries records entries of d, the directory at below, and returns the names of
// the subdirectories among them.
func (w *walker) recordEntries(d *sys.File, below string, names []string) (subdirs []string, err error) {
	for i, found := range w.statEntries(d, names) {
		if found.err != nil {
			return nil, found.err
		}
		if found.stat.IsDir() {
			subdirs = append(subdirs, names[i])
		}
		if err := w.recordEntry(below, names[i], &found); err != nil {
			return nil, err
		}
	}
	return subdirs, nil
}

func (w *walker) recordEntry(below, name string, found *foundEntry) error {
	switch s := &found.stat; {
	case s.IsDir():
		return w.enc.Write(&tree.Record{Kind: tree.Subdir, Name: name})
	case s.IsRegular():
		return w.recordFile(below, name, found)
	case s.IsSymlink():
		return w.recordSymlink(below, name, found)
	default:
		if w.refusedCount++; len(w.refused) < maxRefusedNamed {
			w.refused = append(w.refused, fmt.Sprintf("%q (%s)", tree.JoinPath(below, name), typeName(s.Mode)))
		}
		return nil
	}
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFCHR:
		return "character device"
	}
	return "unknown type"
}

func (w *walker) recordFile(below, name string, found *foundEntry) error {
	s := &found.stat
	r := w.newRecord(tree.Regular, name, s)
	r.Path, r.Size = below, s.Size
	if first := w.firstName(&r, s); first != "" {
		r.Kind, r.Target = tree.HardLink, first
		w.plan.HardLinks++
	} else {
		w.plan.addFile(&r)
	}
	return w.writeRecord(&r, found.attrs, found.skipped)
}

// firstName returns the path under which the walk met the file first, or "" if this is
// the first name. A file is forgotten after its last name. A file that has names outside
// the shard is remembered until the end of the walk.
func (w *walker) firstName(r *tree.Record, s *sys.Stat) string {
	if s.Nlink < 2 {
		return ""
	}
	id := inode{s.Dev, s.Ino}
	file, met := w.firstNames[id]
	if !met {
		w.firstNames[id] = &linkedFile{r.RelativePath(), s.Nlink - 1}
		return ""
	}
	if file.left--; file.left == 0 {
		delete(w.firstNames, id)
	}
	return file.path
}

func (w *walker) recordSymlink(below, name string, found *foundEntry) error {
	s, target := &found.stat, found.target
	r := w.newRecord(tree.Symlink, name, s)
	r.Path = below
	if first := w.firstName(&r, s); first != "" { // a symbolic link can have several names, too
		r.Kind, r.Size, r.Target = tree.HardLink, s.Size, first
		w.plan.HardLinks++
		return w.writeRecord(&r, found.attrs, found.skipped)
	}
	r.Target = target
	w.plan.Symlinks++
	if path.IsAbs(target) || strings.HasPrefix(path.Join(below, target)+"/", "../") {
		if w.plan.EscapingSymlinks++; w.plan.EscapingSymlinks == 1 {
			w.plan.FirstEscapingSymlink = r.RelativePath()
		}
	}
	return w.writeRecord(&r, found.attrs, found.skipped)
}

// newRecord returns a record with the fields that all kinds of entries have. A process
// that is not root cannot give files away, and becomes the owner of the copy.
func (w *walker) newRecord(kind tree.Kind, name string, s *sys.Stat) tree.Record {
	r := tree.Record{Kind: kind, Name: name, Mode: s.Perm(), UID: s.UID, GID: s.GID, Mtime: s.Mtime,
		Source: tree.Source{Ino: s.Ino, Ctime: s.Ctime, Atime: s.Atime, Blocks: s.Blocks}}
	if !w.asRoot {
		r.UID, r.GID = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	return r
}

// writeRecord adds the extended attributes to the record and writes it.
func (w *walker) writeRecord(r *tree.Record, attrs []tree.Xattr, skipped []string) error {
	for _, attr := range skipped {
		if w.plan.SkippedXattrs++; w.plan.SkippedXattrs == 1 {
			w.plan.FirstSkippedXattr = attr
		}
	}
	r.Xattrs = tree.DigestXattrs(attrs)
	w.plan.probes.addProbes(attrs, r.RelativePath(), r.Kind == tree.Dir)
	return w.enc.Write(r)
}

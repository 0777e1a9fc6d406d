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

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// planVersion changes whenever a stage made by an older program cannot be gone
// on with.
const planVersion = 1

// ErrRefused is in the error of a walk that met something no shard may hold.
var ErrRefused = errors.New("a shard holds only files, directories and symbolic links")

// maxNamed is how many of the refused entries an error names.
const maxNamed = 10

// walker writes the plan of a source.
type walker struct {
	ctx      context.Context
	src      *Source
	enc      *tree.Encoder
	plan     *Plan
	only     *tree.Only // what is recorded; nil: everything
	scratch  []byte
	first    map[inode]*linked // of files with several names, the first that was met
	refused  []string
	refusals int
	asRoot   bool
}

type inode struct{ dev, ino uint64 }

type linked struct {
	path string
	left uint32 // names not met yet
}

// walk writes every entry of the source to out, directory by directory.
func walk(ctx context.Context, src *Source, out io.Writer, plan *Plan, only *tree.Only) error {
	enc, err := tree.NewEncoder(out, tree.PlanKind, planVersion, nil)
	if err != nil {
		return err
	}
	w := &walker{ctx: ctx, src: src, enc: enc, plan: plan, only: only, scratch: make([]byte, 64<<10),
		first: map[inode]*linked{}, asRoot: os.Geteuid() == 0}
	plan.probes = xattrProbes{}
	if src.IsFile() {
		_, err = w.entries(src.base, "", []string{src.file})
	} else {
		err = w.dir("", ".", 0)
	}
	if err == nil && w.refusals > 0 {
		err = fmt.Errorf("%w: found %d other entries, the first: %s", ErrRefused, w.refusals, strings.Join(w.refused, ", "))
	}
	if err != nil {
		return err
	}
	plan.sum = enc.Identity()
	return enc.Close()
}

// dir records a directory, what is in it, and then the directories in it. It
// holds no descriptor while it goes down.
func (w *walker) dir(below, name string, depth int) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	d, err := w.src.open(below)
	if err != nil {
		return err
	}
	subdirs, err := w.list(d, below, name, depth)
	if closed := d.Close(); err == nil {
		err = closed
	}
	for i := 0; i < len(subdirs) && err == nil; i++ {
		err = w.dir(tree.Join(below, subdirs[i]), subdirs[i], depth+1)
	}
	return err
}

func (w *walker) list(d *sys.File, below, name string, depth int) (subdirs []string, err error) {
	s, err := d.Stat() // before the names: what changes them later shows in the recheck
	if err != nil {
		return nil, err
	}
	attrs, skipped, err := tree.ReadXattrs(d, ".", w.scratch)
	if err != nil {
		return nil, err
	}
	r := w.record(tree.Dir, name, &s)
	r.Path, r.Depth = below, depth
	if err := w.write(&r, attrs, skipped); err != nil {
		return nil, err
	}
	w.plan.Dirs++
	names, err := d.Names(w.scratch)
	names = slices.DeleteFunc(names, func(name string) bool { return !w.only.Leads(tree.Join(below, name)) })
	for len(names) > 0 && err == nil {
		var some []string
		n := min(len(names), namesAtOnce)
		some, err = w.entries(d, below, names[:n])
		subdirs, names = append(subdirs, some...), names[n:]
	}
	return subdirs, err
}

// entries records names in d, which is the directory at below, and returns those of
// directories.
func (w *walker) entries(d *sys.File, below string, names []string) (subdirs []string, err error) {
	for i, found := range w.lookAt(d, names) {
		if found.err != nil {
			return nil, found.err
		}
		if found.stat.IsDir() {
			subdirs = append(subdirs, names[i])
		}
		if err := w.entry(below, names[i], &found); err != nil {
			return nil, err
		}
	}
	return subdirs, nil
}

func (w *walker) entry(below, name string, found *looked) error {
	switch s := &found.stat; {
	case s.IsDir():
		return w.enc.Write(&tree.Record{Kind: tree.Subdir, Name: name})
	case s.IsRegular():
		return w.regular(below, name, found)
	case s.IsSymlink():
		return w.symlink(below, name, found)
	default:
		if w.refusals++; len(w.refused) < maxNamed {
			w.refused = append(w.refused, fmt.Sprintf("%q (%s)", tree.Join(below, name), typeName(s.Mode)))
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

func (w *walker) regular(below, name string, found *looked) error {
	s := &found.stat
	r := w.record(tree.Regular, name, s)
	r.Path, r.Size = below, s.Size
	if first := w.firstName(&r, s); first != "" {
		r.Kind, r.Target = tree.HardLink, first
		w.plan.HardLinks++
	} else {
		w.plan.addFile(&r)
	}
	return w.write(&r, found.attrs, found.skipped)
}

// firstName is the path under which the file was met before. A file is forgotten
// when all its names are met; names outside the shard keep it to the end.
func (w *walker) firstName(r *tree.Record, s *sys.Stat) string {
	if s.Nlink < 2 {
		return ""
	}
	id := inode{s.Dev, s.Ino}
	l, met := w.first[id]
	if !met {
		w.first[id] = &linked{r.Below(), s.Nlink - 1}
		return ""
	}
	if l.left--; l.left == 0 {
		delete(w.first, id)
	}
	return l.path
}

func (w *walker) symlink(below, name string, found *looked) error {
	s, target := &found.stat, found.target
	r := w.record(tree.Symlink, name, s)
	r.Path = below
	if first := w.firstName(&r, s); first != "" { // links, too, can have several names
		r.Kind, r.Size, r.Target = tree.HardLink, s.Size, first
		w.plan.HardLinks++
		return w.write(&r, found.attrs, found.skipped)
	}
	r.Target = target
	w.plan.Symlinks++
	if path.IsAbs(target) || strings.HasPrefix(path.Join(below, target)+"/", "../") {
		if w.plan.Escaping++; w.plan.Escaping == 1 {
			w.plan.FirstEscaping = r.Below()
		}
	}
	return w.write(&r, found.attrs, found.skipped)
}

// record is what every kind of entry has. Who cannot give files away owns the
// copy.
func (w *walker) record(kind tree.Kind, name string, s *sys.Stat) tree.Record {
	r := tree.Record{Kind: kind, Name: name, Mode: s.Perm(), UID: s.UID, GID: s.GID, Mtime: s.Mtime,
		Source: tree.Source{Ino: s.Ino, Ctime: s.Ctime, Atime: s.Atime, Blocks: s.Blocks}}
	if !w.asRoot {
		r.UID, r.GID = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	return r
}

// write completes the record with its extended attributes.
func (w *walker) write(r *tree.Record, attrs []tree.Xattr, skipped []string) error {
	for _, attr := range skipped {
		if w.plan.SkippedXattrs++; w.plan.SkippedXattrs == 1 {
			w.plan.FirstSkipped = attr
		}
	}
	r.Xattrs = tree.DigestXattrs(attrs)
	w.plan.probes.add(attrs, r.Below(), r.Kind == tree.Dir)
	return w.enc.Write(r)
}

package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// List is a list of sums and the directory whose files they are of. Symbolic links
// are not followed: one that is listed, or on the way, is a difference.
type List struct {
	Dir    *sys.File
	Report func(Difference)
	Bad    func(BadLine)

	Lines, Files, Bytes int64 // good lines; of those, regular files that are there, and their lengths

	covered inodes
	open    *sys.File // the directory of the line before; nil: none, or it could not be opened
	path    string
	opened  error // why it could not be
}

// Plan reads the list to its end, and counts. It reads no contents and reports nothing.
func (l *List) Plan(ctx context.Context, lines *SumsReader) error {
	quiet := &List{Dir: l.Dir, Report: func(Difference) {}, Bad: func(BadLine) {}}
	defer quiet.close()
	err := quiet.each(ctx, lines, func(*sys.File, *tree.Record) error { return nil })
	l.Lines, l.Files, l.Bytes = quiet.Lines, quiet.Files, quiet.Bytes
	return err
}

// Compare reads every file that is listed from the device, by workers of the pool over
// files and over the blocks of large ones, and holds it against its sum.
func (l *List) Compare(ctx context.Context, lines *SumsReader, p *pool.Pool, medium *Medium, progress Progress) error {
	c := &contents{shard: Shard{In: l.Dir}, medium: medium, progress: progress, report: l.Report, open: map[*largeFile]bool{}}
	quiet := *l
	*l = List{Dir: l.Dir, Report: c.tell, Bad: l.Bad, covered: inodes{}}
	defer func() { l.Report = quiet.Report }()
	defer l.close()
	defer c.closeLarge()
	return p.Run(ctx, func(ctx context.Context, emit func(pool.Task) error) error {
		c.emit = emit
		err := l.each(ctx, lines, func(d *sys.File, r *tree.Record) error { return c.listed(d, r) })
		if err != nil {
			return err
		}
		return c.flush()
	})
}

// each calls f for every file that is listed and there: its directory, and what was
// found of it, with the sum that the list has.
func (l *List) each(ctx context.Context, lines *SumsReader, f func(d *sys.File, r *tree.Record) error) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := lines.Next()
		var bad *BadLine
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &bad):
			l.Bad(*bad)
			continue
		case err != nil:
			return err
		}
		l.Lines++
		r, err := l.find(line)
		if err == nil && r != nil {
			err = f(l.open, r)
		}
		if err != nil {
			return err
		}
	}
}

// find is the file of a line, nil if it was reported.
func (l *List) find(line SumLine) (*tree.Record, error) {
	path, name := "", line.Path
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		path, name = name[:i], name[i+1:]
	}
	l.enter(path)
	var s sys.Stat
	err := l.opened
	if err == nil {
		s, err = l.open.StatAt(name)
	}
	switch {
	case sys.Is(err, unix.ENOENT, unix.ENAMETOOLONG):
		l.Report(Difference{Path: line.Path, Kind: Missing})
	case sys.Is(err, unix.ENOTDIR, unix.ELOOP):
		l.Report(Difference{Path: line.Path, Kind: Type, Detail: fmt.Sprintf("%q is, or leads through, something other than a directory", path)})
	case Ours(err):
		return nil, err
	case err != nil:
		l.Report(Difference{Path: line.Path, Kind: Unreadable, Detail: err.Error()})
	case !s.IsRegular():
		l.Report(Difference{Path: line.Path, Kind: Type, Detail: fmt.Sprintf("found %s, listed as regular file", typeName(s.Mode))})
	default:
		l.Files++
		l.Bytes += s.Size
		l.Cover(&s)
		return &tree.Record{Kind: tree.Regular, Path: path, Name: name, Size: s.Size, Sum: line.Sum}, nil
	}
	return nil, nil
}

// enter opens the directory of a line, which is mostly that of the line before.
func (l *List) enter(path string) {
	if l.path == path && (l.open != nil || l.opened != nil) {
		return
	}
	l.close()
	l.path = path
	l.open, l.opened = l.Dir.OpenBelow(path)
}

func (l *List) close() {
	if l.open != nil {
		l.open.Close() //nolint:errcheck // opened for reading
	}
	l.open, l.opened = nil, nil
}

// Cover makes a file one that Unlisted does not count.
func (l *List) Cover(s *sys.Stat) {
	if l.covered != nil {
		l.covered.add(s)
	}
}

// listed takes a file that is there, with the sum of the whole of it.
func (c *contents) listed(d *sys.File, r *tree.Record) error {
	switch {
	case r.Size == 0:
		if r.Sum != xxhash.Sum64(nil) {
			c.tell(Difference{Path: r.Below(), Kind: Content, Detail: "found 0 bytes"})
		}
		c.progress.FileDone()
		return nil
	case tree.Blocks(r.Size) == 1:
		return c.file(d, r.Path, r.Name, r)
	}
	if err := c.openLarge(d, r.Name, r); err != nil || c.large == nil {
		return err
	}
	f, want := c.large, r.Sum
	for i := range tree.Blocks(r.Size) {
		err := c.emit(func(ctx context.Context, w *pool.Worker) error { return c.sumLarge(ctx, f, i, want, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

// sumLarge reads block i of a file whose sum as a whole is wanted. Blocks are read in
// any order, and summed one after the other: who has one waits only for those before
// it, which others have taken before.
func (c *contents) sumLarge(ctx context.Context, f *largeFile, i int64, want uint64, w *pool.Worker) error {
	if err := f.load(i, w.Buf); err != nil {
		wrong, err := f.failure(ctx, i, err, w.Buf)
		if err != nil {
			return err
		}
		f.wrong(wrong)
	}
	// Of a file that cannot be read the sum does not matter, but others wait for it.
	if err := f.Accept(ctx, i, w.Buf); err != nil {
		return err
	}
	c.progress.ReadBack(int64(tree.BlockLen(f.size, i)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	return c.finish(f, &want)
}

// Unlisted counts the regular files below the directory that no line of the list is
// about, under whatever name.
func (l *List) Unlisted(ctx context.Context) (count int64, err error) {
	scratch := make([]byte, 64<<10)
	for left := []string{""}; len(left) > 0; {
		if ctx.Err() != nil {
			return count, context.Cause(ctx)
		}
		path := left[len(left)-1]
		below, n, err := l.unlistedIn(path, scratch)
		if err != nil {
			return count, err
		}
		left, count = append(left[:len(left)-1], below...), count+n
	}
	return count, nil
}

func (l *List) unlistedIn(path string, scratch []byte) (below []string, count int64, err error) {
	d, err := l.Dir.OpenBelow(path)
	if err != nil {
		return nil, 0, err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	names, err := d.Names(scratch)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		s, err := d.StatAt(name)
		switch {
		case err != nil:
			return nil, 0, err
		case s.IsDir():
			below = append(below, tree.Join(path, name))
		case s.IsRegular() && !l.covered.has(&s):
			count++
			if s.Nlink > 1 {
				l.covered.add(&s)
			}
		}
	}
	return below, count, nil
}

// inodes is a set of files, a bit each where their numbers are close together, as
// those of ext4, XFS and btrfs are, and some tens of bytes where they are not.
type inodes map[[2]uint64]uint64

func slot(s *sys.Stat) (key [2]uint64, bit uint64) {
	return [2]uint64{s.Dev, s.Ino / 64}, 1 << (s.Ino % 64)
}

func (n inodes) add(s *sys.Stat) {
	key, bit := slot(s)
	n[key] |= bit
}

func (n inodes) has(s *sys.Stat) bool {
	key, bit := slot(s)
	return n[key]&bit != 0
}

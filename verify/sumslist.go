package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// SumsList compares the files of a directory with a list of checksums. It does not follow
// symbolic links: a listed name that is a link, or leads through one, is a difference.
type SumsList struct {
	Dir       *sys.File // the directory that the names are below
	Report    func(Difference)
	OnBadLine func(BadLine) // called for each line that cannot be used

	Lines int64 // good lines
	Files int64 // regular files of those that exist
	Bytes int64 // their lengths

	covered inodeSet
	open    *sys.File // the directory of the last line; nil: not open, or openErr
	path    string    // of that directory
	openErr error
}

// CountListed reads the list to its end, and counts lines, files and bytes. It reads no contents
// and reports nothing.
func (l *SumsList) CountListed(ctx context.Context, lines *SumsReader) error {
	quiet := &SumsList{Dir: l.Dir, Report: func(Difference) {}, OnBadLine: func(BadLine) {}}
	defer quiet.closeDirectory()
	err := quiet.eachFile(ctx, lines, func(*sys.File, *tree.Record) error { return nil })
	l.Lines, l.Files, l.Bytes = quiet.Lines, quiet.Files, quiet.Bytes
	return err
}

// compareFiles compares every listed file. The workers read several small files, and
// several blocks of a large file, at once.
func (l *SumsList) compareFiles(ctx context.Context, lines *SumsReader, r contentsReader) error {
	c := newContentsComparer(Shard{Parent: l.Dir}, r, l.Report)
	given := *l
	*l = SumsList{Dir: l.Dir, Report: c.reportDifference, OnBadLine: l.OnBadLine, covered: inodeSet{}}
	defer func() { l.Report = given.Report }()
	defer l.closeDirectory()
	defer c.closeLargeFiles()
	return r.workers.Run(ctx, func(ctx context.Context, emit func(pool.Task) error) error {
		c.emit = emit
		err := l.eachFile(ctx, lines, func(d *sys.File, r *tree.Record) error { return c.addListedFile(d, r) })
		if err != nil {
			return err
		}
		return c.emitBatch()
	})
}

// eachFile calls f for every listed file that exists, with its directory and a record of
// the file as found, except that the checksum is the listed one.
func (l *SumsList) eachFile(ctx context.Context, lines *SumsReader, f func(d *sys.File, r *tree.Record) error) error {
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
			l.OnBadLine(*bad)
			continue
		case err != nil:
			return err
		}
		l.Lines++
		r, err := l.findFile(line)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if err := f(l.open, r); err != nil {
			return err
		}
	}
}

// findFile returns the file of a line, or nil after it has reported the reason.
func (l *SumsList) findFile(line SumLine) (*tree.Record, error) {
	path, name := splitPath(line.Path)
	s, err := l.statFile(path, name)
	switch {
	case sys.IsErrno(err, unix.ENOENT, unix.ENAMETOOLONG):
		l.Report(Difference{Path: line.Path, Kind: Missing})
	case sys.IsErrno(err, unix.ENOTDIR, unix.ELOOP):
		l.Report(Difference{Path: line.Path, Kind: Type, Detail: fmt.Sprintf("%q is, or leads through, something other than a directory", path)})
	case IsProcessError(err):
		return nil, err
	case err != nil:
		l.Report(Difference{Path: line.Path, Kind: Unreadable, Detail: err.Error()})
	case !s.IsRegular():
		l.Report(Difference{Path: line.Path, Kind: Type, Detail: fmt.Sprintf("found %s, listed as regular file", typeName(s.Mode))})
	default:
		l.Files++
		l.Bytes += s.Size
		l.MarkListed(&s)
		return &tree.Record{Kind: tree.Regular, Path: path, Name: name, Size: s.Size, Sum: line.Sum}, nil
	}
	return nil, nil
}

func (l *SumsList) statFile(path, name string) (sys.Stat, error) {
	if err := l.openDirectory(path); err != nil {
		return sys.Stat{}, err
	}
	return l.open.StatAt(name)
}

// openDirectory opens the directory of a line. Mostly it is that of the line before, and
// open already.
func (l *SumsList) openDirectory(path string) error {
	if l.path == path && (l.open != nil || l.openErr != nil) {
		return l.openErr
	}
	l.closeDirectory()
	l.path = path
	l.open, l.openErr = l.Dir.OpenBelow(path)
	return l.openErr
}

func (l *SumsList) closeDirectory() {
	if l.open != nil {
		l.open.Close()
	}
	l.open, l.openErr = nil, nil
}

// MarkListed makes a file count as listed, so that Unlisted does not count it.
func (l *SumsList) MarkListed(s *sys.Stat) {
	if l.covered != nil {
		l.covered.add(s)
	}
}

// addListedFile takes a file that exists. The checksum in r is that of the whole file.
func (c *contentsComparer) addListedFile(d *sys.File, r *tree.Record) error {
	switch {
	case r.Size == 0:
		if r.Sum != xxhash.Sum64(nil) {
			c.reportDifference(Difference{Path: r.RelativePath(), Kind: Content, Detail: "found " + humanize.Count(r.Size, "byte")})
		}
		c.progress.FileDone()
		return nil
	case tree.BlockCount(r.Size) == 1:
		return c.addFile(d, r.Path, r.Name, r)
	}
	if err := c.openLargeFile(d, r.Name, r); err != nil || c.large == nil {
		return err
	}
	f, want := c.large, r.Sum
	for i := range tree.BlockCount(r.Size) {
		err := c.emit(func(ctx context.Context, w *pool.Worker) error { return c.sumLargeBlock(ctx, f, i, want, w) })
		if err != nil {
			return err
		}
	}
	return nil
}

// sumLargeBlock reads block i of a file and adds it to the checksum of the whole file,
// which must be want. Blocks are read in any order but added one after the other. This
// cannot deadlock: a worker waits only for blocks before its own, and other workers have
// taken those earlier.
func (c *contentsComparer) sumLargeBlock(ctx context.Context, f *largeFile, i int64, want uint64, w *pool.Worker) error {
	if err := f.readBlock(i, w.Buf); err != nil {
		found, err := f.diagnoseBlock(ctx, i, err, w.Buf)
		if err != nil {
			return err
		}
		f.addDamage(found)
	}
	// After a failed read the checksum does not matter, but the blocks after this one
	// wait for it.
	if err := f.Accept(ctx, i, w.Buf); err != nil {
		return err
	}
	c.progress.ReadBack(int64(tree.BlockLen(f.size, i)))
	if f.left.Add(-1) > 0 {
		return nil
	}
	return c.finishLargeFile(f, &want)
}

// CountUnlisted counts the regular files below the directory that are not in the list under
// any of their names.
func (l *SumsList) CountUnlisted(ctx context.Context) (count int64, err error) {
	scratch := make([]byte, 64<<10)
	for left := []string{""}; len(left) > 0; {
		if ctx.Err() != nil {
			return count, context.Cause(ctx)
		}
		path := left[len(left)-1]
		below, n, err := l.countUnlistedIn(path, scratch)
		if err != nil {
			return count, err
		}
		left, count = append(left[:len(left)-1], below...), count+n
	}
	return count, nil
}

// countUnlistedIn counts the files of one directory and returns its directories.
func (l *SumsList) countUnlistedIn(path string, scratch []byte) (below []string, count int64, err error) {
	d, err := l.Dir.OpenBelow(path)
	if err != nil {
		return nil, 0, err
	}
	defer d.Close()
	names, err := d.ListNames(scratch)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		s, err := d.StatAt(name)
		switch {
		case err != nil:
			return nil, 0, err
		case s.IsDir():
			below = append(below, tree.JoinPath(path, name))
		case s.IsRegular() && !l.covered.has(&s):
			count++
			if s.Nlink > 1 {
				l.covered.add(&s)
			}
		}
	}
	return below, count, nil
}

// inodeSet is a set of files. A file takes about a bit where inode numbers are close
// together, as those of ext4, XFS and btrfs are, and some tens of bytes elsewhere.
type inodeSet map[[2]uint64]uint64

func inodeSlot(s *sys.Stat) (key [2]uint64, bit uint64) {
	return [2]uint64{s.Dev, s.Ino / 64}, 1 << (s.Ino % 64)
}

func (n inodeSet) add(s *sys.Stat) {
	key, bit := inodeSlot(s)
	n[key] |= bit
}

func (n inodeSet) has(s *sys.Stat) bool {
	key, bit := inodeSlot(s)
	return n[key]&bit != 0
}

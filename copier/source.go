package copier

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// location is one end of a copy: a tree below an open directory, or one file in that
// directory. All paths are opened relative to the descriptor, and no symbolic link is
// followed.
type location struct {
	base   *sys.File
	prefix string // of a tree: its path below base
	file   string // of a single file: its name in base
}

// openDir opens the directory at path of the tree. For a single file it opens the
// directory that holds the file.
func (l *location) openDir(path string) (*sys.File, error) {
	return l.base.OpenBelow(tree.JoinPath(l.prefix, path))
}

// nameOf returns the name at this location of an entry that the plan calls planned.
// The two differ only for a single file.
func (l *location) nameOf(planned string) string {
	if l.file != "" {
		return l.file
	}
	return planned
}

// Source is the shard that is copied: a directory or one regular file.
type Source struct {
	Path string   // absolute, as given
	Stat sys.Stat // of the shard itself
	location
}

// OpenSource opens the shard at path, which must be a directory, a regular file, or a
// symbolic link to one of them. The error contains fs.ErrNotExist if it does not exist. The
// caller must close the source.
func OpenSource(path string) (*Source, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	s := &Source{Path: path}
	s.base, err = sys.OpenDir(path)
	if sys.IsErrno(err, unix.ENOTDIR) {
		return s, s.openSingleFile()
	}
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	s.Stat, err = s.base.Stat()
	return s, err
}

func (s *Source) openSingleFile() error {
	resolved, err := sys.RealPath(s.Path)
	if err != nil {
		return fmt.Errorf("open source: %w", err)
	}
	s.file = filepath.Base(resolved)
	if s.base, err = sys.OpenDir(filepath.Dir(resolved)); err != nil {
		return fmt.Errorf("open source: %w", err)
	}
	s.Stat, err = s.base.StatAt(s.file)
	if err == nil && !s.Stat.IsRegular() {
		err = errors.New("neither a directory nor a regular file")
	}
	if err != nil {
		s.base.Close()
		return fmt.Errorf("open source %q: %w", s.Path, err)
	}
	return nil
}

// OpenSourceAt opens the shard called name in an open directory. It must be a directory or
// a regular file, not a symbolic link. The error contains fs.ErrNotExist if it does not
// exist. The caller must close the source.
func OpenSourceAt(in *sys.File, name string) (*Source, error) {
	s := &Source{Path: in.Path() + "/" + name}
	var err error
	if s.Stat, err = in.StatAt(name); err != nil {
		return nil, err
	}
	if s.Stat.IsDir() {
		s.base, err = in.OpenDirAt(name)
	} else {
		s.file = name
		s.base, err = in.OpenBelow("")
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// IsFile reports whether the shard is one regular file.
func (s *Source) IsFile() bool { return s.file != "" }

// Close closes the source.
func (s *Source) Close() error { return s.base.Close() }

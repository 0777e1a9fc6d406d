package copier

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// side is one end of a copy: a tree below an open directory, or one file in it.
// Every path is taken relative to the descriptor, and no symbolic link followed.
type side struct {
	base   *sys.File
	prefix string // of a tree: its path below base
	file   string // of a single file: its name in base
}

// open opens the directory at path of the tree, for a single file the one it is
// in.
func (s *side) open(path string) (*sys.File, error) {
	return s.base.OpenBelow(tree.Join(s.prefix, path))
}

// name is what the plan's name is called on this side.
func (s *side) name(planned string) string {
	if s.file != "" {
		return s.file
	}
	return planned
}

// Source is a shard where it comes from.
type Source struct {
	Path string   // absolute, as given
	Stat sys.Stat // of the shard itself
	side
}

// OpenSource opens the shard at path, a directory or one regular file; path
// itself may be a symbolic link. Close it.
func OpenSource(path string) (*Source, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	s := &Source{Path: path}
	s.base, err = sys.OpenDir(path)
	if err == nil {
		s.Stat, err = s.base.Stat()
		return s, err
	}
	if !sys.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("open source: %w", err)
	}
	return s, s.openFile()
}

func (s *Source) openFile() error {
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
		s.base.Close() //nolint:errcheck // opened for reading
		return fmt.Errorf("open source %q: %w", s.Path, err)
	}
	return nil
}

// IsFile reports whether the shard is one regular file.
func (s *Source) IsFile() bool { return s.file != "" }

// Close closes the source.
func (s *Source) Close() error { return s.base.Close() }

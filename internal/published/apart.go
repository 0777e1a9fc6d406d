package published

import (
	"fmt"
	"path/filepath"
	"strings"

	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
)

// CheckApart refuses a source, an SSD dir and a lock dir that lie in each other: the
// copy would be of itself, or delete its source or its own user file. lockDir is
// absolute and real, stat is the state of the source. It sees a bind mount of the published
// shard itself, but not one of a part of it, or of a part of the SSD dir.
func (s Shard) CheckApart(source, lockDir string, stat *sys.Stat) error {
	from, err := sys.RealPath(source)
	if err != nil {
		return err
	}
	ssd, err := sys.RealPath(s.SSDDir)
	if err != nil {
		return err
	}
	switch {
	case isInside(from, ssd):
		return fmt.Errorf("source %q is inside the SSD dir %q", source, s.SSDDir)
	case isInside(ssd, from):
		return fmt.Errorf("SSD dir %q is inside the source %q", s.SSDDir, source)
	case isInside(lockDir, from):
		return fmt.Errorf("lock dir %q is inside the source %q", lockDir, source)
	case isInside(lockDir, ssd+"/"+s.Name), isInside(lockDir, ssd+"/"+statedir.RootName):
		return fmt.Errorf("lock dir %q is inside a directory that is replaced and deleted with shard %s", lockDir, s.Name)
	}
	pub, err := s.Stat()
	if err == nil && pub != nil && stat.SameFile(pub) {
		err = fmt.Errorf("source %q is the published shard itself, %s", source, s)
	}
	return err
}

// isInside reports whether path is dir or below it; both are absolute and real.
func isInside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

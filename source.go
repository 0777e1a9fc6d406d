package shardtossd

import (
	"path/filepath"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// openSource opens the shard at the path of its source, for the copier.
func (op *operation) openSource(path string) (*copier.Source, error) {
	src, err := copier.OpenSource(path)
	if err != nil {
		return nil, err
	}
	if err := op.shard.CheckApart(path, op.lockDir, &src.Stat); err != nil {
		src.Close()
		return nil, err
	}
	return src, nil
}

// sourceTree is a source as the checker reads it. The directory must be closed.
type sourceTree struct {
	path string // real
	tree verify.Shard
}

func (s *sourceTree) close() { s.tree.Parent.Close() }

// openSourceTree opens a source for the checker, at its real path. The error is
// fs.ErrNotExist without a source.
func (op *operation) openSourceTree(given string) (*sourceTree, error) {
	path, err := sys.RealPath(given)
	if err != nil {
		return nil, err
	}
	src, err := op.openSource(given)
	if err != nil {
		return nil, err
	}
	if err := src.Close(); err != nil {
		return nil, err
	}
	dir, err := sys.OpenDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return &sourceTree{path, verify.Shard{Parent: dir, Name: filepath.Base(path)}}, nil
}

// warnOfOtherSource warns that a shard is compared with another source than the one
// that it was copied from.
func (op *operation) warnOfOtherSource(m *verify.Manifest, s *sourceTree) {
	if m.Source != s.path {
		op.warn("shard %s was copied from %q, and is compared with %q", op.shard.Name, m.Source, s.path)
	}
}

// sourceTimeout is how long a hook waits for the source of a shard that it does not
// have to copy.
const sourceTimeout = 3 * time.Second

// statSource returns nil for a source that does not exist, or does not answer.
func (op *operation) statSource(given string) *sys.RealStat {
	s, answered := sys.StatWithin(given, sourceTimeout)
	if !answered {
		op.warn("source %q does not answer: cannot check whether shard %s was copied from it", given, op.shard.Name)
	}
	return s
}

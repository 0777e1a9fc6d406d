package tree

import (
	"errors"
	"fmt"
	"strings"

	"shard_to_ssd/internal/sys"
)

// BlockSize is the unit of hashing, resuming and naming damage, in bytes of a
// file counted from its start.
const BlockSize = 4 << 20

// Blocks is how many blocks a file of size bytes has.
func Blocks(size int64) int64 {
	if size <= 0 {
		return 0
	}
	return (size-1)/BlockSize + 1 // no overflow, whatever a manifest says
}

// BlockLen is how many bytes block i of a file of size bytes has.
func BlockLen(size, i int64) int { return int(min(BlockSize, size-i*BlockSize)) }

// Kind says what a record is.
type Kind byte

// The kinds of record.
const (
	Dir      Kind = 'D' // opens a directory: its own metadata, what follows is in it
	Subdir   Kind = 'd' // the name of a directory that is opened later
	Regular  Kind = 'f'
	Symlink  Kind = 'l'
	HardLink Kind = 'h' // one more name of a file that came before
	Sums     Kind = 's' // sums of blocks of the Regular before
)

// Record is a line of a tree stream.
type Record struct {
	Kind Kind
	Name string // one component; "." for the root directory
	// Path is the directory that the record is in, for a Dir its own, below the
	// root and without a leading "./"; "" is the root itself.
	Path  string
	Depth int // of a Dir: 0 for the root

	Mode     uint32 // permission, set-id and sticky bits
	UID, GID uint32
	Mtime    sys.Time
	Xattrs   uint64 // XXH64 of the extended attributes, 0: it has none
	Size     int64  // bytes, of Regular and HardLink
	Target   string // of a Symlink; of a HardLink the path of the first name

	// In a manifest: sums of blocks. Regular has Sum if it is one block long;
	// longer files have Sums records of up to SumsPerLine blocks each.
	Sum  uint64
	Sums []uint64

	// In a plan: what tells that the source is still the same, and what to do.
	Source Source
}

// Source is what a plan knows of an entry of the source besides what a manifest
// will.
type Source struct {
	Ino    uint64
	Ctime  sys.Time
	Atime  sys.Time
	Blocks int64 // allocated, in units of 512 bytes
}

// SumsPerLine is how many block sums a Sums record holds: 256 MiB of a file.
const SumsPerLine = 64

// Below is the path of the record below the root; the root itself is ".".
func (r *Record) Below() string {
	switch {
	case r.Kind == Dir && r.Path == "":
		return "."
	case r.Kind == Dir:
		return r.Path
	}
	return Join(r.Path, r.Name)
}

// Join is path and name with a slash between where both are there.
func Join(path, name string) string {
	switch {
	case path == "":
		return name
	case name == "":
		return path
	}
	return path + "/" + name
}

// Sparse reports whether the source has fewer bytes allocated than it is long.
func (r *Record) Sparse() bool { return r.Source.Blocks*512 < r.Size }

// ValidName says what is wrong with name as one component of a path.
func ValidName(name string) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case name == "." || name == "..":
		return fmt.Errorf("name %q", name)
	case len(name) > 255:
		return fmt.Errorf("name of %d bytes", len(name))
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("slash or NUL in name %q", name)
	}
	return nil
}

// ValidPath says what is wrong with path as one below a root.
func ValidPath(path string) error {
	for name := range strings.SplitSeq(path, "/") {
		if err := ValidName(name); err != nil {
			return fmt.Errorf("%w in path %.200q", err, path)
		}
	}
	return nil
}

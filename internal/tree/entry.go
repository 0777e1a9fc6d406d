package tree

import (
	"errors"
	"fmt"
	"strings"

	"shard_to_ssd/internal/sys"
)

// BlockSize is the size of a block in bytes. Blocks are counted from the start of a
// file. The block is the unit of hashing, of resuming a copy, and of reporting damage.
const BlockSize = 4 << 20

// BlockCount returns how many blocks a file of size bytes has.
func BlockCount(size int64) int64 {
	if size <= 0 {
		return 0
	}
	return (size-1)/BlockSize + 1 // does not overflow, even for a size in a damaged manifest
}

// BlockLen returns how many bytes block i of a file of size bytes has.
func BlockLen(size, i int64) int { return int(min(BlockSize, size-i*BlockSize)) }

// Kind is the kind of a record.
type Kind byte

// The kinds of record.
const (
	Dir      Kind = 'D' // opens a directory and has its metadata; its entries follow
	Subdir   Kind = 'd' // the name of a directory that is opened later
	Regular  Kind = 'f'
	Symlink  Kind = 'l'
	HardLink Kind = 'h' // one more name of an earlier Regular or Symlink
	Sums     Kind = 's' // block sums of the previous Regular
)

// Record is a line of a tree stream.
type Record struct {
	Kind Kind
	Name string // one component; "." for the root directory
	// Path is the path of the directory that holds the entry, or of a Dir itself. It is
	// relative to the root, without a leading "./"; "" is the root.
	Path  string
	Depth int // of a Dir; the root has 0

	Mode     uint32 // permission, set-id and sticky bits
	UID, GID uint32
	Mtime    sys.Time
	Xattrs   uint64 // XXH64 of the extended attributes; 0: there are none
	Size     int64  // bytes, of Regular and HardLink
	Target   string // of a Symlink its target, of a HardLink the path of the first name

	// Only in a manifest: block sums. A Regular of one block has Sum. A longer one is
	// followed by Sums records of up to SumsPerLine blocks each.
	Sum  uint64
	Sums []uint64

	// Only in a plan: the values that tell whether the source has changed since.
	Source Source
}

// Source is the part of a plan's record that a manifest does not have: more metadata of
// the entry in the source.
type Source struct {
	Ino    uint64
	Ctime  sys.Time
	Atime  sys.Time
	Blocks int64 // allocated, in units of 512 bytes
}

// SumsPerLine is the most block sums of one Sums record: those of 256 MiB of a file.
const SumsPerLine = 64

// RelativePath returns the path of the record relative to the root. The root itself is ".".
func (r *Record) RelativePath() string {
	switch {
	case r.Kind == Dir && r.Path == "":
		return "."
	case r.Kind == Dir:
		return r.Path
	}
	return JoinPath(r.Path, r.Name)
}

// JoinPath returns path and name with a slash between them, or one of them if the other is
// empty.
func JoinPath(path, name string) string {
	switch {
	case path == "":
		return name
	case name == "":
		return path
	}
	return path + "/" + name
}

// IsSparse reports whether the source file has fewer bytes allocated than its size.
func (r *Record) IsSparse() bool { return r.Source.Blocks*512 < r.Size }

// CheckName returns an error if name cannot be one component of a path.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case name == "." || name == "..":
		return fmt.Errorf("name %q not allowed", name)
	case len(name) > 255:
		return fmt.Errorf("name of %d bytes, longer than 255", len(name))
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("slash or NUL in name %q", name)
	}
	return nil
}

// CheckPath returns an error if path cannot be the path of an entry below a root.
func CheckPath(path string) error {
	for name := range strings.SplitSeq(path, "/") {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("%w in path %.200q", err, path)
		}
	}
	return nil
}

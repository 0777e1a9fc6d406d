package published

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// Shard is the place where a shard is published.
type Shard struct {
	SSD    *sys.File // the open SSD dir
	SSDDir string    // its path, as messages name it
	Name   string
}

// String returns the path of the shard.
func (s Shard) String() string { return s.SSDDir + "/" + s.Name }

// Tree returns the shard as the checker reads it.
func (s Shard) Tree() verify.Shard { return verify.Shard{Parent: s.SSD, Name: s.Name} }

// Stat returns the inode under the public name, nil if the name is free.
func (s Shard) Stat() (*sys.Stat, error) {
	stat, err := s.SSD.StatAt(s.Name)
	if sys.IsErrno(err, unix.ENOENT) {
		return nil, nil
	}
	return &stat, err
}

// ErrNoManifest reports that no manifest is bound to the shard under the public name:
// the state dir has no manifest, or that of another directory of the same name.
var ErrNoManifest = errors.New("no manifest is bound to the shard")

// OpenManifest opens the manifest that is bound to the shard that Stat has found. The state
// dir may be nil. The manifest's own checksum is not checked: see
// verify.Manifest.Check. Errors: ErrNoManifest; verify.ErrManifestDamaged and
// verify.ErrManifestVersion, see IsUnusable.
func (s Shard) OpenManifest(state *statedir.Dir, pub *sys.Stat) (*verify.Manifest, error) {
	if state == nil || pub == nil {
		return nil, ErrNoManifest
	}
	m, err := verify.OpenManifest(state.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoManifest
	}
	if err != nil {
		return nil, err
	}
	if !m.BoundTo(pub) || m.Shard != s.Name {
		m.Close()
		return nil, ErrNoManifest
	}
	return m, nil
}

// IsUnusable reports whether an error of OpenManifest, or of reading the manifest,
// means that it says nothing: it is damaged, or of another version. An error that
// comes from a lack of descriptors, memory or rights is not of that kind: the next
// call may be able to read the manifest.
func IsUnusable(err error) bool {
	return (errors.Is(err, verify.ErrManifestDamaged) || errors.Is(err, verify.ErrManifestVersion)) && !verify.IsProcessError(err)
}

// CheckMovable refuses a mount point, which can be neither renamed nor replaced.
func (s Shard) CheckMovable(pub *sys.Stat) error {
	if pub == nil || !pub.MountPoint {
		return nil
	}
	return fmt.Errorf("%s is a mount point, which can be neither removed nor replaced: unmount it", s)
}

// ListNames returns the names in an SSD dir that may be those of shards.
func ListNames(ssd *sys.File, scratch []byte) ([]string, error) {
	names, err := ssd.ListNames(scratch)
	return slices.DeleteFunc(names, func(name string) bool {
		return name == "lost+found" || statedir.CheckName(name) != nil
	}), err
}

// IsOnRootFS reports whether an SSD dir without any state dir is a plain directory of
// the root file system: an SSD should perhaps be mounted there.
func (s Shard) IsOnRootFS() bool {
	if _, err := s.SSD.StatAt(statedir.RootName); !sys.IsErrno(err, unix.ENOENT) {
		return false
	}
	dir, err := s.SSD.Stat()
	if err != nil || s.SSD.IsMountPoint(&dir) {
		return false
	}
	root, err := sys.StatPath("/")
	return err == nil && root.Dev == dir.Dev
}

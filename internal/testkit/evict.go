package testkit

import (
	"os"
	"path/filepath"
	"shard_to_ssd/internal/errs"

	"golang.org/x/sys/unix"
)

// Evict drops the contents of a tree from the page cache.
func Evict(root string) error {
	return filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // opened for reading
		return errs.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
}

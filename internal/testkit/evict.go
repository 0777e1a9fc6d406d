package testkit

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
)

// EvictTree drops the contents of all files of a tree from the page cache.
func EvictTree(root string) error {
	return filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return errs.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
}

package bench

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// The methods to empty caches, as recorded in Result.CacheMethod.
const (
	dropAllCaches = "drop_caches"
	evictEachFile = "fadvise"
)

// cooler empties the caches before a copy: those of the whole machine as root, otherwise
// the page cache of each file of the shard. The second method leaves names and inodes in
// the cache.
type cooler struct {
	how  string
	warn func(string)
}

// cool empties the caches of the shard and returns the bytes of its files that are still
// in the page cache, as the kernel counts them. The result is nil if that is not known:
// the kernel tells it only to users who may write to the file.
func (c *cooler) cool(ctx context.Context, s *shard) (cached *int64, err error) {
	if err := s.syncFileSystem(); err != nil { // dirty pages cannot be dropped
		return nil, err
	}
	if err := c.dropCaches(); err != nil {
		return nil, err
	}
	all, known := int64(0), true
	err = s.eachFile(ctx, func(f *sys.File, size int64) error {
		if c.how == evictEachFile {
			if err := f.DropCached(0, 0); err != nil {
				return err
			}
		}
		n, err := f.CachedBytes(0, size)
		if sys.IsErrno(err, unix.EPERM) {
			known = false
			return nil
		}
		all += n
		return err
	})
	if err != nil {
		return nil, err
	}
	if !known {
		c.warn(fmt.Sprintf("cannot check whether %s was in the page cache: only its owner and root may ask the kernel", s.name))
		return nil, c.dropCaches()
	}
	return &all, c.dropCaches() // the check has read names and inodes
}

// dropCaches empties all caches of the machine, until that is refused once.
func (c *cooler) dropCaches() error {
	if c.how != dropAllCaches {
		return nil
	}
	return c.fallBackToFiles(sys.DropCaches())
}

// fallBackToFiles switches to the page cache of each file if err says that dropping all
// caches is not allowed.
func (c *cooler) fallBackToFiles(err error) error {
	if sys.IsErrno(err, unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOENT) {
		c.how = evictEachFile
		c.warn(fmt.Sprintf("%v: only root may empty all caches; the pages of each file are evicted instead, and names and inodes stay in the cache", err))
		return nil
	}
	return err
}

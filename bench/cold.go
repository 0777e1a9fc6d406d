package bench

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// The methods to empty caches, as recorded in Result.Cold.
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
			if err := f.Forget(0, 0); err != nil {
				return err
			}
		}
		n, err := f.Cached(0, size)
		if sys.Is(err, unix.EPERM) {
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

// syncFileSystem flushes the file system of the shard to stable storage.
func (s *shard) syncFileSystem() error {
	root, err := sys.Open(s.path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.SyncFS()
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
	if sys.Is(err, unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOENT) {
		c.how = evictEachFile
		c.warn(fmt.Sprintf("%v: only root may empty all caches; the pages of each file are evicted instead, and names and inodes stay in the cache", err))
		return nil
	}
	return err
}

// shard is a directory or file that is copied to measure.
type shard struct {
	name string // of the workload
	path string
	src  *copier.Source
	dir  *sys.File // directory of its plan
	plan *copier.Plan

	stored  int64       // bytes that a copy occupies on the SSD
	largest copier.Item // its largest regular file
}

// openShard opens the shard at path and makes its plan in dir. The caller must close the
// shard.
func openShard(ctx context.Context, name, path string, dir *sys.File) (*shard, error) {
	src, err := copier.OpenSource(path)
	if err != nil {
		return nil, err
	}
	plan, err := copier.MakePlan(ctx, src, dir)
	if err != nil {
		src.Close()
		return nil, err
	}
	s := &shard{name: name, path: path, src: src, dir: dir, plan: plan, stored: plan.Allocated}
	err = plan.Each(ctx, func(it *copier.Item) error {
		if it.Kind == tree.Regular && it.Size >= s.largest.Size {
			s.largest = *it
		}
		return nil
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// hasLarge reports whether a file is larger than one block, so that smaller requests make
// a difference.
func (s *shard) hasLarge() bool { return s.largest.Size > tree.BlockSize }

func (s *shard) close() {
	s.plan.Close()
	s.src.Close()
	s.dir.Close()
}

// eachFile opens every regular file that is not empty and calls do.
func (s *shard) eachFile(ctx context.Context, do func(f *sys.File, size int64) error) error {
	return s.plan.Each(ctx, func(it *copier.Item) error {
		if it.Kind != tree.Regular || it.Size == 0 {
			return nil
		}
		return s.visitFile(it, do)
	})
}

func (s *shard) visitFile(it *copier.Item, do func(f *sys.File, size int64) error) error {
	f, err := s.openFile(it, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(f, it.Size)
}

// openFile opens a file of the shard for reading.
func (s *shard) openFile(it *copier.Item, flags int) (*sys.File, error) {
	if s.src.IsFile() {
		return sys.Open(s.path, flags|unix.O_RDONLY)
	}
	root, err := sys.OpenDir(s.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	dir, err := root.OpenBelow(it.Path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.OpenAt(it.Name, flags|unix.O_RDONLY, 0)
}

// openLargest opens the largest file for reads that bypass the page cache, or for reads
// through it where the file system refuses O_DIRECT.
func (s *shard) openLargest() (*sys.File, error) {
	f, err := s.openFile(&s.largest, unix.O_DIRECT)
	if sys.Is(err, unix.EINVAL, unix.EOPNOTSUPP) {
		f, err = s.openFile(&s.largest, 0)
	}
	return f, err
}

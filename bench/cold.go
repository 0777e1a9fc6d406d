package bench

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// How caches are emptied, as Result.Cold has it.
const (
	coldAll  = "drop_caches"
	coldEach = "fadvise"
)

// cooler empties caches: those of the whole machine, as root, or of a shard's files, one
// by one. Then names and inodes stay where they are.
type cooler struct {
	how  string
	warn func(string)
}

// cool empties the caches of what is read next, and returns how many bytes of the
// shard's files are in the page cache all the same: looked up, not believed. It is nil if
// that is not known: the kernel tells only who may write to a file.
func (c *cooler) cool(ctx context.Context, s *shard) (cached *int64, err error) {
	if err := s.sync(); err != nil { // only what is clean can be dropped
		return nil, err
	}
	if err := c.dropAll(); err != nil {
		return nil, err
	}
	all, known := int64(0), true
	err = s.each(ctx, func(f *sys.File, size int64) error {
		if c.how == coldEach {
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
	if known {
		cached = &all
	} else {
		c.warn(fmt.Sprintf("whether %s was in the page cache is not known: the kernel tells only who owns it, and root", s.name))
	}
	return cached, c.dropAll() // looking has read names and inodes
}

// sync has all that was written to the file system of the shard on stable storage.
func (s *shard) sync() error {
	root, err := sys.Open(s.path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	return root.SyncFS()
}

// dropAll empties all caches, as long as that is allowed.
func (c *cooler) dropAll() error {
	if c.how != coldAll {
		return nil
	}
	return c.mayNot(sys.DropCaches())
}

// mayNot goes on file by file if dropping all was not allowed.
func (c *cooler) mayNot(err error) error {
	if sys.Is(err, unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOENT) {
		c.how = coldEach
		c.warn(fmt.Sprintf("%v: only root may empty all caches; the files that are read are evicted one by one instead, and names and inodes stay cached", err))
		return nil
	}
	return err
}

// shard is one that is copied to measure: where it is, and what is in it.
type shard struct {
	name string // of the workload
	path string
	src  *copier.Source
	dir  *sys.File // where its plan is
	plan *copier.Plan

	stored  int64       // bytes that a copy takes on the SSD
	largest copier.Item // of its regular files
}

// openShard looks at the shard at path. dir is where the plan goes. Close it.
func openShard(ctx context.Context, name, path string, dir *sys.File) (*shard, error) {
	src, err := copier.OpenSource(path)
	if err != nil {
		return nil, err
	}
	plan, err := copier.MakePlan(ctx, src, dir)
	if err != nil {
		src.Close() //nolint:errcheck // opened for reading
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

// hasLarge reports whether there are files of more than a block, whose requests can be
// smaller than one.
func (s *shard) hasLarge() bool { return s.largest.Size > tree.BlockSize }

func (s *shard) close() {
	s.plan.Close() //nolint:errcheck // opened for reading
	s.src.Close()  //nolint:errcheck // opened for reading
	s.dir.Close()  //nolint:errcheck // opened for reading
}

// each opens every regular file that has something in it.
func (s *shard) each(ctx context.Context, do func(f *sys.File, size int64) error) error {
	return s.plan.Each(ctx, func(it *copier.Item) error {
		if it.Kind != tree.Regular || it.Size == 0 {
			return nil
		}
		return s.open(it, do)
	})
}

func (s *shard) open(it *copier.Item, do func(f *sys.File, size int64) error) error {
	f, err := s.openFile(it, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // opened for reading
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
	defer root.Close() //nolint:errcheck // opened for reading
	dir, err := root.OpenBelow(it.Path)
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	return dir.OpenAt(it.Name, flags|unix.O_RDONLY, 0)
}

// openLargest opens the largest file to be read past the page cache, or through it
// where that is refused.
func (s *shard) openLargest() (*sys.File, error) {
	f, err := s.openFile(&s.largest, unix.O_DIRECT)
	if sys.Is(err, unix.EINVAL, unix.EOPNOTSUPP) {
		f, err = s.openFile(&s.largest, 0)
	}
	return f, err
}

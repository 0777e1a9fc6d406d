package bench

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// shard is a directory or file that is copied to measure.
type shard struct {
	name string // of the workload
	path string
	src  *copier.Source
	dir  *sys.File // directory of its plan
	plan *copier.Plan

	stored  int64            // bytes that a copy occupies on the SSD
	largest copier.PlanEntry // its largest regular file
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
	err = plan.EachEntry(ctx, func(it *copier.PlanEntry) error {
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
	return s.plan.EachEntry(ctx, func(it *copier.PlanEntry) error {
		if it.Kind != tree.Regular || it.Size == 0 {
			return nil
		}
		return s.visitFile(it, do)
	})
}

func (s *shard) visitFile(it *copier.PlanEntry, do func(f *sys.File, size int64) error) error {
	f, err := s.openFile(it, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(f, it.Size)
}

// openFile opens a file of the shard for reading.
func (s *shard) openFile(it *copier.PlanEntry, flags int) (*sys.File, error) {
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
	if sys.IsErrno(err, unix.EINVAL, unix.EOPNOTSUPP) {
		f, err = s.openFile(&s.largest, 0)
	}
	return f, err
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

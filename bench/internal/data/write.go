package data

import (
	"context"
	"hash/fnv"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
)

// directFrom is the size in bytes from which a file is written past the page cache.
const directFrom = 1 << 20

// WriteFiles writes the workload into dir, which must be empty, with so many workers. It
// calls wrote, unless that is nil, with the bytes that were written. It does not sync
// them to stable storage.
func (w Workload) WriteFiles(ctx context.Context, dir *sys.File, seed uint64, jobs int, wrote func(bytes int64)) error {
	if wrote == nil {
		wrote = func(int64) {}
	}
	workers, err := pool.New(jobs)
	if err != nil {
		return err
	}
	defer workers.Close()
	return workers.Run(ctx, func(ctx context.Context, emit func(pool.Task) error) error {
		last := ""
		for number, f := range w.EachFile(seed) {
			if f.Dir != last {
				if err := dir.MkdirAt(f.Dir, 0o755); err != nil {
					return err
				}
				last = f.Dir
			}
			err := emit(func(ctx context.Context, worker *pool.Worker) error {
				return content{seed ^ nameSeed(w.Name), number, wrote}.writeFile(ctx, dir, f, worker.Buf)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// nameSeed makes the bytes of two workloads with the same seed different.
func nameSeed(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash does not fail
	return h.Sum64()
}

// content writes the bytes of a file, see Fill.
type content struct {
	seed, number uint64
	wrote        func(bytes int64)
}

// writeFile makes the file in the shard.
func (c content) writeFile(ctx context.Context, shard *sys.File, file File, buf []byte) error {
	dir, err := shard.OpenBelow(file.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := CreateFile(dir, file.Name, file.Size)
	if err != nil {
		return err
	}
	return errs.Join(c.writeTo(ctx, f, file.Size, buf), f.Close())
}

// CreateFile makes the file name for size bytes. It opens a large file with O_DIRECT,
// unless the file system refuses that, and reserves its space if the file system can.
func CreateFile(dir *sys.File, name string, size int64) (*sys.File, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL
	if size < directFrom {
		return dir.OpenAt(name, flags, 0o644)
	}
	f, err := dir.OpenAt(name, flags|unix.O_DIRECT, 0o644)
	if sys.IsErrno(err, unix.EINVAL, unix.EOPNOTSUPP) { // the refused call may have made the file
		f, err = dir.OpenAt(name, flags&^unix.O_EXCL, 0o644)
	}
	if err != nil {
		return nil, err
	}
	supported, err := f.Allocate(size)
	if err == nil && !supported {
		err = f.Truncate(size)
	}
	if err != nil {
		return nil, errs.Join(err, f.Close())
	}
	return f, nil
}

// writeTo writes size bytes to f.
func (c content) writeTo(ctx context.Context, f *sys.File, size int64, buf []byte) error {
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(size-off, int64(len(buf)))
		padded := n
		if f.Direct.Load() {
			padded = (n + sys.Align - 1) &^ (sys.Align - 1)
		}
		Fill(buf[:padded], c.seed, c.number, off)
		if err := f.WriteAt(buf[:padded], off); err != nil {
			return err
		}
		off += n
		c.wrote(n)
	}
	if f.Direct.Load() {
		return f.Truncate(size) // the last piece was padded
	}
	return nil
}

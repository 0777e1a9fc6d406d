package data

import (
	"context"
	"hash/fnv"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
)

// directFrom is the length in bytes from which a file is written past the page cache.
const directFrom = 1 << 20

// Write writes the workload into dir, which is empty, with so many workers, and tells
// wrote, unless it is nil, of bytes as they are written. It is not on stable storage
// after.
func (w Workload) Write(ctx context.Context, dir *sys.File, seed uint64, jobs int, wrote func(bytes int64)) error {
	if wrote == nil {
		wrote = func(int64) {}
	}
	workers, err := pool.New(jobs)
	if err != nil {
		return err
	}
	defer workers.Close() //nolint:errcheck // only memory
	return workers.Run(ctx, func(ctx context.Context, emit func(pool.Task) error) error {
		last := ""
		for number, f := range w.Files(seed) {
			if f.Dir != last {
				if err := dir.MkdirAt(f.Dir, 0o755); err != nil {
					return err
				}
				last = f.Dir
			}
			err := emit(func(ctx context.Context, worker *pool.Worker) error {
				return writeFile(ctx, dir, f, content{seed ^ nameSeed(w.Name), number}, worker.Buf, wrote)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// nameSeed keeps workloads of one seed from having the same bytes.
func nameSeed(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name)) //nolint:errcheck // a hash does not fail
	return h.Sum64()
}

// content is what a file holds, as Fill takes it.
type content struct{ seed, number uint64 }

func writeFile(ctx context.Context, shard *sys.File, file File, c content, buf []byte, wrote func(int64)) error {
	dir, err := shard.OpenBelow(file.Dir)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	f, err := Create(dir, file.Name, file.Size)
	if err != nil {
		return err
	}
	err = c.writeTo(ctx, f, file.Size, buf, wrote)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// Create makes the file name, for size bytes to be written: with O_DIRECT if it is not
// small and that is not refused, and its space reserved where that can be done.
func Create(dir *sys.File, name string, size int64) (*sys.File, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL
	if size < directFrom {
		return dir.OpenAt(name, flags, 0o644)
	}
	f, err := dir.OpenAt(name, flags|unix.O_DIRECT, 0o644)
	if sys.Is(err, unix.EINVAL, unix.EOPNOTSUPP) { // the file may be there all the same
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
		f.Close() //nolint:errcheck // after a failure
		return nil, err
	}
	return f, nil
}

func (c content) writeTo(ctx context.Context, f *sys.File, size int64, buf []byte, wrote func(int64)) error {
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
		wrote(n)
	}
	if f.Direct.Load() {
		return f.Truncate(size) // the last piece was written to its end
	}
	return nil
}

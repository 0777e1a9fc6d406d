package peers

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// slowRate is the rate of the slow source, in bytes per second.
const slowRate = 200_000_000

// slowFS is a read-only file system with a limited rate for all reads together. It has
// no disk, because that disk would also serve the image of the SSD. It keeps no contents
// in memory either: every file is a piece of one pattern.
type slowFS struct {
	fs.Inode
	workload workload
	bucket   *bucket
	pattern  []byte
}

// mountSlow serves the workload below dir, in the directory "shard".
func mountSlow(dir string, w workload, rate float64) (*fuse.Server, error) {
	pattern := make([]byte, 4*mib+4099) // not a multiple of any size that is hashed or read at once
	fillNoise(pattern, seededRandom("slow"))
	hour := time.Hour
	return fs.Mount(dir, &slowFS{workload: w, bucket: &bucket{rate: rate}, pattern: pattern}, &fs.Options{
		EntryTimeout: &hour, AttrTimeout: &hour,
		MountOptions: fuse.MountOptions{
			FsName: "slow", Name: "slow",
			DirectMountStrict: true,    // does not need fusermount
			MaxWrite:          1 << 20, // limits reads as well
			MaxReadAhead:      1 << 20,
			MaxBackground:     64,
			DisableSplice:     true,
		},
	})
}

// OnAdd makes the tree.
func (s *slowFS) OnAdd(ctx context.Context) {
	shard := s.NewPersistentInode(ctx, &fs.Inode{}, fs.StableAttr{Mode: syscall.S_IFDIR})
	s.AddChild("shard", shard, false)
	for _, b := range s.workload.batches {
		n := int64(0)
		for f := range b.allFiles() {
			n++
			node := &slowFile{bucket: s.bucket, pattern: s.pattern, size: f.size, start: n * 1009}
			shard.AddChild(f.path, s.NewPersistentInode(ctx, node, fs.StableAttr{Mode: syscall.S_IFREG}), false)
		}
	}
}

// slowFile contains the repeated pattern, from a different start in each file.
type slowFile struct {
	fs.Inode
	bucket      *bucket
	pattern     []byte
	size, start int64
}

// Getattr returns the size, and a time that does not change.
func (f *slowFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blocks, out.Nlink = 0o644, uint64(f.size), uint64(f.size+511)/512, 1
	then := time.Unix(1_700_000_000, 0)
	out.SetTimes(&then, &then, &then)
	return 0
}

// Open lets O_DIRECT bypass the page cache. Without that, the kernel continues through
// the page cache where a direct read of FUSE ends early.
func (f *slowFile) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_DIRECT != 0 {
		return nil, fuse.FOPEN_DIRECT_IO, 0
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *slowFile) Read(_ context.Context, _ fs.FileHandle, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	buf = buf[:max(0, min(int64(len(buf)), f.size-off))]
	f.bucket.takeBytes(len(buf))
	for done := 0; done < len(buf); {
		done += copy(buf[done:], f.pattern[(f.start+off+int64(done))%int64(len(f.pattern)):])
	}
	return fuse.ReadResultData(buf), 0
}

// bucket limits the bytes of all its users together to a rate.
type bucket struct {
	mu   sync.Mutex
	rate float64   // bytes per second
	free time.Time // when all bytes so far have passed
}

// mostBehind is how much time a bucket may catch up, because timers wake late. An idle
// bucket does not save up more, as an idle disk does not.
const mostBehind = 5 * time.Millisecond

// takeBytes waits until n bytes have passed.
func (b *bucket) takeBytes(n int) {
	if wait := b.reserveBytes(n, time.Now()); wait > 0 {
		time.Sleep(wait)
	}
}

// reserveBytes returns how long n bytes need, from now.
func (b *bucket) reserveBytes(n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free.Before(now.Add(-mostBehind)) {
		b.free = now.Add(-mostBehind)
	}
	b.free = b.free.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	return b.free.Sub(now)
}

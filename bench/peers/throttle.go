package main

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// slowRate is what the slow source gives out, bytes/s.
const slowRate = 200_000_000

// slow is a read-only file system whose reads all together are limited to a rate.
// It has no disk behind it, which would have to serve the SSD's image as well, and
// no contents in memory either: every file is a piece of one pattern.
type slow struct {
	fs.Inode
	workload workload
	bucket   *bucket
	pattern  []byte
}

// mountSlow serves the workload below dir, as the directory "shard".
func mountSlow(dir string, w workload, rate float64) (*fuse.Server, error) {
	pattern := make([]byte, 4*mib+4099) // no multiple of what is hashed or read at once
	noise(pattern, seeded("slow"))
	year := time.Hour
	return fs.Mount(dir, &slow{workload: w, bucket: &bucket{rate: rate}, pattern: pattern}, &fs.Options{
		EntryTimeout: &year, AttrTimeout: &year,
		MountOptions: fuse.MountOptions{
			FsName: "slow", Name: "slow",
			DirectMountStrict: true,    // no fusermount needed
			MaxWrite:          1 << 20, // also of reads
			MaxReadAhead:      1 << 20,
			MaxBackground:     64,
			DisableSplice:     true,
		},
	})
}

// OnAdd makes the tree.
func (s *slow) OnAdd(ctx context.Context) {
	shard := s.NewPersistentInode(ctx, &fs.Inode{}, fs.StableAttr{Mode: syscall.S_IFDIR})
	s.AddChild("shard", shard, false)
	for _, b := range s.workload.batches {
		n := int64(0)
		for f := range b.all() {
			n++
			node := &slowFile{bucket: s.bucket, pattern: s.pattern, size: f.size, start: n * 1009}
			shard.AddChild(f.path, s.NewPersistentInode(ctx, node, fs.StableAttr{Mode: syscall.S_IFREG}), false)
		}
	}
}

// slowFile is the pattern, repeated, from a start of its own.
type slowFile struct {
	fs.Inode
	bucket      *bucket
	pattern     []byte
	size, start int64
}

// Getattr has the size, and a time that does not change.
func (f *slowFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blocks, out.Nlink = 0o644, uint64(f.size), uint64(f.size+511)/512, 1
	then := time.Unix(1_700_000_000, 0)
	out.SetTimes(&then, &then, &then)
	return 0
}

// Open lets O_DIRECT pass the page cache by: by itself the kernel goes on through
// it where a direct read of FUSE ends early.
func (f *slowFile) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_DIRECT != 0 {
		return nil, fuse.FOPEN_DIRECT_IO, 0
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *slowFile) Read(_ context.Context, _ fs.FileHandle, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	buf = buf[:max(0, min(int64(len(buf)), f.size-off))]
	f.bucket.take(len(buf))
	for done := 0; done < len(buf); {
		done += copy(buf[done:], f.pattern[(f.start+off+int64(done))%int64(len(f.pattern)):])
	}
	return fuse.ReadResultData(buf), 0
}

// bucket gives out bytes at a rate, whatever the number of those who ask.
type bucket struct {
	mu   sync.Mutex
	rate float64   // bytes/s
	free time.Time // when what was given out is through
}

// late is how far a bucket may be behind its rate and make up for it, since timers
// come late. An idle disk does not save up time either.
const late = 5 * time.Millisecond

// take waits until n bytes are through.
func (b *bucket) take(n int) {
	if wait := b.reserve(n, time.Now()); wait > 0 {
		time.Sleep(wait)
	}
}

// reserve is how long from now n bytes need.
func (b *bucket) reserve(n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free.Before(now.Add(-late)) {
		b.free = now.Add(-late)
	}
	b.free = b.free.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	return b.free.Sub(now)
}

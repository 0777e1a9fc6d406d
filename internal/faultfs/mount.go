package faultfs

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// FS is a mounted file system. Its methods may be called from any goroutine, but
// [FS.Cut] while nobody uses it.
type FS struct {
	Dir string // where it is mounted

	mu         sync.Mutex // guards the model; never held while a call waits
	inodes     map[uint64]*inode
	last       uint64 // inode number
	dirs       map[uint64][]entry
	lastDir    uint64 // handle
	used       int64
	size, told int64 // see SetSize

	faultsMu sync.Mutex
	faults   []*Injected // replaced, not changed
	watch    func(Call)

	reads, writes limiter
	server        *fuse.Server
}

// New mounts an empty file system of size bytes until the end of the test. It
// needs root.
func New(t testing.TB, size int64) *FS {
	t.Helper()
	fs := &FS{Dir: filepath.Join(t.TempDir(), "faultfs"), inodes: map[uint64]*inode{}, last: fuse.FUSE_ROOT_ID - 1, size: size, told: size}
	if err := os.Mkdir(fs.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root := fs.newInode(syscall.S_IFDIR|0o755, 0, 0)
	root.nlink, root.parent = 2, root.ino
	root.sync()
	if err := fs.mount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.server.Unmount(); err != nil {
			t.Errorf("unmount %s: %v (something still has it open); now detached", fs.Dir, err)
			syscall.Unmount(fs.Dir, syscall.MNT_DETACH) //nolint:errcheck // said above
		}
	})
	return fs
}

func (fs *FS) mount() error {
	fs.dirs = map[uint64][]entry{}
	server, err := fuse.NewServer(&raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), FS: fs}, fs.Dir, &fuse.MountOptions{
		AllowOther:        true,
		Options:           []string{"default_permissions"}, // the kernel checks modes
		FsName:            "faultfs",
		Name:              "faultfs",
		DirectMountStrict: true, // no fusermount needed
		DirectMountFlags:  syscall.MS_NODEV,
		MaxWrite:          1 << 20, // also of reads
		MaxBackground:     64,
		// All changes come through the kernel, and the page cache is right by itself.
		ExplicitDataCacheControl: true,
		DisableReadDirPlus:       true,
		DisableSplice:            true,
	})
	if err != nil {
		return err
	}
	fs.server = server
	go server.Serve()
	return server.WaitMount()
}

// Sync makes everything durable, as syncfs does on a real file system.
func (fs *FS) Sync() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, n := range fs.inodes {
		n.sync()
	}
}

// DropCache empties the page cache of all files.
func (fs *FS) DropCache() {
	fs.mu.Lock()
	inodes := slices.Collect(maps.Keys(fs.inodes))
	fs.mu.Unlock()
	for _, ino := range inodes {
		fs.server.InodeNotify(ino, 0, 0) // fails for what the kernel does not know
	}
}

// Rot flips a bit of the byte at off of a file, on disk and as it is: reads that
// come to the disk see it.
func (fs *FS) Rot(path string, off int64) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n, err := fs.find(path)
	if err != 0 {
		return &os.PathError{Op: "rot", Path: path, Err: err}
	}
	var b [1]byte
	if n.readAt(b[:], off) == 0 {
		return &os.PathError{Op: "rot", Path: path, Err: errors.New("offset beyond its end")}
	}
	b[0] ^= 1 << (off % 8)
	n.writeAt(b[:], off)
	n.syncData()
	return nil
}

// newInode makes one that has no name yet. fs.mu is held, or nobody else there.
func (fs *FS) newInode(mode, uid, gid uint32) *inode {
	fs.last++
	now := time.Now()
	n := &inode{ino: fs.last, btime: now}
	n.live = state{mode: mode, uid: uid, gid: gid, atime: now, mtime: now, ctime: now, xattrs: map[string][]byte{}}
	if n.isDir() {
		n.live.entries = map[string]uint64{}
	}
	n.disk = n.live
	n.disk.xattrs, n.disk.entries = nil, nil
	fs.inodes[n.ino] = n
	fs.used += pageSize
	return n
}

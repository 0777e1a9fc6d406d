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

// FS is a mounted file system. Its methods may be called from any goroutine, except that
// no process may use the file system during [FS.CutPower].
type FS struct {
	Dir string // where it is mounted

	mu       sync.Mutex // guards the model; never held while a call waits
	inodes   map[uint64]*inode
	last     uint64                // the last inode number
	dirs     map[uint64][]dirEntry // by handle of an open directory
	lastDir  uint64                // the last handle
	used     int64                 // bytes
	size     int64                 // bytes; see SetSize
	reported int64                 // the size that statfs reports

	faultsMu sync.Mutex
	faults   []*Injected // replaced, not changed
	watch    func(Call)

	reads, writes rateLimiter
	server        *fuse.Server
}

// New mounts an empty file system of size bytes until the end of the test. It
// needs root.
func New(t testing.TB, size int64) *FS {
	t.Helper()
	fs := &FS{Dir: filepath.Join(t.TempDir(), "faultfs"), inodes: map[uint64]*inode{}, last: fuse.FUSE_ROOT_ID - 1, size: size, reported: size}
	if err := os.Mkdir(fs.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root := fs.newInode(syscall.S_IFDIR|0o755, 0, 0)
	root.nlink, root.parent = 2, root.ino
	root.syncAll()
	if err := fs.mountServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.server.Unmount(); err != nil {
			t.Errorf("unmount %s: %v (a process still has it open); detaching it", fs.Dir, err)
			_ = syscall.Unmount(fs.Dir, syscall.MNT_DETACH)
		}
	})
	return fs
}

func (fs *FS) mountServer() error {
	fs.dirs = map[uint64][]dirEntry{}
	server, err := fuse.NewServer(&raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), FS: fs}, fs.Dir, &fuse.MountOptions{
		AllowOther:        true,
		Options:           []string{"default_permissions"}, // the kernel checks modes
		FsName:            "faultfs",
		Name:              "faultfs",
		DirectMountStrict: true, // do not need fusermount
		DirectMountFlags:  syscall.MS_NODEV,
		MaxWrite:          1 << 20, // bytes of a write or read
		MaxBackground:     64,
		// All changes come through the kernel, which keeps its page cache correct.
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
		n.syncAll()
	}
}

// DropCache empties the page cache of all files.
func (fs *FS) DropCache() {
	fs.mu.Lock()
	inodes := slices.Collect(maps.Keys(fs.inodes))
	fs.mu.Unlock()
	for _, ino := range inodes {
		_ = fs.server.InodeNotify(ino, 0, 0) // fails for an inode that the kernel does not know
	}
}

// FlipOnDisk flips a bit of the byte at off of a file, in the live state and on disk. Reads that
// reach the disk return it.
func (fs *FS) FlipOnDisk(path string, off int64) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n, err := fs.findInode(path)
	if err != 0 {
		return &os.PathError{Op: "rot", Path: path, Err: err}
	}
	var b [1]byte
	if n.readAt(b[:], off) == 0 {
		return &os.PathError{Op: "rot", Path: path, Err: errors.New("offset beyond the end of the file")}
	}
	b[0] ^= 1 << (off % 8)
	n.writeAt(b[:], off)
	n.syncData()
	return nil
}

// newInode makes an inode without a name. fs.mu must be held, unless fs is not mounted
// yet.
func (fs *FS) newInode(mode, uid, gid uint32) *inode {
	fs.last++
	now := time.Now()
	n := &inode{ino: fs.last, btime: now}
	n.live = inodeState{mode: mode, uid: uid, gid: gid, atime: now, mtime: now, ctime: now, xattrs: map[string][]byte{}}
	if n.isDir() {
		n.live.entries = map[string]uint64{}
	}
	n.disk = n.live
	n.disk.xattrs, n.disk.entries = nil, nil
	fs.inodes[n.ino] = n
	fs.used += pageSize
	return n
}

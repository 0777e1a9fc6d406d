package torture

import (
	"context"
	"maps"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// sectorSize is what the disks write whole, in bytes. Nothing smaller can be torn:
// that is what locking/log.go says it takes for granted.
const sectorSize = 4096

// sectors are the contents of a disk; those that are all zeros are left out. The
// bytes of a sector never change, a write puts others in their place: so a copy of
// the map is a copy of the disk.
type sectors map[int64]*[sectorSize]byte

var zeros [sectorSize]byte

func (s sectors) put(at int64, data *[sectorSize]byte) {
	if *data == zeros {
		delete(s, at)
	} else {
		s[at] = data
	}
}

// disk is a disk in memory with a write cache: what was written reads back at
// once, and is on the platters after the next flush. It is a file of a FUSE file
// system below a loop device, which passes each flush on as an fsync, and reads
// and writes past the page cache.
type disk struct {
	fs.Inode
	supply   *supply
	now      sectors
	platters sectors
	cache    []sectorWrite // in order, since the last flush
}

type sectorWrite struct {
	at   int64
	data *[sectorSize]byte
}

// diskSize is the smallest that mkfs.xfs takes, about, in bytes.
const diskSize = 320 << 20

// supply is the power of all disks of a machine: it fails for all of them in one
// moment.
type supply struct {
	mu    sync.Mutex
	disks []*disk
}

// cut is what is on the platters if the power goes now. Of what was in the write
// caches, those sectors are there that keep says yes to: a disk writes them in the
// order that it likes.
func (p *supply) cut(keep func() bool) (left []sectors) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.disks {
		s := maps.Clone(d.platters)
		for _, w := range d.cache {
			if keep() {
				s.put(w.at, w.data)
			}
		}
		left = append(left, s)
	}
	return left
}

func always() bool { return true }

func (d *disk) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blksize = unix.S_IFREG|0o600, diskSize, sectorSize
	return 0
}

func (d *disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *disk) Read(_ context.Context, _ fs.FileHandle, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	buf = buf[:max(min(int64(len(buf)), diskSize-off), 0)]
	d.supply.mu.Lock()
	defer d.supply.mu.Unlock()
	for n := 0; n < len(buf); {
		from := &zeros
		at, skip := (off+int64(n))/sectorSize, (off+int64(n))%sectorSize
		if s := d.now[at]; s != nil {
			from = s
		}
		n += copy(buf[n:], from[skip:])
	}
	return fuse.ReadResultData(buf), 0
}

func (d *disk) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if off%sectorSize != 0 || len(data)%sectorSize != 0 {
		return 0, syscall.EINVAL // the loop device says that its sectors are this large
	}
	d.supply.mu.Lock()
	defer d.supply.mu.Unlock()
	for n := 0; n < len(data); n += sectorSize {
		w := sectorWrite{(off + int64(n)) / sectorSize, new([sectorSize]byte)}
		copy(w.data[:], data[n:])
		d.now.put(w.at, w.data)
		d.cache = append(d.cache, w)
	}
	return uint32(len(data)), 0
}

func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.supply.mu.Lock()
	defer d.supply.mu.Unlock()
	for _, w := range d.cache {
		d.platters.put(w.at, w.data)
	}
	d.cache = nil
	return 0
}

// rack is the FUSE file system that the disks are files of.
type rack struct {
	fs.Inode
	dir string
}

func newRack(t testing.TB) *rack {
	t.Helper()
	r := &rack{dir: t.TempDir()}
	server, err := fs.Mount(r.dir, r, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, FsName: "rack", DisableSplice: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount the disks: %v", err)
		}
	})
	return r
}

// plug makes a disk with these contents, on the platters, and attaches it to a
// loop device, which is detached when it is no longer mounted or open.
func (r *rack) plug(p *supply, name string, contents sectors) (device string, fd int, err error) {
	d := &disk{supply: p, now: maps.Clone(contents), platters: maps.Clone(contents)}
	p.disks = append(p.disks, d)
	ctx := context.Background()
	r.AddChild(name, r.NewPersistentInode(ctx, d, fs.StableAttr{Mode: unix.S_IFREG}), true)
	return attach(filepath.Join(r.dir, name))
}

// unplug forgets a disk that nothing uses any more.
func (r *rack) unplug(name string) {
	if d := r.GetChild(name); d != nil {
		r.RmChild(name)
		d.ForgetPersistent()
	}
}

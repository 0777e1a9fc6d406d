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

// sectorSize is the unit, in bytes, that the disks write atomically. Nothing smaller
// can be torn, as locking/log.go assumes.
const sectorSize = 4096

// sectors is the content of a disk without the sectors of zeros. The bytes of a sector
// never change, since a write replaces them. So a copy of the map is a copy of the
// disk.
type sectors map[int64]*[sectorSize]byte

var zeros [sectorSize]byte

func (s sectors) putSector(at int64, data *[sectorSize]byte) {
	if *data == zeros {
		delete(s, at)
	} else {
		s[at] = data
	}
}

// disk is a disk in memory with a write cache. Written data can be read at once, and is
// on the platters after the next flush. It is a file on FUSE below a loop device, which
// passes each flush on as an fsync, and which does not use the page cache.
type disk struct {
	fs.Inode
	supply   *supply
	now      sectors
	platters sectors
	cache    []sectorWrite // since the last flush, in order
}

type sectorWrite struct {
	at   int64
	data *[sectorSize]byte
}

// diskSize is about the smallest size that mkfs.xfs takes, in bytes.
const diskSize = 320 << 20

// supply is the power of all disks of a machine. It fails for all of them at the same
// moment.
type supply struct {
	mu    sync.Mutex
	disks []*disk
}

// cutPower returns the contents of the platters if the power is cut now. A disk writes
// the sectors of its cache in any order: keep decides which of them were written.
func (p *supply) cutPower(keep func() bool) (left []sectors) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.disks {
		s := maps.Clone(d.platters)
		for _, w := range d.cache {
			if keep() {
				s.putSector(w.at, w.data)
			}
		}
		left = append(left, s)
	}
	return left
}

func keepAll() bool { return true }

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
		return 0, syscall.EINVAL // the loop device promises this sector size
	}
	d.supply.mu.Lock()
	defer d.supply.mu.Unlock()
	for n := 0; n < len(data); n += sectorSize {
		w := sectorWrite{(off + int64(n)) / sectorSize, new([sectorSize]byte)}
		copy(w.data[:], data[n:])
		d.now.putSector(w.at, w.data)
		d.cache = append(d.cache, w)
	}
	return uint32(len(data)), 0
}

func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.supply.mu.Lock()
	defer d.supply.mu.Unlock()
	for _, w := range d.cache {
		d.platters.putSector(w.at, w.data)
	}
	d.cache = nil
	return 0
}

// rack is the FUSE file system that has the disks as files.
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

// plugDisk makes a disk with these contents and attaches it to a loop device. The
// device is detached when it is no longer mounted or open.
func (r *rack) plugDisk(p *supply, name string, contents sectors) (device string, fd int, err error) {
	d := &disk{supply: p, now: maps.Clone(contents), platters: maps.Clone(contents)}
	p.disks = append(p.disks, d)
	ctx := context.Background()
	r.AddChild(name, r.NewPersistentInode(ctx, d, fs.StableAttr{Mode: unix.S_IFREG}), true)
	return attachLoop(filepath.Join(r.dir, name))
}

// unplugDisk removes a disk that is no longer used.
func (r *rack) unplugDisk(name string) {
	if d := r.GetChild(name); d != nil {
		r.RmChild(name)
		d.ForgetPersistent()
	}
}

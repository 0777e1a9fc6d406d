package faultfs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func (r *raw) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if in.Flags&syscall.O_DIRECT != 0 {
		if e := r.applyFaultsTo(OpenDirect, in.NodeId, name); e.err != 0 {
			return toStatus(e.err)
		}
	}
	n, code := r.createInode(&in.InHeader, name, inodeSpec{mode: syscall.S_IFREG | in.Mode&0o7777&^in.Umask}, &out.EntryOut)
	if code.Ok() {
		r.openInode(n, in.Flags, &out.OpenOut)
	}
	return code
}

func (r *raw) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	return r.Create(cancel, in, "", out)
}

func (r *raw) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	op := Open
	if in.Flags&syscall.O_DIRECT != 0 {
		op = OpenDirect
	}
	if e := r.applyFaultsTo(op, in.NodeId, ""); e.err != 0 {
		return toStatus(e.err)
	}
	r.mu.Lock()
	n := r.inodes[in.NodeId]
	r.mu.Unlock()
	r.openInode(n, in.Flags, out)
	return fuse.OK
}

// openInode tells the kernel to keep the cached pages of the file, and to bypass them
// with O_DIRECT. Without that, the kernel continues through the cache after a direct
// read of FUSE that ends early.
func (r *raw) openInode(n *inode, flags uint32, out *fuse.OpenOut) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.opens++
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if flags&syscall.O_DIRECT != 0 {
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	}
}

func (r *raw) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeInode(in.NodeId)
}

// Flush returns ENOSYS, so that the kernel never calls it: a child between fork and exec
// closes the files of this process, and would wait for Flush.
func (r *raw) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// directAlign is the alignment of direct I/O, in bytes.
const directAlign = 512

func isMisaligned(flags uint32, off uint64, n int) bool {
	return flags&syscall.O_DIRECT != 0 && (off%directAlign != 0 || n%directAlign != 0)
}

func (r *raw) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if isMisaligned(in.Flags, in.Offset, int(in.Size)) {
		return nil, fuse.EINVAL
	}
	off := int64(in.Offset)
	buf = buf[:min(len(buf), int(in.Size))]
	e := r.applyFaults(Call{Read, r.pathOf(in.NodeId, ""), off, int64(len(buf)), in.Flags&syscall.O_DIRECT != 0})
	if e.err != 0 {
		return nil, toStatus(e.err)
	}
	r.mu.Lock()
	buf = buf[:r.inodes[in.NodeId].readAt(buf, off)]
	r.mu.Unlock()
	e.changeData(off, buf)
	r.reads.waitFor(len(buf))
	return fuse.ReadResultData(buf), fuse.OK
}

func (r *raw) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if isMisaligned(in.Flags, in.Offset, len(data)) {
		return 0, fuse.EINVAL
	}
	off := int64(in.Offset)
	e := r.applyFaults(Call{Write, r.pathOf(in.NodeId, ""), off, int64(len(data)), in.Flags&syscall.O_DIRECT != 0})
	if e.err != 0 {
		return 0, toStatus(e.err)
	}
	e.changeData(off, data)
	r.writes.waitFor(len(data))
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	data = r.cutToRoom(n, data, off)
	if len(data) == 0 {
		return 0, toStatus(syscall.ENOSPC)
	}
	if e.drop {
		n.live.size = max(n.live.size, off+int64(len(data)))
		return uint32(len(data)), fuse.OK
	}
	r.used += n.countHoles(off, int64(len(data))) * pageSize
	n.writeAt(data, off)
	n.touchMtime()
	return uint32(len(data)), fuse.OK
}

// cutToRoom returns the part of data that there is space for.
func (fs *FS) cutToRoom(n *inode, data []byte, off int64) []byte {
	for len(data) > 0 && !fs.hasRoom(n.countHoles(off, int64(len(data)))) {
		end := (off + int64(len(data)) - 1) / pageSize * pageSize
		data = data[:max(end-off, 0)]
	}
	return data
}

func (r *raw) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	length := min(in.Len, 1<<20) // copying less is allowed
	e := r.applyFaults(Call{CopyRange, r.pathOf(in.NodeIdOut, ""), int64(in.OffOut), int64(length), false})
	if e.endsCall() {
		return 0, toStatus(e.err)
	}
	buf := make([]byte, length)
	r.mu.Lock()
	defer r.mu.Unlock()
	from, to := r.inodes[in.NodeId], r.inodes[in.NodeIdOut]
	buf = buf[:from.readAt(buf, int64(in.OffIn))]
	if len(buf) == 0 {
		return 0, fuse.OK
	}
	e.changeData(int64(in.OffOut), buf)
	if buf = r.cutToRoom(to, buf, int64(in.OffOut)); len(buf) == 0 {
		return 0, toStatus(syscall.ENOSPC)
	}
	r.used += to.countHoles(int64(in.OffOut), int64(len(buf))) * pageSize
	to.writeAt(buf, int64(in.OffOut))
	to.touchMtime()
	return uint32(len(buf)), fuse.OK
}

func (r *raw) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if e := r.applyFaultsTo(Sync, in.NodeId, ""); e.endsCall() {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	if in.FsyncFlags&1 != 0 {
		n.syncData()
	} else {
		n.syncAll()
	}
	return fuse.OK
}

func (r *raw) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	off, length := int64(in.Offset), int64(in.Length)
	if e := r.applyFaults(Call{Fallocate, r.pathOf(in.NodeId, ""), off, length, false}); e.endsCall() {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	before := n.allocatedBytes()
	switch in.Mode {
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE:
		n.punchHole(off, length)
	case 0, unix.FALLOC_FL_KEEP_SIZE:
		if !r.hasRoom(n.countHoles(off, length)) {
			return toStatus(syscall.ENOSPC)
		}
		for i := off / pageSize; i*pageSize < off+length; i++ {
			if p, fresh := n.writablePage(i); fresh {
				*p = unwritten
			}
		}
		if in.Mode == 0 {
			n.live.size = max(n.live.size, off+length)
		}
	default:
		return toStatus(syscall.EOPNOTSUPP)
	}
	r.used += n.allocatedBytes() - before
	n.touchMtime()
	return fuse.OK
}

func (r *raw) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, errno := r.inodes[in.NodeId].seekDataOrHole(int64(in.Offset), in.Whence == unix.SEEK_HOLE)
	out.Offset = uint64(at)
	return toStatus(errno)
}

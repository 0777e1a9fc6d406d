package faultfs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func (r *raw) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if in.Flags&syscall.O_DIRECT != 0 {
		if e := r.call(OpenDirect, in.NodeId, name); e.err != 0 {
			return status(e.err)
		}
	}
	n, code := r.add(&in.InHeader, name, syscall.S_IFREG|in.Mode&0o7777&^in.Umask, 0, "", &out.EntryOut)
	if code.Ok() {
		r.opened(n, in.Flags, &out.OpenOut)
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
	if e := r.call(op, in.NodeId, ""); e.err != 0 {
		return status(e.err)
	}
	r.mu.Lock()
	n := r.inodes[in.NodeId]
	r.mu.Unlock()
	r.opened(n, in.Flags, out)
	return fuse.OK
}

// opened has the kernel keep what it has cached of the file before, and pass it by
// with O_DIRECT. By itself it would go on through the cache where a direct read of
// FUSE ends early.
func (r *raw) opened(n *inode, flags uint32, out *fuse.OpenOut) {
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
	r.closed(in.NodeId)
}

// Flush is not told to the kernel to be here: a child between fork and exec
// closes what this process has open, and would wait for it.
func (r *raw) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// sector is what direct I/O must be aligned to.
const sector = 512

func misaligned(flags uint32, off uint64, n int) bool {
	return flags&syscall.O_DIRECT != 0 && (off%sector != 0 || n%sector != 0)
}

func (r *raw) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if misaligned(in.Flags, in.Offset, int(in.Size)) {
		return nil, fuse.EINVAL
	}
	off := int64(in.Offset)
	buf = buf[:min(len(buf), int(in.Size))]
	e := r.meet(Call{Read, r.path(in.NodeId, ""), off, int64(len(buf)), in.Flags&syscall.O_DIRECT != 0})
	if e.err != 0 {
		return nil, status(e.err)
	}
	r.mu.Lock()
	buf = buf[:r.inodes[in.NodeId].readAt(buf, off)]
	r.mu.Unlock()
	e.apply(off, buf)
	r.reads.take(len(buf))
	return fuse.ReadResultData(buf), fuse.OK
}

func (r *raw) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if misaligned(in.Flags, in.Offset, len(data)) {
		return 0, fuse.EINVAL
	}
	off := int64(in.Offset)
	e := r.meet(Call{Write, r.path(in.NodeId, ""), off, int64(len(data)), in.Flags&syscall.O_DIRECT != 0})
	if e.err != 0 {
		return 0, status(e.err)
	}
	e.apply(off, data)
	r.writes.take(len(data))
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	data = r.fitting(n, data, off)
	if len(data) == 0 {
		return 0, status(syscall.ENOSPC)
	}
	if e.drop {
		n.live.size = max(n.live.size, off+int64(len(data)))
		return uint32(len(data)), fuse.OK
	}
	r.used += n.holes(off, int64(len(data))) * pageSize
	n.writeAt(data, off)
	n.modified()
	return uint32(len(data)), fuse.OK
}

// fitting is as much of data as there is space for.
func (fs *FS) fitting(n *inode, data []byte, off int64) []byte {
	for len(data) > 0 && !fs.room(n.holes(off, int64(len(data)))) {
		end := (off + int64(len(data)) - 1) / pageSize * pageSize
		data = data[:max(end-off, 0)]
	}
	return data
}

func (r *raw) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	length := min(in.Len, 1<<20) // one that is short is right, too
	e := r.meet(Call{CopyRange, r.path(in.NodeIdOut, ""), int64(in.OffOut), int64(length), false})
	if e.ends() {
		return 0, status(e.err)
	}
	buf := make([]byte, length)
	r.mu.Lock()
	defer r.mu.Unlock()
	from, to := r.inodes[in.NodeId], r.inodes[in.NodeIdOut]
	buf = buf[:from.readAt(buf, int64(in.OffIn))]
	if len(buf) == 0 {
		return 0, fuse.OK
	}
	e.apply(int64(in.OffOut), buf)
	if buf = r.fitting(to, buf, int64(in.OffOut)); len(buf) == 0 {
		return 0, status(syscall.ENOSPC)
	}
	r.used += to.holes(int64(in.OffOut), int64(len(buf))) * pageSize
	to.writeAt(buf, int64(in.OffOut))
	to.modified()
	return uint32(len(buf)), fuse.OK
}

func (r *raw) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if e := r.call(Sync, in.NodeId, ""); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	if in.FsyncFlags&1 != 0 {
		n.syncData()
	} else {
		n.sync()
	}
	return fuse.OK
}

func (r *raw) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	off, length := int64(in.Offset), int64(in.Length)
	if e := r.meet(Call{Fallocate, r.path(in.NodeId, ""), off, length, false}); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	before := n.allocated()
	switch in.Mode {
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE:
		n.punch(off, length)
	case 0, unix.FALLOC_FL_KEEP_SIZE:
		if !r.room(n.holes(off, length)) {
			return status(syscall.ENOSPC)
		}
		for i := off / pageSize; i*pageSize < off+length; i++ {
			if p, fresh := n.writable(i); fresh {
				*p = unwritten
			}
		}
		if in.Mode == 0 {
			n.live.size = max(n.live.size, off+length)
		}
	default:
		return status(syscall.EOPNOTSUPP)
	}
	r.used += n.allocated() - before
	n.modified()
	return fuse.OK
}

func (r *raw) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, errno := r.inodes[in.NodeId].seek(int64(in.Offset), in.Whence == unix.SEEK_HOLE)
	out.Offset = uint64(at)
	return status(errno)
}

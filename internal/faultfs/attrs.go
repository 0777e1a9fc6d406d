package faultfs

import (
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// attr is what stat says; the kernel may not remember it, so that it asks for
// the time of birth each time.
func (n *inode) attr(out *fuse.Attr) {
	s := &n.live
	out.Ino, out.Mode, out.Nlink, out.Rdev = n.ino, s.mode, n.nlink, s.rdev
	out.Uid, out.Gid = s.uid, s.gid
	out.Size, out.Blocks, out.Blksize = uint64(s.size), uint64(n.allocated()/512), pageSize
	out.SetTimes(&s.atime, &s.mtime, &s.ctime)
}

func (r *raw) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if e := r.call(Stat, in.NodeId, ""); e.err != 0 {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inodes[in.NodeId].attr(&out.Attr)
	return fuse.OK
}

func (r *raw) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	if e := r.call(Stat, in.NodeId, ""); e.err != 0 {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	s, x := &n.live, &out.Statx
	x.Mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	x.Ino, x.Mode, x.Nlink, x.Uid, x.Gid = n.ino, uint16(s.mode), n.nlink, s.uid, s.gid
	x.Size, x.Blocks, x.Blksize = uint64(s.size), uint64(n.allocated()/512), pageSize
	x.RdevMajor, x.RdevMinor = unix.Major(uint64(s.rdev)), unix.Minor(uint64(s.rdev))
	x.Atime, x.Mtime, x.Ctime, x.Btime = sxTime(s.atime), sxTime(s.mtime), sxTime(s.ctime), sxTime(n.btime)
	return fuse.OK
}

func sxTime(t time.Time) fuse.SxTime {
	return fuse.SxTime{Sec: uint64(t.Unix()), Nsec: uint32(t.Nanosecond())}
}

func (r *raw) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if e := r.call(SetAttr, in.NodeId, ""); e.err != 0 {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	if in.Valid&fuse.FATTR_SIZE != 0 {
		before := n.allocated()
		n.truncate(int64(in.Size))
		r.used += n.allocated() - before
		n.modified()
	}
	n.set(in)
	n.changed()
	n.attr(&out.Attr)
	return fuse.OK
}

// set sets what SetAttr sets besides the size.
func (n *inode) set(in *fuse.SetAttrIn) {
	s, now := &n.live, time.Now()
	if in.Valid&fuse.FATTR_MODE != 0 {
		s.mode = s.mode&syscall.S_IFMT | in.Mode&0o7777
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		s.uid = in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		s.gid = in.Gid
	}
	if in.Valid&fuse.FATTR_ATIME != 0 {
		s.atime = time.Unix(int64(in.Atime), int64(in.Atimensec))
	}
	if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
		s.atime = now
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		s.mtime = time.Unix(int64(in.Mtime), int64(in.Mtimensec))
	}
	if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
		s.mtime = now
	}
}

func (r *raw) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks = uint64(r.told / pageSize)
	out.Bfree = uint64(max(r.told-r.used, 0) / pageSize)
	out.Bavail = out.Bfree
	return fuse.OK
}

func (r *raw) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if strings.HasPrefix(name, "system.") {
		return 0, status(syscall.EOPNOTSUPP)
	}
	if e := r.call(Xattr, in.NodeId, ""); e.err != 0 {
		return 0, status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	value, there := r.inodes[in.NodeId].live.xattrs[name]
	if !there {
		return 0, status(syscall.ENODATA)
	}
	return give(dest, value)
}

func (r *raw) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if e := r.call(Xattr, in.NodeId, ""); e.err != 0 {
		return 0, status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []byte
	for _, name := range slices.Sorted(maps.Keys(r.inodes[in.NodeId].live.xattrs)) {
		list = append(append(list, name...), 0)
	}
	return give(dest, list)
}

// give fills dest, or says how long it must be.
func give(dest, value []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), status(syscall.ERANGE)
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (r *raw) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if strings.HasPrefix(name, "system.") {
		return status(syscall.EOPNOTSUPP)
	}
	if e := r.call(Xattr, in.NodeId, ""); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	_, there := n.live.xattrs[name]
	switch {
	case in.Flags&unix.XATTR_CREATE != 0 && there:
		return status(syscall.EEXIST)
	case in.Flags&unix.XATTR_REPLACE != 0 && !there:
		return status(syscall.ENODATA)
	}
	n.live.xattrs[name] = slices.Clone(value)
	n.changed()
	return fuse.OK
}

func (r *raw) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if strings.HasPrefix(name, "system.") {
		return status(syscall.EOPNOTSUPP)
	}
	if e := r.call(Xattr, in.NodeId, ""); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	if _, there := n.live.xattrs[name]; !there {
		return status(syscall.ENODATA)
	}
	delete(n.live.xattrs, name)
	n.changed()
	return fuse.OK
}

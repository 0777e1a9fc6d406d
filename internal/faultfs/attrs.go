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

// fillAttr sets out as stat reports the inode. The kernel must not cache it, so that it
// asks for the time of birth each time.
func (n *inode) fillAttr(out *fuse.Attr) {
	s := &n.live
	out.Ino, out.Mode, out.Nlink, out.Rdev = n.ino, s.mode, n.nlink, s.rdev
	out.Uid, out.Gid = s.uid, s.gid
	out.Size, out.Blocks, out.Blksize = uint64(s.size), uint64(n.allocatedBytes()/512), pageSize
	out.SetTimes(&s.atime, &s.mtime, &s.ctime)
}

func (r *raw) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if e := r.applyFaultsTo(Stat, in.NodeId, ""); e.err != 0 {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inodes[in.NodeId].fillAttr(&out.Attr)
	return fuse.OK
}

func (r *raw) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	if e := r.applyFaultsTo(Stat, in.NodeId, ""); e.err != 0 {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	s, x := &n.live, &out.Statx
	x.Mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	x.Ino, x.Mode, x.Nlink, x.Uid, x.Gid = n.ino, uint16(s.mode), n.nlink, s.uid, s.gid
	x.Size, x.Blocks, x.Blksize = uint64(s.size), uint64(n.allocatedBytes()/512), pageSize
	x.RdevMajor, x.RdevMinor = unix.Major(uint64(s.rdev)), unix.Minor(uint64(s.rdev))
	x.Atime, x.Mtime, x.Ctime, x.Btime = toSxTime(s.atime), toSxTime(s.mtime), toSxTime(s.ctime), toSxTime(n.btime)
	return fuse.OK
}

func toSxTime(t time.Time) fuse.SxTime {
	return fuse.SxTime{Sec: uint64(t.Unix()), Nsec: uint32(t.Nanosecond())}
}

func (r *raw) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if e := r.applyFaultsTo(SetAttr, in.NodeId, ""); e.err != 0 {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	if in.Valid&fuse.FATTR_SIZE != 0 {
		before := n.allocatedBytes()
		n.truncate(int64(in.Size))
		r.used += n.allocatedBytes() - before
		n.touchMtime()
	}
	n.setAttributes(in)
	n.touchCtime()
	n.fillAttr(&out.Attr)
	return fuse.OK
}

// setAttributes does SetAttr, except for the size.
func (n *inode) setAttributes(in *fuse.SetAttrIn) {
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
	out.Blocks = uint64(r.reported / pageSize)
	out.Bfree = uint64(max(r.reported-r.used, 0) / pageSize)
	out.Bavail = out.Bfree
	return fuse.OK
}

func (r *raw) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if strings.HasPrefix(name, "system.") {
		return 0, toStatus(syscall.EOPNOTSUPP)
	}
	if e := r.applyFaultsTo(Xattr, in.NodeId, ""); e.err != 0 {
		return 0, toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	value, there := r.inodes[in.NodeId].live.xattrs[name]
	if !there {
		return 0, toStatus(syscall.ENODATA)
	}
	return copyOrSize(dest, value)
}

func (r *raw) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if e := r.applyFaultsTo(Xattr, in.NodeId, ""); e.err != 0 {
		return 0, toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []byte
	for _, name := range slices.Sorted(maps.Keys(r.inodes[in.NodeId].live.xattrs)) {
		list = append(append(list, name...), 0)
	}
	return copyOrSize(dest, list)
}

// copyOrSize copies value to dest. If dest is too short, it returns the length needed,
// and ERANGE.
func copyOrSize(dest, value []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), toStatus(syscall.ERANGE)
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (r *raw) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if strings.HasPrefix(name, "system.") {
		return toStatus(syscall.EOPNOTSUPP)
	}
	if e := r.applyFaultsTo(Xattr, in.NodeId, ""); e.endsCall() {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	_, there := n.live.xattrs[name]
	switch {
	case in.Flags&unix.XATTR_CREATE != 0 && there:
		return toStatus(syscall.EEXIST)
	case in.Flags&unix.XATTR_REPLACE != 0 && !there:
		return toStatus(syscall.ENODATA)
	}
	n.live.xattrs[name] = slices.Clone(value)
	n.touchCtime()
	return fuse.OK
}

func (r *raw) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if strings.HasPrefix(name, "system.") {
		return toStatus(syscall.EOPNOTSUPP)
	}
	if e := r.applyFaultsTo(Xattr, in.NodeId, ""); e.endsCall() {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.inodes[in.NodeId]
	if _, there := n.live.xattrs[name]; !there {
		return toStatus(syscall.ENODATA)
	}
	delete(n.live.xattrs, name)
	n.touchCtime()
	return fuse.OK
}

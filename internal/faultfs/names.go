package faultfs

import (
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// raw is the side of FS that the kernel sees. Node ids are inode numbers.
type raw struct {
	fuse.RawFileSystem
	*FS
}

func (r *raw) String() string { return "faultfs" }

type entry struct {
	name string
	ino  uint64
	mode uint32
}

func status(errno syscall.Errno) fuse.Status { return fuse.Status(errno) }

// find follows a path below the root. fs.mu is held.
func (fs *FS) find(path string) (*inode, syscall.Errno) {
	n := fs.inodes[fuse.FUSE_ROOT_ID]
	for name := range strings.SplitSeq(path, "/") {
		ino, there := n.live.entries[name]
		if !there {
			return nil, syscall.ENOENT
		}
		n = fs.inodes[ino]
	}
	return n, 0
}

// path is where a directory is, or a name in it.
func (fs *FS) path(ino uint64, name string) string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	path := name
	for n := fs.inodes[ino]; n.ino != fuse.FUSE_ROOT_ID; n = fs.inodes[n.parent] {
		path = strings.TrimSuffix(n.name+"/"+path, "/")
		if fs.inodes[n.parent] == nil { // removed
			break
		}
	}
	return path
}

// call is meet for a call that has no more to it than a path.
func (fs *FS) call(op Op, ino uint64, name string) effect {
	return fs.meet(Call{Op: op, Path: fs.path(ino, name)})
}

// fill tells the kernel of an inode, which has a name. fs.mu is held.
func (n *inode) fill(out *fuse.EntryOut) {
	n.lookups++
	out.NodeId, out.Generation = n.ino, 1
	n.attr(&out.Attr)
}

// put gives n a name. fs.mu is held.
func (fs *FS) put(dir *inode, name string, n *inode) {
	dir.live.entries[name] = n.ino
	n.parent, n.name = dir.ino, name
	n.nlink++
	if n.isDir() {
		n.nlink = 2
		dir.nlink++
	}
	dir.modified()
}

// drop takes a name away. fs.mu is held.
func (fs *FS) drop(dir *inode, name string) {
	n := fs.inodes[dir.live.entries[name]]
	delete(dir.live.entries, name)
	n.nlink--
	if n.isDir() {
		n.nlink = 0
		dir.nlink--
	}
	n.changed()
	dir.modified()
	fs.release(n)
}

// release gives the space of an inode back that nobody can reach any more.
func (fs *FS) release(n *inode) {
	if n.nlink == 0 && n.opens == 0 {
		fs.used -= n.allocated() + pageSize
		n.live.pages, n.live.size = nil, 0
	}
}

func (r *raw) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if e := r.call(Lookup, in.NodeId, name); e.err != 0 {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ino, there := r.inodes[in.NodeId].live.entries[name]
	if !there {
		return fuse.ENOENT
	}
	r.inodes[ino].fill(out)
	return fuse.OK
}

func (r *raw) Forget(ino, count uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.inodes[ino]; n != nil {
		n.lookups -= min(count, n.lookups)
	}
}

// add makes an inode under a new name; with no name it is an unnamed file.
func (r *raw) add(in *fuse.InHeader, name string, mode, rdev uint32, target string, out *fuse.EntryOut) (*inode, fuse.Status) {
	if e := r.call(Create, in.NodeId, name); e.ends() {
		return nil, status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	dir := r.inodes[in.NodeId]
	if _, there := dir.live.entries[name]; there {
		return nil, status(syscall.EEXIST)
	}
	if dir.nlink == 0 {
		return nil, fuse.ENOENT
	}
	if !r.room(1) {
		return nil, status(syscall.ENOSPC)
	}
	gid := in.Gid
	if dir.live.mode&syscall.S_ISGID != 0 {
		gid = dir.live.gid
		if mode&syscall.S_IFMT == syscall.S_IFDIR {
			mode |= syscall.S_ISGID
		}
	}
	n := r.newInode(mode, in.Uid, gid)
	n.live.rdev, n.target, n.live.size = rdev, target, int64(len(target))
	n.disk.size = n.live.size
	n.parent, n.name = dir.ino, name
	if name != "" {
		r.put(dir, name, n)
	}
	n.fill(out)
	return n, fuse.OK
}

func (r *raw) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	_, status := r.add(&in.InHeader, name, syscall.S_IFDIR|in.Mode&^in.Umask, 0, "", out)
	return status
}

func (r *raw) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	_, status := r.add(&in.InHeader, name, in.Mode&^in.Umask, in.Rdev, "", out)
	return status
}

func (r *raw) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	_, status := r.add(in, name, syscall.S_IFLNK|0o777, 0, target, out)
	return status
}

func (r *raw) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return []byte(r.inodes[in.NodeId].target), fuse.OK
}

func (r *raw) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if e := r.call(Link, in.NodeId, name); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	dir, n := r.inodes[in.NodeId], r.inodes[in.Oldnodeid]
	if _, there := dir.live.entries[name]; there {
		return status(syscall.EEXIST)
	}
	r.put(dir, name, n)
	n.changed()
	n.fill(out)
	return fuse.OK
}

func (r *raw) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.unlink(in, name)
}

func (r *raw) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.unlink(in, name)
}

func (r *raw) unlink(in *fuse.InHeader, name string) fuse.Status {
	if e := r.call(Unlink, in.NodeId, name); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	dir := r.inodes[in.NodeId]
	ino, there := dir.live.entries[name]
	if !there {
		return fuse.ENOENT
	}
	if len(r.inodes[ino].live.entries) > 0 {
		return status(syscall.ENOTEMPTY)
	}
	r.drop(dir, name)
	return fuse.OK
}

func (r *raw) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	if e := r.call(Rename, in.Newdir, newName); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	from, to := r.inodes[in.NodeId], r.inodes[in.Newdir]
	n, there := r.inodes[from.live.entries[name]], false
	if n == nil {
		return fuse.ENOENT
	}
	var old *inode
	if ino, is := to.live.entries[newName]; is {
		old, there = r.inodes[ino], true
	}
	switch {
	case in.Flags&unix.RENAME_NOREPLACE != 0 && there:
		return status(syscall.EEXIST)
	case in.Flags&unix.RENAME_EXCHANGE != 0:
		if !there {
			return fuse.ENOENT
		}
		r.exchange(from, name, to, newName)
		return fuse.OK
	case there && len(old.live.entries) > 0:
		return status(syscall.ENOTEMPTY)
	case old == n:
		return fuse.OK
	case there:
		r.drop(to, newName)
	}
	r.move(from, name, to, newName)
	return fuse.OK
}

// move renames to a name that is free.
func (fs *FS) move(from *inode, name string, to *inode, newName string) {
	n := fs.inodes[from.live.entries[name]]
	delete(from.live.entries, name)
	n.nlink--
	if n.isDir() {
		from.nlink--
	}
	from.modified()
	fs.put(to, newName, n)
	n.changed()
}

func (fs *FS) exchange(from *inode, name string, to *inode, newName string) {
	const between = "/" // no name can be that
	fs.move(from, name, from, between)
	fs.move(to, newName, from, name)
	fs.move(from, between, to, newName)
}

func (r *raw) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if e := r.call(Open, in.NodeId, ""); e.err != 0 {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastDir++
	out.Fh = r.lastDir
	r.inodes[in.NodeId].opens++
	return fuse.OK
}

// ReadDir lists what was there when the directory was read from its start.
func (r *raw) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if e := r.call(List, in.NodeId, ""); e.err != 0 {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if in.Offset == 0 {
		var list []entry
		entries := r.inodes[in.NodeId].live.entries
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			list = append(list, entry{name, entries[name], r.inodes[entries[name]].live.mode})
		}
		r.dirs[in.Fh] = list
	}
	for _, e := range r.dirs[in.Fh][min(in.Offset, uint64(len(r.dirs[in.Fh]))):] {
		if !out.AddDirEntry(fuse.DirEntry{Name: e.name, Ino: e.ino, Mode: e.mode}) {
			break
		}
	}
	return fuse.OK
}

func (r *raw) ReleaseDir(in *fuse.ReleaseIn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.dirs, in.Fh)
	r.closed(in.NodeId)
}

// closed counts one user of an inode less.
func (fs *FS) closed(ino uint64) {
	n := fs.inodes[ino]
	n.opens--
	fs.release(n)
}

func (r *raw) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if e := r.call(Sync, in.NodeId, ""); e.ends() {
		return status(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inodes[in.NodeId].sync()
	r.sweep()
	return fuse.OK
}

package faultfs

import (
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// raw implements the calls of the kernel for an FS. Node ids are inode numbers.
type raw struct {
	fuse.RawFileSystem
	*FS
}

func (r *raw) String() string { return "faultfs" }

type dirEntry struct {
	name string
	ino  uint64
	mode uint32
}

func toStatus(errno syscall.Errno) fuse.Status { return fuse.Status(errno) }

// findInode follows a path below the root. fs.mu must be held.
func (fs *FS) findInode(path string) (*inode, syscall.Errno) {
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

// pathOf returns the path of an inode or, if name is not empty, of a name in it.
func (fs *FS) pathOf(ino uint64, name string) string {
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

// applyFaultsTo is applyFaults for a call that has only a path.
func (fs *FS) applyFaultsTo(op Op, ino uint64, name string) effect {
	return fs.applyFaults(Call{Op: op, Path: fs.pathOf(ino, name)})
}

// fillEntry reports an inode to the kernel, which refers to it from now on. fs.mu must be
// held.
func (n *inode) fillEntry(out *fuse.EntryOut) {
	n.lookups++
	out.NodeId, out.Generation = n.ino, 1
	n.fillAttr(&out.Attr)
}

// addName gives n a name. fs.mu must be held.
func (fs *FS) addName(dir *inode, name string, n *inode) {
	dir.live.entries[name] = n.ino
	n.parent, n.name = dir.ino, name
	n.nlink++
	if n.isDir() {
		n.nlink = 2
		dir.nlink++
	}
	dir.touchMtime()
}

// removeName removes a name. fs.mu must be held.
func (fs *FS) removeName(dir *inode, name string) {
	n := fs.inodes[dir.live.entries[name]]
	delete(dir.live.entries, name)
	n.nlink--
	if n.isDir() {
		n.nlink = 0
		dir.nlink--
	}
	n.touchCtime()
	dir.touchMtime()
	fs.freeIfUnused(n)
}

// freeIfUnused frees the space of an inode that no process can reach.
func (fs *FS) freeIfUnused(n *inode) {
	if n.nlink == 0 && n.opens == 0 {
		fs.used -= n.allocatedBytes() + pageSize
		n.live.pages, n.live.size = nil, 0
	}
}

func (r *raw) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if e := r.applyFaultsTo(Lookup, in.NodeId, name); e.err != 0 {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ino, there := r.inodes[in.NodeId].live.entries[name]
	if !there {
		return fuse.ENOENT
	}
	r.inodes[ino].fillEntry(out)
	return fuse.OK
}

func (r *raw) Forget(ino, count uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.inodes[ino]; n != nil {
		n.lookups -= min(count, n.lookups)
	}
}

// inodeSpec describes a new inode.
type inodeSpec struct {
	mode, rdev uint32 // mode includes the type
	target     string // of a symbolic link
}

// createInode makes an inode under a new name. If name is empty, it is an unnamed file.
func (r *raw) createInode(in *fuse.InHeader, name string, spec inodeSpec, out *fuse.EntryOut) (*inode, fuse.Status) {
	if e := r.applyFaultsTo(Create, in.NodeId, name); e.endsCall() {
		return nil, toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	dir := r.inodes[in.NodeId]
	if _, there := dir.live.entries[name]; there {
		return nil, toStatus(syscall.EEXIST)
	}
	if dir.nlink == 0 {
		return nil, fuse.ENOENT
	}
	if !r.hasRoom(1) {
		return nil, toStatus(syscall.ENOSPC)
	}
	gid, mode := in.Gid, spec.mode
	if dir.live.mode&syscall.S_ISGID != 0 {
		gid = dir.live.gid
		if mode&syscall.S_IFMT == syscall.S_IFDIR {
			mode |= syscall.S_ISGID
		}
	}
	n := r.newInode(mode, in.Uid, gid)
	n.live.rdev, n.target, n.live.size = spec.rdev, spec.target, int64(len(spec.target))
	n.disk.size = n.live.size
	n.parent, n.name = dir.ino, name
	if name != "" {
		r.addName(dir, name, n)
	}
	n.fillEntry(out)
	return n, fuse.OK
}

func (r *raw) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	_, status := r.createInode(&in.InHeader, name, inodeSpec{mode: syscall.S_IFDIR | in.Mode&^in.Umask}, out)
	return status
}

func (r *raw) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	_, status := r.createInode(&in.InHeader, name, inodeSpec{mode: in.Mode &^ in.Umask, rdev: in.Rdev}, out)
	return status
}

func (r *raw) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	_, status := r.createInode(in, name, inodeSpec{mode: syscall.S_IFLNK | 0o777, target: target}, out)
	return status
}

func (r *raw) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return []byte(r.inodes[in.NodeId].target), fuse.OK
}

func (r *raw) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if e := r.applyFaultsTo(Link, in.NodeId, name); e.endsCall() {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	dir, n := r.inodes[in.NodeId], r.inodes[in.Oldnodeid]
	if _, there := dir.live.entries[name]; there {
		return toStatus(syscall.EEXIST)
	}
	r.addName(dir, name, n)
	n.touchCtime()
	n.fillEntry(out)
	return fuse.OK
}

func (r *raw) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.unlinkEntry(in, name)
}

func (r *raw) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.unlinkEntry(in, name)
}

func (r *raw) unlinkEntry(in *fuse.InHeader, name string) fuse.Status {
	if e := r.applyFaultsTo(Unlink, in.NodeId, name); e.endsCall() {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	dir := r.inodes[in.NodeId]
	ino, there := dir.live.entries[name]
	if !there {
		return fuse.ENOENT
	}
	if len(r.inodes[ino].live.entries) > 0 {
		return toStatus(syscall.ENOTEMPTY)
	}
	r.removeName(dir, name)
	return fuse.OK
}

func (r *raw) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	if e := r.applyFaultsTo(Rename, in.Newdir, newName); e.endsCall() {
		return toStatus(e.err)
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
		return toStatus(syscall.EEXIST)
	case in.Flags&unix.RENAME_EXCHANGE != 0:
		if !there {
			return fuse.ENOENT
		}
		r.exchangeEntries(from, name, to, newName)
		return fuse.OK
	case there && len(old.live.entries) > 0:
		return toStatus(syscall.ENOTEMPTY)
	case old == n:
		return fuse.OK
	case there:
		r.removeName(to, newName)
	}
	r.moveEntry(from, name, to, newName)
	return fuse.OK
}

// moveEntry renames an entry to a name that is free.
func (fs *FS) moveEntry(from *inode, name string, to *inode, newName string) {
	n := fs.inodes[from.live.entries[name]]
	delete(from.live.entries, name)
	n.nlink--
	if n.isDir() {
		from.nlink--
	}
	from.touchMtime()
	fs.addName(to, newName, n)
	n.touchCtime()
}

func (fs *FS) exchangeEntries(from *inode, name string, to *inode, newName string) {
	const between = "/" // never a name of an entry
	fs.moveEntry(from, name, from, between)
	fs.moveEntry(to, newName, from, name)
	fs.moveEntry(from, between, to, newName)
}

func (r *raw) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if e := r.applyFaultsTo(Open, in.NodeId, ""); e.err != 0 {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastDir++
	out.Fh = r.lastDir
	r.inodes[in.NodeId].opens++
	return fuse.OK
}

// ReadDir lists the entries that the directory had when it was last read from its start.
func (r *raw) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if e := r.applyFaultsTo(List, in.NodeId, ""); e.err != 0 {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if in.Offset == 0 {
		var list []dirEntry
		entries := r.inodes[in.NodeId].live.entries
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			list = append(list, dirEntry{name, entries[name], r.inodes[entries[name]].live.mode})
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
	r.closeInode(in.NodeId)
}

// closeInode ends one use of an inode.
func (fs *FS) closeInode(ino uint64) {
	n := fs.inodes[ino]
	n.opens--
	fs.freeIfUnused(n)
}

func (r *raw) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if e := r.applyFaultsTo(Sync, in.NodeId, ""); e.endsCall() {
		return toStatus(e.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inodes[in.NodeId].syncAll()
	r.dropUnreachable()
	return fuse.OK
}

package faultfs

import (
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// CutPower is a power cut and the reboot after it: it unmounts the file system, and mounts it
// again with the durable state. No process may use the file system meanwhile. Faults
// stay.
//
// CutPower calls keep for each change that was not synced: an entry of a directory, the
// length and metadata of an inode, a page. If keep returns true, the change reached the
// disk all the same. A nil keep returns false each time, which is the harshest outcome
// but not the only one.
func (fs *FS) CutPower(keep func() bool) error {
	if keep == nil {
		keep = func() bool { return false }
	}
	return fs.changeUnmounted(func() { fs.inodes = survivingInodes(fs.inodes, keep) })
}

// Checkpoint makes everything durable. It returns a function that restores all files to
// their state now, and that may be called several times. As with Cut, no process may
// use the file system meanwhile.
func (fs *FS) Checkpoint() (restore func() error) {
	fs.Sync()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	none := func() bool { return false }
	saved := survivingInodes(fs.inodes, none)
	return func() error {
		return fs.changeUnmounted(func() { fs.inodes = survivingInodes(saved, none) })
	}
}

// changeUnmounted unmounts the file system, calls change, and mounts it again.
func (fs *FS) changeUnmounted(change func()) error {
	if err := fs.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s, which no process should use: %w", fs.Dir, err)
	}
	fs.mu.Lock()
	change()
	fs.used = 0
	for _, n := range fs.inodes {
		fs.used += pageSize + n.allocatedBytes()
	}
	fs.mu.Unlock()
	return fs.mountServer()
}

// survivingInodes returns copies of the inodes that exist after a power cut.
func survivingInodes(inodes map[uint64]*inode, keep func() bool) map[uint64]*inode {
	b := &reboot{old: inodes, states: map[uint64]inodeState{}, inodes: map[uint64]*inode{}, keep: keep}
	b.restoreInode(fuse.FUSE_ROOT_ID).nlink += 2
	return b.inodes
}

// reboot finds the inodes that exist on the disk, from the root down.
type reboot struct {
	old    map[uint64]*inode
	states map[uint64]inodeState
	inodes map[uint64]*inode
	keep   func() bool
}

// restoreInode returns the inode in its state after the reboot.
func (b *reboot) restoreInode(ino uint64) *inode {
	old := b.old[ino]
	n := &inode{ino: ino, btime: old.btime, target: old.target, parent: old.parent, name: old.name, live: b.restoreState(ino)}
	b.inodes[ino] = n
	for _, name := range slices.Sorted(maps.Keys(n.live.entries)) {
		b.restoreEntry(n, name)
	}
	n.syncAll()
	return n
}

// restoreEntry restores the inode of an entry, or gives it one more name. A directory
// that was renamed, and is on disk in both places, stays in the new one.
func (b *reboot) restoreEntry(dir *inode, name string) {
	ino := dir.live.entries[name]
	if old := b.old[ino]; old.isDir() && (old.parent != dir.ino || old.name != name) && b.restoreState(old.parent).entries[old.name] == ino {
		delete(dir.live.entries, name)
		return
	}
	n := b.inodes[ino]
	if n == nil {
		n = b.restoreInode(ino)
	}
	n.parent, n.name = dir.ino, name
	n.nlink++
	if n.isDir() {
		n.nlink++
		dir.nlink++
	}
}

// restoreState returns the state of an inode on disk, with the changes that keep chose.
func (b *reboot) restoreState(ino uint64) inodeState {
	n := b.old[ino]
	if n == nil { // the removal is durable
		return inodeState{}
	}
	if s, known := b.states[ino]; known {
		return s
	}
	s := n.disk
	if b.keep() {
		s = n.live
	}
	s.xattrs, s.entries, s.pages = maps.Clone(s.xattrs), nil, nil
	if s.xattrs == nil {
		s.xattrs = map[string][]byte{}
	}
	switch n.fileType() {
	case syscall.S_IFDIR:
		s.entries = b.restoreEntries(n)
	case syscall.S_IFREG:
		s.pages = b.restorePages(n, pageCount(s.size))
	}
	b.states[ino] = s
	return s
}

// restoreEntries returns the entries on disk, with the later changes that keep chose.
func (b *reboot) restoreEntries(n *inode) map[string]uint64 {
	entries := map[string]uint64{}
	maps.Copy(entries, n.disk.entries)
	names := slices.Collect(maps.Keys(n.live.entries))
	names = slices.AppendSeq(names, maps.Keys(n.disk.entries))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		is, isThere := n.live.entries[name]
		if was, wasThere := n.disk.entries[name]; (was == is && wasThere == isThere) || !b.keep() {
			continue
		}
		if isThere {
			entries[name] = is
		} else {
			delete(entries, name)
		}
	}
	return entries
}

// restorePages returns the pages on disk, with the later writes that keep chose.
func (b *reboot) restorePages(n *inode, count int) []page {
	pages := make([]page, count)
	copy(pages, n.disk.pages)
	for i := range pages {
		if i < len(n.live.pages) && !n.live.pages[i].frozen && n.live.pages[i].data != nil && b.keep() {
			pages[i] = n.live.pages[i]
		}
	}
	return pages
}

// dropUnreachable forgets the inodes that have no name, live or on disk, and that no
// process uses. fs.mu must be held.
func (fs *FS) dropUnreachable() {
	reached := map[uint64]bool{}
	var reach func(ino uint64)
	reach = func(ino uint64) {
		if reached[ino] {
			return
		}
		reached[ino] = true
		n := fs.inodes[ino]
		for _, entries := range []map[string]uint64{n.live.entries, n.disk.entries} {
			for _, below := range entries {
				reach(below)
			}
		}
	}
	reach(fuse.FUSE_ROOT_ID)
	for ino, n := range fs.inodes {
		if !reached[ino] && n.lookups == 0 && n.opens == 0 {
			delete(fs.inodes, ino)
		}
	}
}

package faultfs

import (
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Cut is a power cut and the reboot after it: the file system is unmounted, and
// mounted again with what was durable. No process may use it any more; faults
// stay.
//
// keep is asked for everything that was not synced whether it came to the disk
// all the same: a directory's change of an entry, an inode's length and metadata,
// a page. nil keeps nothing, which is the harshest answer but not the only one.
func (fs *FS) Cut(keep func() bool) error {
	if keep == nil {
		keep = func() bool { return false }
	}
	return fs.remount(func() { fs.inodes = survivors(fs.inodes, keep) })
}

// Checkpoint makes everything durable, and returns a function that brings all
// files back to what they are now, as often as it is called. Like Cut it wants
// that nobody uses the file system.
func (fs *FS) Checkpoint() (restore func() error) {
	fs.Sync()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	none := func() bool { return false }
	saved := survivors(fs.inodes, none)
	return func() error {
		return fs.remount(func() { fs.inodes = survivors(saved, none) })
	}
}

// remount unmounts, has the model changed, and mounts it again.
func (fs *FS) remount(change func()) error {
	if err := fs.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s, which nobody should use: %w", fs.Dir, err)
	}
	fs.mu.Lock()
	change()
	fs.used = 0
	for _, n := range fs.inodes {
		fs.used += pageSize + n.allocated()
	}
	fs.mu.Unlock()
	return fs.mount()
}

// survivors are copies of the inodes that are there after a power cut.
func survivors(inodes map[uint64]*inode, keep func() bool) map[uint64]*inode {
	b := &boot{old: inodes, states: map[uint64]state{}, inodes: map[uint64]*inode{}, keep: keep}
	b.visit(fuse.FUSE_ROOT_ID).nlink += 2
	return b.inodes
}

// boot finds the inodes that the disk has, from the root on.
type boot struct {
	old    map[uint64]*inode
	states map[uint64]state
	inodes map[uint64]*inode
	keep   func() bool
}

// visit returns the inode as it is after the reboot.
func (b *boot) visit(ino uint64) *inode {
	old := b.old[ino]
	n := &inode{ino: ino, btime: old.btime, target: old.target, parent: old.parent, name: old.name, live: b.state(ino)}
	b.inodes[ino] = n
	for _, name := range slices.Sorted(maps.Keys(n.live.entries)) {
		b.link(n, name)
	}
	n.sync()
	return n
}

// link gives what an entry leads to one more name. A directory that has been
// renamed, and is on disk in both places, stays in the new one.
func (b *boot) link(dir *inode, name string) {
	ino := dir.live.entries[name]
	if old := b.old[ino]; old.isDir() && (old.parent != dir.ino || old.name != name) && b.state(old.parent).entries[old.name] == ino {
		delete(dir.live.entries, name)
		return
	}
	n := b.inodes[ino]
	if n == nil {
		n = b.visit(ino)
	}
	n.parent, n.name = dir.ino, name
	n.nlink++
	if n.isDir() {
		n.nlink++
		dir.nlink++
	}
}

// state is that of an inode on disk, with what else has come to it.
func (b *boot) state(ino uint64) state {
	n := b.old[ino]
	if n == nil { // removed for good
		return state{}
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
	switch n.kind() {
	case syscall.S_IFDIR:
		s.entries = b.entries(n)
	case syscall.S_IFREG:
		s.pages = b.pages(n, pagesOf(s.size))
	}
	b.states[ino] = s
	return s
}

// entries are those of the disk, with some of the changes since.
func (b *boot) entries(n *inode) map[string]uint64 {
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

// pages are those of the disk, with some of those written since.
func (b *boot) pages(n *inode, count int) []page {
	pages := make([]page, count)
	copy(pages, n.disk.pages)
	for i := range pages {
		if i < len(n.live.pages) && !n.live.pages[i].frozen && n.live.pages[i].data != nil && b.keep() {
			pages[i] = n.live.pages[i]
		}
	}
	return pages
}

// sweep forgets inodes that have no name any more, here or on disk, and nobody who
// uses them. fs.mu is held.
func (fs *FS) sweep() {
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

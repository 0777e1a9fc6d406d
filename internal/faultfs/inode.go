package faultfs

import (
	"maps"
	"slices"
	"syscall"
	"time"
)

const pageSize = 4096

// page is a page of a file; nil data is a hole. A frozen page is shared with the state on
// disk, and is copied before it changes.
type page struct {
	data   *[pageSize]byte
	frozen bool
}

// unwritten is a page that fallocate has reserved.
var unwritten = page{new([pageSize]byte), true}

// inodeState is the part of an inode that can differ between its live state and its
// state on disk.
type inodeState struct {
	mode, uid, gid, rdev uint32 // mode includes the type
	atime, mtime, ctime  time.Time
	xattrs               map[string][]byte

	size    int64             // of a file
	pages   []page            // of a file, at most as many as size needs
	entries map[string]uint64 // of a directory
}

// inode is a file, directory or other entry. Its number is never reused.
type inode struct {
	ino    uint64
	btime  time.Time
	target string // of a symbolic link

	live inodeState
	disk inodeState // empty for a new inode

	nlink   uint32
	lookups uint64 // references of the kernel, until it forgets the inode
	opens   int

	parent uint64 // the directory of its last name, see pathOf
	name   string
}

func (n *inode) fileType() uint32 { return n.live.mode & syscall.S_IFMT }
func (n *inode) isDir() bool      { return n.fileType() == syscall.S_IFDIR }

// touchCtime is called after a change of the inode, but not of its data.
func (n *inode) touchCtime() { n.live.ctime = time.Now() }

// touchMtime is called after a change of data or entries.
func (n *inode) touchMtime() {
	n.live.mtime = time.Now()
	n.live.ctime = n.live.mtime
}

// syncData does fdatasync.
func (n *inode) syncData() {
	for i := range n.live.pages {
		n.live.pages[i].frozen = true
	}
	n.disk.size, n.disk.pages = n.live.size, slices.Clone(n.live.pages)
}

// syncAll does fsync.
func (n *inode) syncAll() {
	n.syncData()
	n.disk = n.live
	n.disk.pages = slices.Clone(n.live.pages)
	n.disk.entries = maps.Clone(n.live.entries)
	n.disk.xattrs = maps.Clone(n.live.xattrs) // values are never changed in place
}

func pageCount(size int64) int { return int((size + pageSize - 1) / pageSize) }

// allocatedBytes returns how many bytes the pages of the inode take.
func (n *inode) allocatedBytes() (bytes int64) {
	for _, p := range n.live.pages {
		if p.data != nil {
			bytes += pageSize
		}
	}
	return bytes
}

// readAt reads from off into buf and returns how many bytes it read.
func (n *inode) readAt(buf []byte, off int64) int {
	if off >= n.live.size {
		return 0
	}
	buf = buf[:min(int64(len(buf)), n.live.size-off)]
	for at := 0; at < len(buf); {
		i, in := (off+int64(at))/pageSize, (off+int64(at))%pageSize
		piece := buf[at:min(len(buf), at+int(pageSize-in))]
		if i < int64(len(n.live.pages)) && n.live.pages[i].data != nil {
			copy(piece, n.live.pages[i].data[in:])
		} else {
			clear(piece)
		}
		at += len(piece)
	}
	return len(buf)
}

// writablePage returns page i, allocated and not shared with the disk. fresh is true if
// it was a hole.
func (n *inode) writablePage(i int64) (p *page, fresh bool) {
	for int64(len(n.live.pages)) <= i {
		n.live.pages = append(n.live.pages, page{})
	}
	p = &n.live.pages[i]
	switch {
	case p.data == nil:
		*p, fresh = page{data: new([pageSize]byte)}, true
	case p.frozen:
		data := *p.data
		*p = page{data: &data}
	}
	return p, fresh
}

// countHoles counts the pages that a write of length bytes at off would allocate.
func (n *inode) countHoles(off, length int64) (count int64) {
	for i := off / pageSize; i*pageSize < off+length; i++ {
		if i >= int64(len(n.live.pages)) || n.live.pages[i].data == nil {
			count++
		}
	}
	return count
}

// writeAt writes without regard to space.
func (n *inode) writeAt(data []byte, off int64) {
	for at := 0; at < len(data); {
		i, in := (off+int64(at))/pageSize, (off+int64(at))%pageSize
		p, _ := n.writablePage(i)
		at += copy(p.data[in:], data[at:])
	}
	n.live.size = max(n.live.size, off+int64(len(data)))
}

// truncate sets the length. It clears the part of the last page that is cut off.
func (n *inode) truncate(size int64) {
	if size < n.live.size {
		n.live.pages = n.live.pages[:min(len(n.live.pages), pageCount(size))]
		if in := size % pageSize; in > 0 && pageCount(size) == len(n.live.pages) {
			if last := n.live.pages[len(n.live.pages)-1]; last.data != nil {
				p, _ := n.writablePage(int64(len(n.live.pages) - 1))
				clear(p.data[in:])
			}
		}
	}
	n.live.size = size
}

// punchHole turns whole pages into holes, and clears parts of pages.
func (n *inode) punchHole(off, length int64) {
	for i := off / pageSize; i*pageSize < off+length && i < int64(len(n.live.pages)); i++ {
		from, to := max(off-i*pageSize, 0), min(off+length-i*pageSize, pageSize)
		switch {
		case from == 0 && to == pageSize:
			n.live.pages[i] = page{}
		case n.live.pages[i].data != nil:
			p, _ := n.writablePage(i)
			clear(p.data[from:to])
		}
	}
}

// seekDataOrHole does SEEK_HOLE if hole is true, else SEEK_DATA.
func (n *inode) seekDataOrHole(off int64, hole bool) (int64, syscall.Errno) {
	if off >= n.live.size {
		return 0, syscall.ENXIO
	}
	for i := off / pageSize; i < int64(pageCount(n.live.size)); i++ {
		data := i < int64(len(n.live.pages)) && n.live.pages[i].data != nil && n.live.pages[i] != unwritten
		if data != hole {
			return max(off, i*pageSize), 0
		}
	}
	if hole {
		return n.live.size, 0
	}
	return 0, syscall.ENXIO
}

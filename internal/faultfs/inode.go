package faultfs

import (
	"maps"
	"slices"
	"syscall"
	"time"
)

const pageSize = 4096

// page is some bytes of a file; nil is a hole. A frozen one is on disk too, and
// is copied before it changes.
type page struct {
	data   *[pageSize]byte
	frozen bool
}

// unwritten is what fallocate reserves.
var unwritten = page{new([pageSize]byte), true}

// state is what can differ between an inode as it is and as it is on disk.
type state struct {
	mode, uid, gid, rdev uint32 // mode with the type
	atime, mtime, ctime  time.Time
	xattrs               map[string][]byte

	size    int64             // of a file
	pages   []page            // of a file, as many as size needs at the most
	entries map[string]uint64 // of a directory
}

// inode numbers are not used again.
type inode struct {
	ino    uint64
	btime  time.Time
	target string // of a symbolic link

	live state
	disk state // of a new inode: empty

	nlink   uint32
	lookups uint64 // the kernel's, which gives them back when it forgets the inode
	opens   int

	parent uint64 // where it was last given a name, for messages
	name   string
}

func (n *inode) kind() uint32 { return n.live.mode & syscall.S_IFMT }
func (n *inode) isDir() bool  { return n.kind() == syscall.S_IFDIR }

// changed is called for what changes an inode but not its data.
func (n *inode) changed() { n.live.ctime = time.Now() }

// modified is called for what changes data or entries.
func (n *inode) modified() {
	n.live.mtime = time.Now()
	n.live.ctime = n.live.mtime
}

// syncData is fdatasync.
func (n *inode) syncData() {
	for i := range n.live.pages {
		n.live.pages[i].frozen = true
	}
	n.disk.size, n.disk.pages = n.live.size, slices.Clone(n.live.pages)
}

// sync is fsync.
func (n *inode) sync() {
	n.syncData()
	n.disk = n.live
	n.disk.pages = slices.Clone(n.live.pages)
	n.disk.entries = maps.Clone(n.live.entries)
	n.disk.xattrs = maps.Clone(n.live.xattrs) // values are never changed in place
}

func pagesOf(size int64) int { return int((size + pageSize - 1) / pageSize) }

// allocated is in bytes.
func (n *inode) allocated() (bytes int64) {
	for _, p := range n.live.pages {
		if p.data != nil {
			bytes += pageSize
		}
	}
	return bytes
}

// readAt fills buf from off on and returns how much there was.
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

// writable is page i, allocated and not shared with the disk; fresh says that it
// was a hole.
func (n *inode) writable(i int64) (p *page, fresh bool) {
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

// holes counts the pages of n bytes at off that writing would allocate.
func (n *inode) holes(off, length int64) (count int64) {
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
		p, _ := n.writable(i)
		at += copy(p.data[in:], data[at:])
	}
	n.live.size = max(n.live.size, off+int64(len(data)))
}

// truncate sets the length and makes zeros of what is cut off a page.
func (n *inode) truncate(size int64) {
	if size < n.live.size {
		n.live.pages = n.live.pages[:min(len(n.live.pages), pagesOf(size))]
		if in := size % pageSize; in > 0 && pagesOf(size) == len(n.live.pages) {
			if last := n.live.pages[len(n.live.pages)-1]; last.data != nil {
				p, _ := n.writable(int64(len(n.live.pages) - 1))
				clear(p.data[in:])
			}
		}
	}
	n.live.size = size
}

// punch makes a hole of whole pages, and zeros of parts.
func (n *inode) punch(off, length int64) {
	for i := off / pageSize; i*pageSize < off+length && i < int64(len(n.live.pages)); i++ {
		from, to := max(off-i*pageSize, 0), min(off+length-i*pageSize, pageSize)
		switch {
		case from == 0 && to == pageSize:
			n.live.pages[i] = page{}
		case n.live.pages[i].data != nil:
			p, _ := n.writable(i)
			clear(p.data[from:to])
		}
	}
}

// seek is SEEK_DATA, or with hole SEEK_HOLE.
func (n *inode) seek(off int64, hole bool) (int64, syscall.Errno) {
	if off >= n.live.size {
		return 0, syscall.ENXIO
	}
	for i := off / pageSize; i < int64(pagesOf(n.live.size)); i++ {
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

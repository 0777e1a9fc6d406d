package testkit

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// CompareOptions are what may differ. The zero value is what a copy that keeps
// everything must stand up to.
type CompareOptions struct {
	// SparseSlack is how many bytes more than the original the copy of a sparse
	// file may allocate, besides one block of its file system per extent of
	// data. 0 means 64 KiB, negative that allocation is not compared.
	SparseSlack int64
}

// Compare says in which ways the tree or file b is not a full copy of a, each in
// a line with the path and both values. No line means that these are the same:
// names, types, the twelve mode bits, owner and group (when root), mtimes to
// the nanosecond, sizes, contents, link targets, device numbers, which names are
// hard links of each other, and the extended attributes in user.*, trusted.*
// (when root), security.capability and the POSIX ACLs; no name outside of b is
// a hard link into it; and holes are still holes. What cannot be read is a line
// too.
func Compare(a, b string) []string { return CompareWith(CompareOptions{}, a, b) }

// CompareWith is [Compare] with options.
func CompareWith(opt CompareOptions, a, b string) []string {
	if opt.SparseSlack == 0 {
		opt.SparseSlack = 64 << 10
	}
	c := comparison{
		opt: opt,
		toB: map[inode]inode{},
		toA: map[inode]inode{},
		inA: map[inode]*links{},
		inB: map[inode]*links{},
	}
	c.entries(".", root(a), root(b))
	c.strangers()
	return c.lines
}

// Same is an error of the test for each line of [Compare].
func Same(t testing.TB, a, b string) {
	t.Helper()
	for _, line := range Compare(a, b) {
		t.Errorf("%s and its copy: %s", a, line)
	}
}

type inode struct{ dev, ino uint64 }

// links are the names of one inode that were met.
type links struct {
	first string
	count uint64
	nlink uint64
}

type comparison struct {
	opt      CompareOptions
	toB, toA map[inode]inode // how inodes were paired, when first met
	inA, inB map[inode]*links
	lines    []string
}

func (c *comparison) report(path, what string, a, b any) {
	c.lines = append(c.lines, fmt.Sprintf("%s: %s: %v, copy %v", strconv.Quote(path), what, a, b))
}

// failed reports the first error, if there is one.
func (c *comparison) failed(path, op string, errs ...error) bool {
	for _, err := range errs {
		if err != nil {
			c.lines = append(c.lines, fmt.Sprintf("%s: cannot compare: %s: %v", strconv.Quote(path), op, err))
			return true
		}
	}
	return false
}

func (c *comparison) entries(path string, a, b entry) {
	sa, errA := a.stat()
	sb, errB := b.stat()
	if c.failed(path, "stat", errA, errB) {
		return
	}
	if kind(sa) != kind(sb) {
		c.report(path, "type", kind(sa), kind(sb))
		return
	}
	if kind(sa) != "directory" && !c.pair(path, sa, sb) {
		return // other names of what was compared already
	}
	c.stats(path, sa, sb)
	c.xattrs(path, a, b)
	switch kind(sa) {
	case "directory":
		c.directories(path, a, b)
	case "regular file":
		c.files(path, a, b, sa, sb)
	case "symbolic link":
		c.targets(path, a, b)
	}
}

func kind(st unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "regular file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	}
	return "block device"
}

// pair takes two inodes for each other, and reports where an earlier name paired
// one of them with another. It is false for a pair that is known.
func (c *comparison) pair(path string, sa, sb unix.Stat_t) bool {
	a, b := met(c.inA, path, sa), met(c.inB, path, sb)
	wasB, knownA := c.toB[a]
	wasA, knownB := c.toA[b]
	switch {
	case knownA && knownB && wasB == b && wasA == a:
		return false
	case knownA || knownB:
		c.report(path, "hard link", linkedWith(c.inA[a], path), linkedWith(c.inB[b], path))
	}
	if !knownA {
		c.toB[a] = b
	}
	if !knownB {
		c.toA[b] = a
	}
	return true
}

func met(seen map[inode]*links, path string, st unix.Stat_t) inode {
	i := inode{st.Dev, st.Ino}
	if seen[i] == nil {
		seen[i] = &links{first: path, nlink: uint64(st.Nlink)}
	}
	seen[i].count++
	return i
}

func linkedWith(l *links, path string) string {
	if l.first == path {
		return "none so far"
	}
	return "with " + strconv.Quote(l.first)
}

// strangers reports files of b that have a name elsewhere.
func (c *comparison) strangers() {
	byName := func(a, b *links) int { return strings.Compare(a.first, b.first) }
	for _, l := range slices.SortedFunc(maps.Values(c.inB), byName) {
		if l.nlink != l.count {
			c.report(l.first, "number of links", fmt.Sprint(l.count, " in the tree"), l.nlink)
		}
	}
}

func (c *comparison) stats(path string, a, b unix.Stat_t) {
	if a.Mode&0o7777 != b.Mode&0o7777 {
		c.report(path, "mode", octal(a.Mode), octal(b.Mode))
	}
	if isRoot() && (a.Uid != b.Uid || a.Gid != b.Gid) {
		c.report(path, "owner", fmt.Sprint(a.Uid, ":", a.Gid), fmt.Sprint(b.Uid, ":", b.Gid))
	}
	if a.Mtim != b.Mtim {
		c.report(path, "mtime", clock(a.Mtim), clock(b.Mtim))
	}
	if a.Rdev != b.Rdev {
		c.report(path, "device", numbers(a.Rdev), numbers(b.Rdev))
	}
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func clock(ts unix.Timespec) string {
	return time.Unix(ts.Unix()).UTC().Format(time.RFC3339Nano)
}

func numbers(device uint64) string {
	return fmt.Sprint(unix.Major(device), ":", unix.Minor(device))
}

func (c *comparison) xattrs(path string, a, b entry) {
	inA, errA := a.xattrs(carried)
	inB, errB := b.xattrs(carried)
	if c.failed(path, "xattrs", errA, errB) {
		return
	}
	for _, attr := range union(slices.Sorted(maps.Keys(inA)), slices.Sorted(maps.Keys(inB))) {
		va, okA := inA[attr]
		vb, okB := inB[attr]
		if okA != okB || va != vb {
			c.report(path, "xattr "+attr, quoted(va, okA), quoted(vb, okB))
		}
	}
}

// carried leaves out what file systems make up themselves: XFS shows its ACLs
// a second time, to root, as trusted.SGI_ACL_FILE and trusted.SGI_ACL_DEFAULT.
func carried(attr string) bool {
	switch {
	case strings.HasPrefix(attr, "trusted."):
		return isRoot() && !strings.HasPrefix(attr, "trusted.SGI_ACL_")
	case attr == "security.capability", attr == AccessACL, attr == DefaultACL:
		return true
	}
	return strings.HasPrefix(attr, "user.")
}

func quoted(value string, there bool) string {
	switch {
	case !there:
		return "none"
	case len(value) > 64:
		return fmt.Sprintf("%q… (%d bytes)", value[:64], len(value))
	}
	return strconv.Quote(value)
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func (c *comparison) directories(at string, a, b entry) {
	da, inA, err := a.list()
	if c.failed(at, "list the original", err) {
		return
	}
	defer da.Close()
	db, inB, err := b.list()
	if c.failed(at, "list the copy", err) {
		return
	}
	defer db.Close()
	fdA, fdB := int(da.Fd()), int(db.Fd())
	for _, name := range union(inA, inB) {
		child := path.Join(at, name)
		_, okA := slices.BinarySearch(inA, name)
		_, okB := slices.BinarySearch(inB, name)
		if !okA || !okB {
			c.report(child, "entry", present(okA), present(okB))
			continue
		}
		c.entries(child, entry{fdA, name}, entry{fdB, name})
	}
}

func present(ok bool) string {
	if ok {
		return "present"
	}
	return "missing"
}

func (c *comparison) targets(path string, a, b entry) {
	ta, errA := a.target()
	tb, errB := b.target()
	if !c.failed(path, "readlink", errA, errB) && ta != tb {
		c.report(path, "target", strconv.Quote(ta), strconv.Quote(tb))
	}
}

func (c *comparison) files(path string, a, b entry, sa, sb unix.Stat_t) {
	fa, err := a.open(unix.O_RDONLY, 0)
	if c.failed(path, "open the original", err) {
		return
	}
	defer fa.Close()
	fb, err := b.open(unix.O_RDONLY, 0)
	if c.failed(path, "open the copy", err) {
		return
	}
	defer fb.Close()
	if sa.Size != sb.Size {
		c.report(path, "size", sa.Size, sb.Size)
	}
	c.contents(path, fa, fb)
	if sa.Size == sb.Size && allocated(sa) < sa.Size && c.opt.SparseSlack >= 0 {
		c.holes(path, fa, fb)
	}
}

// contents compares as far as both files reach. It reads all of both, holes
// too: that they are holes is for another check to believe.
func (c *comparison) contents(path string, a, b io.Reader) {
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); ; {
		nA, errA := io.ReadFull(a, bufA)
		nB, errB := io.ReadFull(b, bufB)
		if c.failed(path, "read", notEOF(errA), notEOF(errB)) {
			return
		}
		n := min(nA, nB)
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			i := firstDifference(bufA[:n], bufB[:n])
			c.report(path, fmt.Sprint("contents at byte ", off+int64(i)), bufA[i], bufB[i])
			return
		}
		if n < len(bufA) {
			return
		}
		off += int64(n)
	}
}

func notEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// holes wants the copy to allocate no more than the original, give or take its
// own blocks: a block that holds one byte of data is all data.
func (c *comparison) holes(path string, a, b *os.File) {
	var sa, sb unix.Stat_t
	var fs unix.Statfs_t
	errA := unix.Fstat(int(a.Fd()), &sa)
	errB := unix.Fstat(int(b.Fd()), &sb)
	errFS := unix.Fstatfs(int(b.Fd()), &fs)
	extents, err := countExtents(a, sa.Size)
	if c.failed(path, "look for holes", errA, errB, errFS, err) {
		return
	}
	limit := allocated(sa) + c.opt.SparseSlack + int64(extents)*int64(fs.Bsize)
	if allocated(sb) > limit {
		c.report(path, "bytes allocated", fmt.Sprint(allocated(sa), " (at most ", limit, ")"), allocated(sb))
	}
}

func allocated(st unix.Stat_t) int64 { return st.Blocks * 512 }

func countExtents(f *os.File, size int64) (n int, err error) {
	fd := int(f.Fd())
	for off := int64(0); off < size; n++ {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if off, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil {
			return n, err
		}
	}
	return n, nil
}

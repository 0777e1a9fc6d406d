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

// CompareOptions allow differences. A copy that keeps everything passes with the zero
// value.
type CompareOptions struct {
	// SparseSlack is how many bytes more than the original the copy of a sparse file
	// may take, besides one block of its file system for each extent of data. 0 means
	// 64 KiB. If it is negative, the space is not compared.
	SparseSlack int64
}

// CompareTrees returns the differences between the tree or file a and its copy b, one line for
// each, with the path and both values. It compares
//
//   - names, types, the twelve mode bits, owner and group (if root), mtimes to the
//     nanosecond, sizes, contents, link targets and device numbers;
//   - the groups of names that are hard links of each other, and that no name outside
//     of b is a hard link into it;
//   - the extended attributes in user.*, trusted.* (if root), security.capability and
//     the POSIX ACLs;
//   - holes: they must still be holes.
//
// An entry that cannot be read is a difference too.
func CompareTrees(a, b string) []string { return CompareTreesWith(CompareOptions{}, a, b) }

// CompareTreesWith is [Compare] with options.
func CompareTreesWith(opt CompareOptions, a, b string) []string {
	if opt.SparseSlack == 0 {
		opt.SparseSlack = 64 << 10
	}
	c := comparison{
		opt: opt,
		toB: map[inode]inode{},
		toA: map[inode]inode{},
		inA: map[inode]*linkGroup{},
		inB: map[inode]*linkGroup{},
	}
	c.compareEntries(".", rootEntry(a), rootEntry(b))
	c.reportOutsideLinks()
	return c.lines
}

// ExpectSame reports each line of [Compare] as an error of the test.
func ExpectSame(t testing.TB, a, b string) {
	t.Helper()
	for _, line := range CompareTrees(a, b) {
		t.Errorf("%s differs from its copy: %s", a, line)
	}
}

type inode struct{ dev, ino uint64 }

// linkGroup counts the names of one inode.
type linkGroup struct {
	first string // the first name found
	count uint64 // names found
	nlink uint64 // names that the inode has
}

type comparison struct {
	opt      CompareOptions
	toB, toA map[inode]inode // the pairs of inodes, made when one was first found
	inA, inB map[inode]*linkGroup
	lines    []string
}

func (c *comparison) reportDifference(path, what string, a, b any) {
	c.lines = append(c.lines, fmt.Sprintf("%s: %s: %v, copy %v", strconv.Quote(path), what, a, b))
}

// reportError reports the first error that is not nil. It returns false if all are nil.
func (c *comparison) reportError(path, op string, errs ...error) bool {
	for _, err := range errs {
		if err != nil {
			c.lines = append(c.lines, fmt.Sprintf("%s: cannot compare: %s: %v", strconv.Quote(path), op, err))
			return true
		}
	}
	return false
}

func (c *comparison) compareEntries(path string, a, b entry) {
	sa, errA := a.stat()
	sb, errB := b.stat()
	if c.reportError(path, "stat", errA, errB) {
		return
	}
	if typeName(sa) != typeName(sb) {
		c.reportDifference(path, "type", typeName(sa), typeName(sb))
		return
	}
	if typeName(sa) != "directory" && !c.pairInodes(path, sa, sb) {
		return // other names of a file that was compared before
	}
	c.compareStats(path, sa, sb)
	c.compareXattrs(path, a, b)
	switch typeName(sa) {
	case "directory":
		c.compareDirs(path, a, b)
	case "regular file":
		c.compareFiles(path, a, b, sa, sb)
	case "symbolic link":
		c.compareTargets(path, a, b)
	}
}

func typeName(st unix.Stat_t) string {
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

// pairInodes pairs two inodes, and reports a difference if an earlier name has paired one
// of them with another inode. It returns false if the pair is known.
func (c *comparison) pairInodes(path string, sa, sb unix.Stat_t) bool {
	a, b := addLink(c.inA, path, sa), addLink(c.inB, path, sb)
	wasB, knownA := c.toB[a]
	wasA, knownB := c.toA[b]
	switch {
	case knownA && knownB && wasB == b && wasA == a:
		return false
	case knownA || knownB:
		c.reportDifference(path, "hard link", linkText(c.inA[a], path), linkText(c.inB[b], path))
	}
	if !knownA {
		c.toB[a] = b
	}
	if !knownB {
		c.toA[b] = a
	}
	return true
}

func addLink(seen map[inode]*linkGroup, path string, st unix.Stat_t) inode {
	i := inode{st.Dev, st.Ino}
	if seen[i] == nil {
		seen[i] = &linkGroup{first: path, nlink: uint64(st.Nlink)}
	}
	seen[i].count++
	return i
}

func linkText(l *linkGroup, path string) string {
	if l.first == path {
		return "none so far"
	}
	return "with " + strconv.Quote(l.first)
}

// reportOutsideLinks reports the files of b that have a name outside of b.
func (c *comparison) reportOutsideLinks() {
	byName := func(a, b *linkGroup) int { return strings.Compare(a.first, b.first) }
	for _, l := range slices.SortedFunc(maps.Values(c.inB), byName) {
		if l.nlink != l.count {
			c.reportDifference(l.first, "number of links", fmt.Sprint(l.count, " in the tree"), l.nlink)
		}
	}
}

func (c *comparison) compareStats(path string, a, b unix.Stat_t) {
	if a.Mode&0o7777 != b.Mode&0o7777 {
		c.reportDifference(path, "mode", modeText(a.Mode), modeText(b.Mode))
	}
	if isRoot() && (a.Uid != b.Uid || a.Gid != b.Gid) {
		c.reportDifference(path, "owner", fmt.Sprint(a.Uid, ":", a.Gid), fmt.Sprint(b.Uid, ":", b.Gid))
	}
	if a.Mtim != b.Mtim {
		c.reportDifference(path, "mtime", timeText(a.Mtim), timeText(b.Mtim))
	}
	if a.Rdev != b.Rdev {
		c.reportDifference(path, "device", deviceText(a.Rdev), deviceText(b.Rdev))
	}
}

func modeText(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func timeText(ts unix.Timespec) string {
	return time.Unix(ts.Unix()).UTC().Format(time.RFC3339Nano)
}

func deviceText(device uint64) string {
	return fmt.Sprint(unix.Major(device), ":", unix.Minor(device))
}

func (c *comparison) compareXattrs(path string, a, b entry) {
	inA, errA := a.xattrs(isComparedXattr)
	inB, errB := b.xattrs(isComparedXattr)
	if c.reportError(path, "xattrs", errA, errB) {
		return
	}
	for _, attr := range sortedUnion(slices.Sorted(maps.Keys(inA)), slices.Sorted(maps.Keys(inB))) {
		va, okA := inA[attr]
		vb, okB := inB[attr]
		if okA != okB || va != vb {
			c.reportDifference(path, "xattr "+attr, valueText(va, okA), valueText(vb, okB))
		}
	}
}

// isComparedXattr reports whether an extended attribute is compared. It leaves out those
// that a file system itself adds: XFS lists its ACLs a second time, for root, as
// trusted.SGI_ACL_FILE and trusted.SGI_ACL_DEFAULT.
func isComparedXattr(attr string) bool {
	switch {
	case strings.HasPrefix(attr, "trusted."):
		return isRoot() && !strings.HasPrefix(attr, "trusted.SGI_ACL_")
	case attr == "security.capability", attr == AccessACL, attr == DefaultACL:
		return true
	}
	return strings.HasPrefix(attr, "user.")
}

func valueText(value string, there bool) string {
	switch {
	case !there:
		return "none"
	case len(value) > 64:
		return fmt.Sprintf("%q… (%d bytes)", value[:64], len(value))
	}
	return strconv.Quote(value)
}

func sortedUnion(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func (c *comparison) compareDirs(at string, a, b entry) {
	da, inA, err := a.list()
	if c.reportError(at, "list the original", err) {
		return
	}
	defer da.Close()
	db, inB, err := b.list()
	if c.reportError(at, "list the copy", err) {
		return
	}
	defer db.Close()
	fdA, fdB := int(da.Fd()), int(db.Fd())
	for _, name := range sortedUnion(inA, inB) {
		child := path.Join(at, name)
		_, okA := slices.BinarySearch(inA, name)
		_, okB := slices.BinarySearch(inB, name)
		if !okA || !okB {
			c.reportDifference(child, "entry", presenceText(okA), presenceText(okB))
			continue
		}
		c.compareEntries(child, entry{fdA, name}, entry{fdB, name})
	}
}

func presenceText(ok bool) string {
	if ok {
		return "present"
	}
	return "missing"
}

func (c *comparison) compareTargets(path string, a, b entry) {
	ta, errA := a.target()
	tb, errB := b.target()
	if !c.reportError(path, "readlink", errA, errB) && ta != tb {
		c.reportDifference(path, "target", strconv.Quote(ta), strconv.Quote(tb))
	}
}

func (c *comparison) compareFiles(path string, a, b entry, sa, sb unix.Stat_t) {
	fa, err := a.open(unix.O_RDONLY, 0)
	if c.reportError(path, "open the original", err) {
		return
	}
	defer fa.Close()
	fb, err := b.open(unix.O_RDONLY, 0)
	if c.reportError(path, "open the copy", err) {
		return
	}
	defer fb.Close()
	if sa.Size != sb.Size {
		c.reportDifference(path, "size", sa.Size, sb.Size)
	}
	c.compareContents(path, fa, fb)
	if sa.Size == sb.Size && allocatedBytes(sa) < sa.Size && c.opt.SparseSlack >= 0 {
		c.compareHoles(path, fa, fb)
	}
}

// compareContents compares the bytes up to the end of the shorter file. It reads holes
// too, so it does not depend on the check of holes.
func (c *comparison) compareContents(path string, a, b io.Reader) {
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); ; {
		nA, errA := io.ReadFull(a, bufA)
		nB, errB := io.ReadFull(b, bufB)
		if c.reportError(path, "read", ignoreEOF(errA), ignoreEOF(errB)) {
			return
		}
		n := min(nA, nB)
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			i := firstDifference(bufA[:n], bufB[:n])
			c.reportDifference(path, fmt.Sprint("contents at byte ", off+int64(i)), bufA[i], bufB[i])
			return
		}
		if n < len(bufA) {
			return
		}
		off += int64(n)
	}
}

func ignoreEOF(err error) error {
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

// compareHoles reports a copy that takes more space than the original. The copy may have
// larger blocks, and a block with one byte of data is all data.
func (c *comparison) compareHoles(path string, a, b *os.File) {
	var sa, sb unix.Stat_t
	var fs unix.Statfs_t
	errA := unix.Fstat(int(a.Fd()), &sa)
	errB := unix.Fstat(int(b.Fd()), &sb)
	errFS := unix.Fstatfs(int(b.Fd()), &fs)
	extents, err := countExtents(a, sa.Size)
	if c.reportError(path, "look for holes", errA, errB, errFS, err) {
		return
	}
	limit := allocatedBytes(sa) + c.opt.SparseSlack + int64(extents)*int64(fs.Bsize)
	if allocatedBytes(sb) > limit {
		c.reportDifference(path, "bytes allocated", fmt.Sprint(allocatedBytes(sa), " (at most ", limit, ")"), allocatedBytes(sb))
	}
}

func allocatedBytes(st unix.Stat_t) int64 { return st.Blocks * 512 }

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

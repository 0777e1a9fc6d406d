package testkit

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Features are the attributes that a file system keeps for the user of the test.
type Features struct {
	UserXattrs    bool // user.*, on files and directories
	TrustedXattrs bool // trusted.*, on links too
	ACLs          bool
	Capabilities  bool // security.capability
	Owners        bool // any owner and group, any mode
}

// RandomOptions shape a random tree.
type RandomOptions struct {
	// Features limits the attributes of the tree. Nil means Probe(t, root). A test that
	// copies between file systems needs a Probe of both.
	Features *Features
	// Scale multiplies the number of directories and small files. 0 means 1: about 200
	// entries and 45 MiB in all, most of them odd in some way.
	Scale int
	// Shallow leaves out the path longer than PATH_MAX, which cp, rsync and others
	// cannot copy.
	Shallow bool
	// Special adds FIFOs, a socket and, for root, a device.
	Special bool
}

// RandomTree builds a tree in the directory root. It has every kind of entry, name, size and
// attribute that a copy must keep. The same seed, options and features make the same
// tree on every file system and with every umask.
func RandomTree(t testing.TB, root string, seed uint64, opt RandomOptions) {
	t.Helper()
	if opt.Features == nil {
		has := ProbeFeatures(t, root)
		opt.Features = &has
	}
	MakeRemovable(t, root)
	Apply(t, root, randomSteps(seed, opt)...)
}

// ProbeFeatures tries out which attributes all of the directories keep.
func ProbeFeatures(t testing.TB, dirs ...string) Features {
	t.Helper()
	has := Features{true, true, true, true, isRoot()}
	for _, dir := range dirs {
		probe, err := os.MkdirTemp(dir, "probe")
		if err != nil {
			t.Fatal(err)
		}
		try := func(step Step) bool { return step(probe) == nil }
		has.UserXattrs = has.UserXattrs && try(TextFile("file", "")) && try(Xattr("file", "user.probe", "x"))
		has.TrustedXattrs = has.TrustedXattrs && try(Xattr(".", "trusted.probe", "x"))
		has.ACLs = has.ACLs && try(ACL(".", AccessACL, 1, 4)) && try(ACL(".", DefaultACL, 1, 4))
		has.Capabilities = has.Capabilities && try(TextFile("program", "")) &&
			try(Xattr("program", "security.capability", CapNetRaw))
		if err := os.RemoveAll(probe); err != nil {
			t.Fatal(err)
		}
	}
	return has
}

// MakeRemovable makes the directories under root writable at the end of the test, so that
// the temporary directory can be removed. Root needs no such help.
func MakeRemovable(t testing.TB, root string) {
	t.Cleanup(func() {
		if !isRoot() {
			makeWritable(entry{unix.AT_FDCWD, root})
		}
	})
}

func makeWritable(e entry) {
	if st, err := e.stat(); err != nil || typeName(st) != "directory" {
		return
	}
	_ = unix.Fchmodat(e.dir, e.name, 0o700, 0)
	dir, names, err := e.list()
	if err != nil {
		return
	}
	defer dir.Close()
	for _, name := range names {
		makeWritable(entry{int(dir.Fd()), name})
	}
}

// treeBuilder collects the steps. It draws every random number, even if the file system
// has no use for it. So the trees of two file systems differ only in attributes that one
// of them lacks.
type treeBuilder struct {
	rng      *rand.Rand
	has      Features
	steps    []Step
	dirs     []string // directories that get more entries
	closed   []string // directories that get no more entries
	files    []string // regular files, each inode once
	symlinks []string
	taken    map[string]bool
}

func randomSteps(seed uint64, opt RandomOptions) []Step {
	g := &treeBuilder{
		rng:   rand.New(rand.NewPCG(seed, seed)),
		has:   *opt.Features,
		dirs:  []string{"."},
		taken: map[string]bool{},
	}
	scale := max(opt.Scale, 1)
	g.addDirs(12 * scale)
	g.addOddNames()
	g.addSizes()
	g.addSmallFiles(40 * scale)
	g.addSparseFiles()
	if !opt.Shallow {
		g.addDeepPath()
	}
	g.addHardlinks()
	g.addSymlinks()
	if opt.Special {
		g.addSpecialFiles()
	}
	g.setFileAttributes()
	g.setSymlinkAttributes()
	g.setDirAttributes()
	return g.steps
}

func (g *treeBuilder) addSteps(steps ...Step) { g.steps = append(g.steps, steps...) }

func pickOne[T any](g *treeBuilder, from []T) T { return from[g.rng.IntN(len(from))] }

// freshPath returns a new path in a random directory, with this name if it is free.
func (g *treeBuilder) freshPath(name string) string {
	return g.freshPathIn(pickOne(g, g.dirs), name)
}

func (g *treeBuilder) freshPathIn(dir, name string) string {
	for n, stem := 2, name; g.taken[path.Join(dir, name)]; n++ {
		name = fmt.Sprint(stem[:min(len(stem), 240)], n)
	}
	g.taken[path.Join(dir, name)] = true
	return path.Join(dir, name)
}

func (g *treeBuilder) addFile(name string, step Step) {
	g.files = append(g.files, name)
	g.addSteps(step)
}

// addDirs adds a chain of directories, and then more of them anywhere.
func (g *treeBuilder) addDirs(n int) {
	for i := range n {
		parent := pickOne(g, g.dirs)
		if i < 5 {
			parent = g.dirs[len(g.dirs)-1]
		}
		dir := g.freshPathIn(parent, pickOne(g, oddNames()))
		g.dirs = append(g.dirs, dir)
		g.addSteps(Dir(dir, 0o755))
	}
	empty := g.freshPath("empty")
	g.closed = append(g.closed, empty)
	g.addSteps(Dir(empty, 0o755))
}

// oddNames returns names that have each broken a tool once.
func oddNames() []string {
	return []string{
		"plain", "two words", " leading", "trailing ", "tab\there", "line\nfeed", "carriage\rreturn",
		"\n", `back\slash`, `\n`, `\`, `'single'`, `"double"`, "`back`", "-", "-rf", "--help", "~", "*", "?",
		"[a-z]", "$HOME", "%s%n", "#hash", "!bang", ";semi", "&", "|", "stdin", "ümläut", "u\u0308nnormalised",
		"日本語", "🗄", "\xff\xfe", "half\xc3", "\x01\x1b[31m\x7f", ".hidden", "..two", "...", ".lock", "lost+found",
		strings.Repeat("x", 255), strings.Repeat("é", 127) + "x", "CON.", "a:b", "name.lock", "manifest",
	}
}

// addOddNames adds an entry for each odd name.
func (g *treeBuilder) addOddNames() {
	for _, odd := range oddNames() {
		name := g.freshPath(odd)
		switch g.rng.IntN(4) {
		case 0:
			g.symlinks = append(g.symlinks, name)
			g.addSteps(Symlink(odd, name))
		case 1:
			g.closed = append(g.closed, name)
			g.addSteps(Dir(name, 0o755))
		default:
			g.addFile(name, TextFile(name, odd))
		}
	}
}

// addSizes adds files with sizes around those of sectors, pages, I/O requests (1 MiB) and
// blocks (4 MiB).
func (g *treeBuilder) addSizes() {
	const block = 4 << 20
	for _, size := range []int64{
		0, 1, 511, 512, 513, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1,
		block - 1, block, block + 1, 3*block + g.rng.Int64N(block-1) + 1,
	} {
		name := g.freshPath(fmt.Sprint("size ", size))
		g.addFile(name, File(name, size, g.rng.Uint64()))
	}
}

func (g *treeBuilder) addSmallFiles(n int) {
	for i := range n {
		name := g.freshPath(fmt.Sprintf("small.%d", i))
		g.addFile(name, File(name, g.rng.Int64N(20_000), g.rng.Uint64()))
	}
}

// addSparseFiles adds files with holes at places where a copy easily loses them.
func (g *treeBuilder) addSparseFiles() {
	const block, page = 4 << 20, 4 << 10
	at := func() int64 { return 1<<20 + g.rng.Int64N(block) } // aligned to nothing
	for _, f := range []struct {
		name    string
		size    int64
		extents []Extent
	}{
		{"start", 2*block + at(), []Extent{{2 * block, page}}},
		{"middle", 3 * block, []Extent{{0, page}, {3*block - page, page}}},
		{"end", 3*block + 17, []Extent{{0, block}}},
		{"all", 2*block + 1, nil},
		{"one byte", 1, nil},
		{"less than a page", page - 1, nil},
		{"last byte", 3 * block, []Extent{{3*block - 1, 1}}},
		{"unaligned", 4*block + 123, []Extent{{at(), 1}, {block + at(), 70_001}, {3*block - 5, 10}}},
		{"across blocks", 4 * block, []Extent{{block - page, 2 * page}, {3*block - 1, 2}}},
		{"many", 2 * block, extentsEvery(64<<10, page, 2*block)},
	} {
		name := g.freshPath("sparse " + f.name)
		g.addFile(name, Sparse(name, f.size, f.extents))
	}
}

func extentsEvery(step, length, size int64) (list []Extent) {
	for off := int64(0); off < size; off += 2 * step {
		list = append(list, Extent{off, length})
	}
	return list
}

// addDeepPath adds one path of more than PATH_MAX bytes.
func (g *treeBuilder) addDeepPath() {
	dir := g.freshPath("deep")
	g.addSteps(Dir(dir, 0o755))
	g.closed = append(g.closed, dir)
	for i := 0; len(dir) <= unix.PathMax; i++ {
		dir = path.Join(dir, fmt.Sprintf("%02d%s", i, strings.Repeat("d", 200+g.rng.IntN(50))))
		g.addSteps(Dir(dir, 0o755))
		g.closed = append(g.closed, dir)
	}
	file, link, empty := path.Join(dir, "file"), path.Join(dir, "link"), path.Join(dir, "empty")
	g.addFile(file, File(file, 5000, g.rng.Uint64()))
	g.addSteps(Symlink("../file", link), Dir(empty, 0o755), Hardlink(file, path.Join(dir, "hard link")))
	g.symlinks = append(g.symlinks, link)
	g.closed = append(g.closed, empty)
}

// addHardlinks adds groups of two and three names, in one directory and in several, to
// files of all sizes.
func (g *treeBuilder) addHardlinks() {
	for i, size := range []int64{0, 100, 4<<20 + 1, 0, 5000} {
		name := g.freshPath(fmt.Sprint("linked ", size))
		same := g.freshPathIn(path.Dir(name), "other name")
		g.addFile(name, File(name, size, g.rng.Uint64()))
		g.addSteps(Hardlink(name, same))
		if i%2 == 0 {
			g.addSteps(Hardlink(name, g.freshPath("third name")))
		}
	}
	for range 6 {
		g.addSteps(Hardlink(pickOne(g, g.files), g.freshPath("another name")))
	}
}

// addSymlinks adds symbolic links. A target has at most 1023 bytes, the limit of XFS.
func (g *treeBuilder) addSymlinks() {
	for i, target := range []string{
		"nothing here", "/absolute/dangling", "/usr", "../../../../../../../..", "../outside", ".", "..", "./.",
		"line\nfeed", "\xff", "-", strings.Repeat("long/", 204) + "abc", "a//b/", "symlink 12",
	} {
		g.addSymlink(target, g.freshPath(fmt.Sprint("symlink ", i)))
	}
	for _, to := range []string{pickOne(g, g.files), pickOne(g, g.files), pickOne(g, g.dirs), pickOne(g, g.symlinks)} {
		name := g.freshPath("symlink inside")
		target := strings.Repeat("../", strings.Count(name, "/")) + to
		g.addSymlink(target[:min(len(target), 1023)], name)
	}
	self := g.freshPath("itself")
	g.addSymlink(path.Base(self), self)
	g.addSteps(Hardlink(self, g.freshPath("hard link of a symbolic one")))
}

func (g *treeBuilder) addSymlink(target, name string) {
	g.symlinks = append(g.symlinks, name)
	g.addSteps(Symlink(target, name))
}

func (g *treeBuilder) addSpecialFiles() {
	fifo, socket, device := g.freshPath("fifo"), g.freshPath("socket"), g.freshPath("device")
	g.addSteps(FIFO(fifo), Socket(socket))
	g.setTimes(fifo)
	g.setTimes(socket)
	if g.has.Owners {
		g.addSteps(Device(device, 1, 3)) // null
		g.addSteps(Times(device, time.Unix(1, 0), time.Unix(2, 3)))
	}
}

// setFileAttributes gives most files several attributes, and uses each attribute. The
// order matters: user.* needs write permission, chown clears setuid and capabilities, so
// a capability comes after both, and times come last.
func (g *treeBuilder) setFileAttributes() {
	g.rng.Shuffle(len(g.files), func(i, j int) { g.files[i], g.files[j] = g.files[j], g.files[i] })
	modes := g.fileModes()
	for i, name := range g.files {
		g.setXattrs(i, name)
		g.setOwner(name)
		g.addSteps(Chmod(name, modes[i%len(modes)]))
		if uid := g.randomID(); i%7 == 0 && g.has.ACLs {
			g.addSteps(ACL(name, AccessACL, uid, 6))
		}
		if i%10 == 0 && g.has.Capabilities {
			g.addSteps(Xattr(name, "security.capability", CapNetRaw))
		}
		g.setTimes(name)
	}
}

// fileModes returns modes for files. Without root, all of them let the owner read.
func (g *treeBuilder) fileModes() []uint32 {
	modes := []uint32{0o644, 0o400, 0o444, 0o600, 0o755, 0o555, 0o777, 0o640}
	if g.has.Owners {
		modes = append(modes, 0, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o2644, 0o111, 0o200)
	}
	return modes
}

func (g *treeBuilder) setSymlinkAttributes() {
	for i, name := range g.symlinks {
		g.setOwner(name)
		if i%3 == 0 && g.has.TrustedXattrs {
			g.addSteps(Xattr(name, "trusted.testkit", fmt.Sprint(i)))
		}
		g.setTimes(name)
	}
}

// setDirAttributes goes from the deepest directory up, because the mode of a directory
// may keep out a user that is not root.
func (g *treeBuilder) setDirAttributes() {
	modes := []uint32{0o555, 0o755, 0o700, 0o500, 0o777, 0o1777}
	if g.has.Owners {
		modes = append(modes, 0, 0o2755, 0o3777, 0o7755, 0o4755, 0o111)
	}
	dirs := slices.Concat(g.dirs, g.closed)
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(pathDepth(b), pathDepth(a)) })
	for i, name := range dirs {
		g.setXattrs(i, name)
		g.setOwner(name)
		g.addSteps(Chmod(name, modes[i%len(modes)]))
		if uid := g.randomID(); i%4 == 0 && g.has.ACLs {
			g.addSteps(ACL(name, DefaultACL, uid, 5))
		}
		if uid := g.randomID(); i%6 == 1 && g.has.ACLs {
			g.addSteps(ACL(name, AccessACL, uid, 7))
		}
		g.setTimes(name)
	}
}

// pathDepth returns the depth of an entry. The root itself is above all its entries.
func pathDepth(name string) int {
	if name == "." {
		return -1
	}
	return strings.Count(name, "/")
}

// setXattrs sets extended attributes of less than 4 KiB in all: ext4 takes no more for an
// inode.
func (g *treeBuilder) setXattrs(i int, name string) {
	values := []string{"", "text", "\x00binary\xff\x00", strings.Repeat("0123456789", 100)}
	attrs := []string{"user.a", "user.empty", "user.名", "user." + strings.Repeat("n", 200)}
	for n := g.rng.IntN(4); n >= 0; n-- {
		value := values[(i+n)%len(values)]
		if attr := attrs[n]; i%3 == 0 && g.has.UserXattrs {
			g.addSteps(Xattr(name, attr, value))
		}
		if i%8 == 0 && g.has.TrustedXattrs {
			g.addSteps(Xattr(name, "trusted.testkit", value))
		}
	}
}

func (g *treeBuilder) randomID() uint32 { return uint32(g.rng.IntN(70_000)) }

func (g *treeBuilder) setOwner(name string) {
	uid, gid := int(g.randomID()), int(g.randomID())
	if g.rng.IntN(2) == 0 && g.has.Owners {
		g.addSteps(Chown(name, uid, gid))
	}
}

// setTimes sets times with nanoseconds, anywhere in the years that every file system here
// can store, so before 1970 and after 2038 too. Some are at the edges of ranges.
func (g *treeBuilder) setTimes(name string) {
	from := time.Date(1902, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	to := time.Date(2446, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	at := func() time.Time { return time.Unix(from+g.rng.Int64N(to-from), g.rng.Int64N(1e9)) }
	atime, mtime := at(), at()
	edges := []time.Time{
		time.Unix(0, 0), time.Unix(0, 1), time.Unix(-1, 999_999_999), time.Unix(1<<31-1, 999_999_999),
		time.Unix(1<<31, 0), time.Unix(1<<32, 5), time.Unix(1_700_000_000, 0), time.Unix(from, 1),
	}
	if n := g.rng.IntN(2 * len(edges)); n < len(edges) {
		mtime = edges[n]
	}
	g.addSteps(Times(name, atime, mtime))
}

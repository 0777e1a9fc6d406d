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

// Features are what a file system keeps for whoever runs the test.
type Features struct {
	UserXattrs    bool // user.*, on files and directories
	TrustedXattrs bool // trusted.*, on links too
	ACLs          bool
	Capabilities  bool // security.capability
	Owners        bool // any owner and group, any mode
}

// RandomOptions shape a random tree.
type RandomOptions struct {
	// Features limits what the tree has. Nil means Probe(t, root). A test that
	// copies between file systems wants a Probe of both.
	Features *Features
	// Scale multiplies the number of ordinary small entries. 0 means 1: about
	// 200 entries and 45 MiB in all, most of them odd in some way.
	Scale int
	// Shallow leaves out the path beyond PATH_MAX, which cp, rsync and others
	// cannot copy.
	Shallow bool
	// Special adds FIFOs, a socket and, for root, a device.
	Special bool
}

// Random builds a tree in the directory root in which every kind of entry,
// name, size and attribute occurs that a copy has to carry. The same seed,
// options and features make the same tree, whatever the file system and the
// umask.
func Random(t testing.TB, root string, seed uint64, opt RandomOptions) {
	t.Helper()
	if opt.Features == nil {
		has := Probe(t, root)
		opt.Features = &has
	}
	Removable(t, root)
	Apply(t, root, randomSteps(seed, opt)...)
}

// Probe finds out what all the directories can keep, by trying.
func Probe(t testing.TB, dirs ...string) Features {
	t.Helper()
	has := Features{true, true, true, true, isRoot()}
	for _, dir := range dirs {
		probe, err := os.MkdirTemp(dir, "probe")
		if err != nil {
			t.Fatal(err)
		}
		try := func(step Step) bool { return step(probe) == nil }
		has.UserXattrs = has.UserXattrs && try(Content("file", "")) && try(Xattr("file", "user.probe", "x"))
		has.TrustedXattrs = has.TrustedXattrs && try(Xattr(".", "trusted.probe", "x"))
		has.ACLs = has.ACLs && try(ACL(".", AccessACL, 1, 4)) && try(ACL(".", DefaultACL, 1, 4))
		has.Capabilities = has.Capabilities && try(Content("program", "")) &&
			try(Xattr("program", "security.capability", CapNetRaw))
		if err := os.RemoveAll(probe); err != nil {
			t.Fatal(err)
		}
	}
	return has
}

// Removable makes the directories under root writable at the end of the test,
// so that the removal of a temporary directory gets through. Root needs no such
// help.
func Removable(t testing.TB, root string) {
	t.Cleanup(func() {
		if !isRoot() {
			unlock(entry{unix.AT_FDCWD, root})
		}
	})
}

func unlock(e entry) {
	if st, err := e.stat(); err != nil || kind(st) != "directory" {
		return
	}
	_ = unix.Fchmodat(e.dir, e.name, 0o700, 0)
	dir, names, err := e.list()
	if err != nil {
		return
	}
	defer dir.Close()
	for _, name := range names {
		unlock(entry{int(dir.Fd()), name})
	}
}

// grower collects the steps. Every random number is drawn whether the file
// system has a use for it or not, so that the trees of two file systems differ
// in what one of them lacks and in nothing else.
type grower struct {
	rng      *rand.Rand
	has      Features
	steps    []Step
	dirs     []string // where entries are put
	closed   []string // directories that nothing more is put in
	files    []string // regular files, each inode once
	symlinks []string
	taken    map[string]bool
}

func randomSteps(seed uint64, opt RandomOptions) []Step {
	g := &grower{
		rng:   rand.New(rand.NewPCG(seed, seed)),
		has:   *opt.Features,
		dirs:  []string{"."},
		taken: map[string]bool{},
	}
	scale := max(opt.Scale, 1)
	g.plantDirs(12 * scale)
	g.plantNames()
	g.plantSizes()
	g.plantSmall(40 * scale)
	g.plantSparse()
	if !opt.Shallow {
		g.plantDeep()
	}
	g.plantHardlinks()
	g.plantSymlinks()
	if opt.Special {
		g.plantSpecial()
	}
	g.dressFiles()
	g.dressSymlinks()
	g.dressDirs()
	return g.steps
}

func (g *grower) add(steps ...Step) { g.steps = append(g.steps, steps...) }

func pick[T any](g *grower, from []T) T { return from[g.rng.IntN(len(from))] }

// fresh is a path for this name that no entry has yet, in a random directory.
func (g *grower) fresh(name string) string {
	return g.freshIn(pick(g, g.dirs), name)
}

func (g *grower) freshIn(dir, name string) string {
	for n, stem := 2, name; g.taken[path.Join(dir, name)]; n++ {
		name = fmt.Sprint(stem[:min(len(stem), 240)], n)
	}
	g.taken[path.Join(dir, name)] = true
	return path.Join(dir, name)
}

func (g *grower) addFile(name string, step Step) {
	g.files = append(g.files, name)
	g.add(step)
}

// plantDirs makes a chain of directories, and then more of them anywhere.
func (g *grower) plantDirs(n int) {
	for i := range n {
		parent := pick(g, g.dirs)
		if i < 5 {
			parent = g.dirs[len(g.dirs)-1]
		}
		dir := g.freshIn(parent, pick(g, oddNames()))
		g.dirs = append(g.dirs, dir)
		g.add(Dir(dir, 0o755))
	}
	empty := g.fresh("empty")
	g.closed = append(g.closed, empty)
	g.add(Dir(empty, 0o755))
}

// oddNames have each broken a tool once.
func oddNames() []string {
	return []string{
		"plain", "two words", " leading", "trailing ", "tab\there", "line\nfeed", "carriage\rreturn",
		"\n", `back\slash`, `\n`, `\`, `'single'`, `"double"`, "`back`", "-", "-rf", "--help", "~", "*", "?",
		"[a-z]", "$HOME", "%s%n", "#hash", "!bang", ";semi", "&", "|", "stdin", "ümläut", "u\u0308nnormalised",
		"日本語", "🗄", "\xff\xfe", "half\xc3", "\x01\x1b[31m\x7f", ".hidden", "..two", "...", ".lock", "lost+found",
		strings.Repeat("x", 255), strings.Repeat("é", 127) + "x", "CON.", "a:b", "name.lock", "manifest",
	}
}

// plantNames uses each odd name at least once.
func (g *grower) plantNames() {
	for _, odd := range oddNames() {
		name := g.fresh(odd)
		switch g.rng.IntN(4) {
		case 0:
			g.symlinks = append(g.symlinks, name)
			g.add(Symlink(odd, name))
		case 1:
			g.closed = append(g.closed, name)
			g.add(Dir(name, 0o755))
		default:
			g.addFile(name, Content(name, odd))
		}
	}
}

// plantSizes makes files at the edges of sectors, pages, the 1 MiB of an I/O
// request and the 4 MiB of a block.
func (g *grower) plantSizes() {
	const block = 4 << 20
	for _, size := range []int64{
		0, 1, 511, 512, 513, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1,
		block - 1, block, block + 1, 3*block + g.rng.Int64N(block-1) + 1,
	} {
		name := g.fresh(fmt.Sprint("size ", size))
		g.addFile(name, File(name, size, g.rng.Uint64()))
	}
}

func (g *grower) plantSmall(n int) {
	for i := range n {
		name := g.fresh(fmt.Sprintf("small.%d", i))
		g.addFile(name, File(name, g.rng.Int64N(20_000), g.rng.Uint64()))
	}
}

// plantSparse places holes where they are easily lost.
func (g *grower) plantSparse() {
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
		name := g.fresh("sparse " + f.name)
		g.addFile(name, Sparse(name, f.size, f.extents))
	}
}

func extentsEvery(step, length, size int64) (list []Extent) {
	for off := int64(0); off < size; off += 2 * step {
		list = append(list, Extent{off, length})
	}
	return list
}

// plantDeep makes one path of more than PATH_MAX bytes.
func (g *grower) plantDeep() {
	dir := g.fresh("deep")
	g.add(Dir(dir, 0o755))
	g.closed = append(g.closed, dir)
	for i := 0; len(dir) <= unix.PathMax; i++ {
		dir = path.Join(dir, fmt.Sprintf("%02d%s", i, strings.Repeat("d", 200+g.rng.IntN(50))))
		g.add(Dir(dir, 0o755))
		g.closed = append(g.closed, dir)
	}
	file, link, empty := path.Join(dir, "file"), path.Join(dir, "link"), path.Join(dir, "empty")
	g.addFile(file, File(file, 5000, g.rng.Uint64()))
	g.add(Symlink("../file", link), Dir(empty, 0o755), Hardlink(file, path.Join(dir, "hard link")))
	g.symlinks = append(g.symlinks, link)
	g.closed = append(g.closed, empty)
}

// plantHardlinks makes groups of two and three, in one directory and in
// several, of all sizes.
func (g *grower) plantHardlinks() {
	for i, size := range []int64{0, 100, 4<<20 + 1, 0, 5000} {
		name := g.fresh(fmt.Sprint("linked ", size))
		same := g.freshIn(path.Dir(name), "other name")
		g.addFile(name, File(name, size, g.rng.Uint64()))
		g.add(Hardlink(name, same))
		if i%2 == 0 {
			g.add(Hardlink(name, g.fresh("third name")))
		}
	}
	for range 6 {
		g.add(Hardlink(pick(g, g.files), g.fresh("another name")))
	}
}

// plantSymlinks has targets of up to 1023 bytes, all that XFS takes.
func (g *grower) plantSymlinks() {
	for i, target := range []string{
		"nothing here", "/absolute/dangling", "/usr", "../../../../../../../..", "../outside", ".", "..", "./.",
		"line\nfeed", "\xff", "-", strings.Repeat("long/", 204) + "abc", "a//b/", "symlink 12",
	} {
		g.addSymlink(target, g.fresh(fmt.Sprint("symlink ", i)))
	}
	for _, to := range []string{pick(g, g.files), pick(g, g.files), pick(g, g.dirs), pick(g, g.symlinks)} {
		name := g.fresh("symlink inside")
		target := strings.Repeat("../", strings.Count(name, "/")) + to
		g.addSymlink(target[:min(len(target), 1023)], name)
	}
	self := g.fresh("itself")
	g.addSymlink(path.Base(self), self)
	g.add(Hardlink(self, g.fresh("hard link of a symbolic one")))
}

func (g *grower) addSymlink(target, name string) {
	g.symlinks = append(g.symlinks, name)
	g.add(Symlink(target, name))
}

func (g *grower) plantSpecial() {
	fifo, socket, device := g.fresh("fifo"), g.fresh("socket"), g.fresh("device")
	g.add(FIFO(fifo), Socket(socket))
	g.times(fifo)
	g.times(socket)
	if g.has.Owners {
		g.add(Device(device, 1, 3)) // null
		g.add(Times(device, time.Unix(1, 0), time.Unix(2, 3)))
	}
}

// dressFiles gives each attribute to some file and several to most. The order
// matters: user.* needs write permission, chown clears setuid and capabilities,
// a capability follows both, and times come last.
func (g *grower) dressFiles() {
	g.rng.Shuffle(len(g.files), func(i, j int) { g.files[i], g.files[j] = g.files[j], g.files[i] })
	modes := g.fileModes()
	for i, name := range g.files {
		g.xattrs(i, name)
		g.owner(name)
		g.add(Chmod(name, modes[i%len(modes)]))
		if uid := g.id(); i%7 == 0 && g.has.ACLs {
			g.add(ACL(name, AccessACL, uid, 6))
		}
		if i%10 == 0 && g.has.Capabilities {
			g.add(Xattr(name, "security.capability", CapNetRaw))
		}
		g.times(name)
	}
}

// fileModes has only modes that let their owner read, unless root does.
func (g *grower) fileModes() []uint32 {
	modes := []uint32{0o644, 0o400, 0o444, 0o600, 0o755, 0o555, 0o777, 0o640}
	if g.has.Owners {
		modes = append(modes, 0, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o2644, 0o111, 0o200)
	}
	return modes
}

func (g *grower) dressSymlinks() {
	for i, name := range g.symlinks {
		g.owner(name)
		if i%3 == 0 && g.has.TrustedXattrs {
			g.add(Xattr(name, "trusted.testkit", fmt.Sprint(i)))
		}
		g.times(name)
	}
}

// dressDirs goes from the deepest up, because a directory's own mode may keep
// out whoever is not root.
func (g *grower) dressDirs() {
	modes := []uint32{0o555, 0o755, 0o700, 0o500, 0o777, 0o1777}
	if g.has.Owners {
		modes = append(modes, 0, 0o2755, 0o3777, 0o7755, 0o4755, 0o111)
	}
	dirs := slices.Concat(g.dirs, g.closed)
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(depth(b), depth(a)) })
	for i, name := range dirs {
		g.xattrs(i, name)
		g.owner(name)
		g.add(Chmod(name, modes[i%len(modes)]))
		if uid := g.id(); i%4 == 0 && g.has.ACLs {
			g.add(ACL(name, DefaultACL, uid, 5))
		}
		if uid := g.id(); i%6 == 1 && g.has.ACLs {
			g.add(ACL(name, AccessACL, uid, 7))
		}
		g.times(name)
	}
}

// depth puts the root itself above everything in it.
func depth(name string) int {
	if name == "." {
		return -1
	}
	return strings.Count(name, "/")
}

// xattrs stay below 4 KiB together: ext4 takes no more per inode.
func (g *grower) xattrs(i int, name string) {
	values := []string{"", "text", "\x00binary\xff\x00", strings.Repeat("0123456789", 100)}
	attrs := []string{"user.a", "user.empty", "user.名", "user." + strings.Repeat("n", 200)}
	for n := g.rng.IntN(4); n >= 0; n-- {
		value := values[(i+n)%len(values)]
		if attr := attrs[n]; i%3 == 0 && g.has.UserXattrs {
			g.add(Xattr(name, attr, value))
		}
		if i%8 == 0 && g.has.TrustedXattrs {
			g.add(Xattr(name, "trusted.testkit", value))
		}
	}
}

func (g *grower) id() uint32 { return uint32(g.rng.IntN(70_000)) }

func (g *grower) owner(name string) {
	uid, gid := int(g.id()), int(g.id())
	if g.rng.IntN(2) == 0 && g.has.Owners {
		g.add(Chown(name, uid, gid))
	}
}

// times are nanoseconds anywhere in the years that every file system here can
// keep, so before 1970 and after 2038 too; a few are the edges of these.
func (g *grower) times(name string) {
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
	g.add(Times(name, atime, mtime))
}

package verify

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/internal/tree"
)

// recordTree writes and opens the manifest of a tree, without the copier.
func recordTree(t testing.TB, path string) *Manifest {
	t.Helper()
	state := openState(t)
	w := &recorder{t: t, first: map[uint64]string{}}
	w.recordDir(path, "", ".", 0)
	writeManifest(t, state, w.records)
	m, err := OpenManifest(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

type recorder struct {
	t       testing.TB
	records []tree.Record
	first   map[uint64]string
}

func (w *recorder) recordDir(path, below, name string, depth int) {
	d, err := sys.OpenDir(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	r := w.newRecord(d, ".", tree.Dir)
	r.Name, r.Path, r.Depth = name, below, depth
	w.records = append(w.records, r)
	names, err := d.ListNames(make([]byte, 64<<10))
	if err != nil {
		w.t.Fatal(err)
	}
	var dirs []string
	for _, name := range names {
		if w.recordEntry(d, path, below, name) {
			dirs = append(dirs, name)
		}
	}
	for _, name := range dirs {
		w.recordDir(path+"/"+name, tree.JoinPath(below, name), name, depth+1)
	}
}

func (w *recorder) newRecord(d *sys.File, name string, kind tree.Kind) tree.Record {
	s, err := d.StatAt(name)
	if err != nil {
		w.t.Fatal(err)
	}
	attrs, _, err := tree.ReadXattrs(d, name, make([]byte, 4096))
	if err != nil {
		w.t.Fatal(err)
	}
	return tree.Record{Kind: kind, Name: name, Mode: s.Perm(), UID: s.UID, GID: s.GID, Mtime: s.Mtime, Xattrs: tree.DigestXattrs(attrs)}
}

func (w *recorder) recordEntry(d *sys.File, path, below, name string) (isDir bool) {
	s, err := d.StatAt(name)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.IsDir() {
		w.records = append(w.records, tree.Record{Kind: tree.Subdir, Name: name})
		return true
	}
	if s.IsSymlink() {
		r := w.newRecord(d, name, tree.Symlink)
		if r.Target, err = d.ReadlinkAt(name); err != nil {
			w.t.Fatal(err)
		}
		w.records = append(w.records, r)
		return false
	}
	r := w.newRecord(d, name, tree.Regular)
	r.Path, r.Size = below, s.Size
	if first := w.first[s.Ino]; first != "" {
		r.Kind, r.Target = tree.HardLink, first
		w.records = append(w.records, r)
		return false
	}
	w.first[s.Ino] = r.RelativePath()
	text, err := os.ReadFile(path + "/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	var sums []uint64
	for block := range slices.Chunk(text, tree.BlockSize) {
		sums = append(sums, xxhash.Sum64(block))
	}
	if len(sums) == 1 {
		r.Sum = sums[0]
	}
	w.records = append(w.records, r)
	if len(sums) > 1 {
		for line := range slices.Chunk(sums, tree.SumsPerLine) {
			w.records = append(w.records, tree.Record{Kind: tree.Sums, Sums: line})
		}
	}
	return false
}

// shardAt returns the tree at a path as a shard.
func shardAt(t testing.TB, path string) Shard {
	t.Helper()
	in, err := sys.OpenDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return Shard{Parent: in, Name: filepath.Base(path)}
}

func treeDifferences(t testing.TB, m *Manifest, path string) (found []string) {
	t.Helper()
	err := CompareTree(t.Context(), m, shardAt(t, path), func(d Difference) {
		found = append(found, fmt.Sprintf("%s %s", d.Kind, d.Path))
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// Each kind of difference is found with its kind and path, and no other difference is
// found. Side effects of a change, such as the times of directories, are undone before.
func TestCompareTreeFindsTheOneDifference(t *testing.T) {
	when := time.Unix(1e9, 5)
	build := []testkit.Step{
		testkit.TextFile("file", "text"), testkit.TextFile("dir/inner", "x"), testkit.TextFile("dir/sub/leaf", ""),
		testkit.Dir("empty", 0o755), testkit.Symlink("file", "link"), testkit.TextFile("one", "1"),
		testkit.Hardlink("one", "dir/two"), testkit.TextFile("alone", "1"), testkit.File("large", tree.BlockSize+1, 1),
	}
	names := []string{"file", "dir/inner", "dir/sub/leaf", "dir/sub", "dir", "empty", "link", "one", "alone", "large", "."}
	again := func(remove string, make ...testkit.Step) []testkit.Step {
		return append([]testkit.Step{testkit.Remove(remove)}, make...)
	}
	type difference struct {
		name  string
		steps []testkit.Step
		times []testkit.Step // after all times were reset
		want  []string
	}
	cases := []difference{
		{name: "nothing"},
		{name: "missing", steps: again("file"), want: []string{"missing file"}},
		{name: "missing below", steps: again("dir/sub/leaf"), want: []string{"missing dir/sub/leaf"}},
		{name: "missing directory", steps: again("empty"), want: []string{"missing empty"}},
		{name: "missing tree", steps: again("dir/sub/leaf", testkit.Remove("dir/sub")), want: []string{"missing dir/sub"}},
		{name: "missing link", steps: again("link"), want: []string{"missing link"}},
		{name: "missing second name", steps: again("dir/two"), want: []string{"missing dir/two"}},
		{name: "extra first", steps: []testkit.Step{testkit.TextFile("A", "")}, want: []string{"extra A"}},
		{name: "extra last", steps: []testkit.Step{testkit.TextFile("zz", "")}, want: []string{"extra zz"}},
		{name: "extra below", steps: []testkit.Step{testkit.TextFile("dir/k", "")}, want: []string{"extra dir/k"}},
		{name: "extra tree", steps: []testkit.Step{testkit.TextFile("dir/new/a/b", "")}, want: []string{"extra dir/new"}},
		{name: "extra in empty", steps: []testkit.Step{testkit.FIFO("empty/pipe")}, want: []string{"extra empty/pipe"}},
		{name: "file is a directory", steps: again("file", testkit.Dir("file", 0o644)), want: []string{"type file"}},
		{name: "file is a link", steps: again("file", testkit.Symlink("one", "file")), want: []string{"type file"}},
		{name: "file is a FIFO", steps: again("file", testkit.FIFO("file")), want: []string{"type file"}},
		{name: "directory is a file", steps: again("empty", testkit.TextFile("empty", "")), want: []string{"type empty"}},
		{name: "directory is a link", steps: again("empty", testkit.Symlink("dir", "empty")), want: []string{"type empty"}},
		{name: "link is a file", steps: again("link", testkit.TextFile("link", "text")), want: []string{"type link"}},
		{name: "longer", steps: []testkit.Step{testkit.Truncate("file", 5)}, want: []string{"size file"}},
		{name: "shorter", steps: []testkit.Step{testkit.Truncate("large", tree.BlockSize)}, want: []string{"size large"}},
		{name: "empty", steps: []testkit.Step{testkit.Truncate("file", 0)}, want: []string{"size file"}},
		{name: "mode", steps: []testkit.Step{testkit.Chmod("file", 0o640)}, want: []string{"mode file"}},
		{name: "sticky", steps: []testkit.Step{testkit.Chmod("dir", 0o1755)}, want: []string{"mode dir"}},
		{name: "mode of root", steps: []testkit.Step{testkit.Chmod(".", 0o700)}, want: []string{"mode ."}},
		{name: "mtime", times: []testkit.Step{testkit.Times("file", when, when.Add(1))}, want: []string{"mtime file"}},
		{name: "mtime of directory", times: []testkit.Step{testkit.Times("dir/sub", when, when.Add(1))}, want: []string{"mtime dir/sub"}},
		{name: "mtime of link", times: []testkit.Step{testkit.Times("link", when, when.Add(1))}, want: []string{"mtime link"}},
		{name: "mtime of root", times: []testkit.Step{testkit.Times(".", when, when.Add(1))}, want: []string{"mtime ."}},
		{name: "atime", times: []testkit.Step{testkit.Times("file", when.Add(1), when)}},
		{name: "target", steps: again("link", testkit.Symlink("fil", "link")), want: []string{"link-target link"}},
		{name: "links apart", steps: again("one", testkit.TextFile("one", "1")), want: []string{"hard-link dir/two"}},
		{name: "links apart at the first", steps: again("dir/two", testkit.TextFile("dir/two", "1"), testkit.Times("dir/two", when, when)), want: []string{"hard-link dir/two"}},
		{name: "linked with another", steps: again("alone", testkit.Hardlink("one", "alone")), want: []string{"hard-link one"}},
		{name: "contents alone", steps: []testkit.Step{testkit.Write("file", 0, "T")}},
	}
	has := testkit.ProbeFeatures(t, t.TempDir())
	if has.UserXattrs {
		cases = append(cases,
			difference{name: "xattr", steps: []testkit.Step{testkit.Xattr("file", "user.a", "")}, want: []string{"xattrs file"}},
			difference{name: "xattr of directory", steps: []testkit.Step{testkit.Xattr("dir", "user.a", "x")}, want: []string{"xattrs dir"}},
			difference{name: "xattr of root", steps: []testkit.Step{testkit.Xattr(".", "user.a", "x")}, want: []string{"xattrs ."}})
	}
	if has.Owners {
		cases = append(cases,
			difference{name: "owner", steps: []testkit.Step{testkit.Chown("file", 7, 0)}, want: []string{"owner file"}},
			difference{name: "group", steps: []testkit.Step{testkit.Chown("dir", 0, 7)}, want: []string{"owner dir"}},
			difference{name: "owner of link", steps: []testkit.Step{testkit.Chown("link", 7, 0)}, want: []string{"owner link"}})
	}
	pin := func(root string) {
		ts := unix.NsecToTimespec(when.UnixNano())
		for _, name := range names { // not testkit.Times, which fails for a name that the case has removed
			_ = unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "shard")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			testkit.Apply(t, root, build...)
			pin(root)
			m := recordTree(t, root)
			testkit.Apply(t, root, c.steps...)
			pin(root)
			testkit.Apply(t, root, c.times...)
			if found := treeDifferences(t, m, root); !slices.Equal(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

func TestCompareTreeWithAnotherRoot(t *testing.T) {
	dir := t.TempDir()
	testkit.Apply(t, dir, testkit.TextFile("shard/file", ""), testkit.TextFile("a file", ""), testkit.Symlink("shard", "a link"))
	m := recordTree(t, dir+"/shard")
	for name, want := range map[string]string{"nothing": "missing .", "a file": "type .", "a link": "type ."} {
		if found := treeDifferences(t, m, filepath.Join(dir, name)); !slices.Equal(found, []string{want}) {
			t.Errorf("%s: found %q, want %q", name, found, want)
		}
	}
}

// countingProgress adds up the progress.
type countingProgress struct {
	mu           sync.Mutex
	bytes, files int64
}

func (s *countingProgress) ReadBack(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += n
}

func (s *countingProgress) FileDone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files++
}

func newPool(t testing.TB, jobs int) *pool.Pool {
	t.Helper()
	p, err := pool.New(jobs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func contentsOf(t testing.TB, m *Manifest, path string, p *pool.Pool) (found []Difference, mode ReadMode, progress *countingProgress) {
	t.Helper()
	device := &DeviceReader{}
	progress = &countingProgress{}
	err := compareContents(t.Context(), p, device, Comparison{Manifest: m, Shard: shardAt(t, path), Progress: progress,
		Report: func(d Difference) { found = append(found, d) }})
	if err != nil {
		t.Error(err)
	}
	return found, device.WeakestMode(), progress
}

// Bits are flipped at random, in small files and large ones. Each is found in its own
// block, and nothing else is found.
func TestContentsFindsEveryFlippedBit(t *testing.T) {
	const large, small, flips = 5*tree.BlockSize + 4097, 30_000, 200
	root := filepath.Join(t.TempDir(), "shard")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	steps := []testkit.Step{testkit.File("large", large, 1), testkit.TextFile("nothing", "")}
	for i := range 10 {
		steps = append(steps, testkit.File(fmt.Sprintf("dir%d/small%d", i%2, i), small, uint64(i)))
	}
	testkit.Apply(t, root, steps...)
	m := recordTree(t, root)
	p := newPool(t, 3)
	if found, _, progress := contentsOf(t, m, root, p); len(found) != 0 || progress.bytes != large+10*small || progress.files != 12 {
		t.Errorf("a good tree: got differences %+v and progress %d bytes, %d files, want none and %d bytes, 12 files",
			found, progress.bytes, progress.files, large+10*small)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	const round = 10 // flips at once
	for range flips / round {
		want := map[string]bool{}
		var undo []func()
		for range round {
			name, size := "large", int64(large)
			if i := rng.IntN(20); i < 10 {
				name, size = fmt.Sprintf("dir%d/small%d", i%2, i), small
			}
			off := rng.Int64N(size)
			block := off / tree.BlockSize
			key := fmt.Sprintf("%s [%d, %d)", name, block*tree.BlockSize, min((block+1)*tree.BlockSize, size))
			if want[key] {
				continue // a second flip might undo the first
			}
			want[key] = true
			undo = append(undo, flipBit(t, filepath.Join(root, name), off, 1<<rng.IntN(8)))
		}
		var got []string
		found, _, _ := contentsOf(t, m, root, p)
		for _, d := range found {
			if d.Kind != Content {
				if d.Kind != Mtime {
					t.Errorf("got a difference that is not there: %+v", d)
				}
				continue
			}
			for _, r := range d.Ranges {
				for from := r.From; from < r.To; from += tree.BlockSize {
					got = append(got, fmt.Sprintf("%s [%d, %d)", d.Path, from, min(from+tree.BlockSize, r.To)))
				}
			}
		}
		if len(got) != len(want) || slices.ContainsFunc(got, func(key string) bool { return !want[key] }) {
			t.Errorf("found %q, want %v", got, want)
		}
		for _, f := range undo {
			f()
		}
	}
}

// flipBit changes a bit durably, without a change of the times of the file. It returns
// a function that changes it back.
func flipBit(t testing.TB, path string, off int64, bit byte) (undo func()) {
	t.Helper()
	change := func() {
		var st unix.Stat_t
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(b[:], off); err != nil {
			t.Fatal(err)
		}
		b[0] ^= bit
		if _, err := f.WriteAt(b[:], off); err != nil {
			t.Fatal(err)
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	change()
	return change
}

// The mode is FromDevice only if the files were read past the page cache.
func TestModePerFileSystem(t *testing.T) {
	want := map[string]ReadMode{"ext4": FromDevice, "xfs": FromDevice, "tmpfs": FromCache}
	for _, system := range testkit.FileSystemsOf(t, 400<<20) {
		mode, known := want[system.Name]
		if !known {
			continue // btrfs caches some blocks, and the file system of the temporary directory is unknown
		}
		root := filepath.Join(system.Dir, "shard")
		testkit.Apply(t, system.Dir, testkit.File("shard/large", 3*tree.BlockSize+1, 1), testkit.File("shard/small", 5000, 2))
		m := recordTree(t, root) // reads all of it into the cache
		testkit.RunCommand(t, "sync", "-f", root)
		found, got, _ := contentsOf(t, m, root, newPool(t, 2))
		if got != mode || len(found) != 0 {
			t.Errorf("%s: got mode %q and differences %+v, want mode %q and none", system.Name, got, found, mode)
		}
	}
	if mode := (&DeviceReader{}).WeakestMode(); mode != "" {
		t.Errorf("nothing was read: got mode %q, want none", mode)
	}
}

func TestModeIsTheWeakest(t *testing.T) {
	for _, c := range []struct {
		direct, dropped, cached int64
		want                    ReadMode
	}{
		{1, 0, 0, FromDevice}, {0, 1, 0, ThroughCache}, {0, 0, 1, FromCache},
		{100, 0, 1, FromDevice}, {98, 0, 2, FromCache}, {100, 1, 0, FromDevice}, {98, 2, 0, ThroughCache}, {50, 48, 2, FromCache},
	} {
		m := &DeviceReader{}
		m.direct.Store(c.direct)
		m.dropped.Store(c.dropped)
		m.cached.Store(c.cached)
		if got := m.WeakestMode(); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestDamageIsJoined(t *testing.T) {
	const b = tree.BlockSize
	at := func(from, to int64) *Difference {
		return &Difference{Kind: Content, Ranges: []ByteRange{{from * b, to * b}}}
	}
	blocks := []*Difference{at(2, 3), at(0, 1), at(1, 2), at(9, 10), {Kind: Unreadable, Ranges: []ByteRange{{3 * b, 4 * b}}}, at(4, 5), at(6, 7)}
	want := fmt.Sprint([]Difference{{Kind: Content, Ranges: []ByteRange{{0, 3 * b}}}, {Kind: Unreadable, Ranges: []ByteRange{{3 * b, 4 * b}}},
		{Kind: Content, Ranges: []ByteRange{{4 * b, 5 * b}, {6 * b, 7 * b}, {9 * b, 10 * b}}}})
	for seed := range uint64(50) { // workers finish in any order
		var g damage
		for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(blocks)) {
			d := *blocks[i]
			d.Ranges = slices.Clone(d.Ranges)
			g.addBlock([]Difference{d})
		}
		if got := fmt.Sprint(g.differences()); got != want {
			t.Fatalf("seed %d: got %s, want %s", seed, got, want)
		}
	}
}

// If all of a large file is damaged, every block is counted, but only maxSpans places are
// named.
func TestDamageIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		step, named, more int64
	}{"every block": {1, 1, 0}, "every other block": {2, maxSpans, 90_000}} {
		var g damage
		for i := range int64(100_000) {
			from := i * c.step * tree.BlockSize
			g.addBlock([]Difference{{Kind: Content, Ranges: []ByteRange{{from, from + tree.BlockSize}}}})
		}
		found := g.differences()
		if len(found) != 1 || int64(len(found[0].Ranges)) != c.named || found[0].Ranges[0].From != 0 {
			t.Errorf("%s: got %d differences, the first with %d ranges, want 1 with %d", name, len(found), len(found[0].Ranges), c.named)
		}
		if want := fmt.Sprintf("and %d more blocks after these", c.more); c.more > 0 && found[0].Detail != want {
			t.Errorf("%s: got %q, want %q", name, found[0].Detail, want)
		}
	}
}

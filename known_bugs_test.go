package shardtossd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// Other copiers had these bugs; each is a test here that does not need a call to
// fail on demand.

const (
	mebi     = 1 << 20
	hugeSize = 20 * mebi // of the file that is interrupted, five blocks
)

// A hook is an Observer that does something at one moment of a copy.
type hook struct {
	copier.NopObserver
	planned  func()
	copied   func(bytes int64)
	readBack func(bytes int64)
}

func (h *hook) Planned(files, bytes int64) {
	if h.planned != nil {
		h.planned()
	}
}

func (h *hook) Copied(bytes int64) {
	if h.copied != nil {
		h.copied(bytes)
	}
}

func (h *hook) ReadBack(bytes int64) {
	if h.readBack != nil {
		h.readBack(bytes)
	}
}

// onceCopied is a hook for the first block or file that is copied, onceReadBack
// for the first that is read back.
func onceCopied(do func()) *hook {
	var once sync.Once
	return &hook{copied: func(int64) { once.Do(do) }}
}

func onceReadBack(do func()) *hook {
	var once sync.Once
	return &hook{readBack: func(int64) { once.Do(do) }}
}

// tick waits until the clock of the file system that dir is on has moved on, so
// that what is changed next has other times than what was made before. Kernels
// before 6.13 count file times in ticks of some milliseconds.
func tick(t testing.TB, dir string) {
	t.Helper()
	probe := filepath.Join(dir, "tick")
	when := func() time.Time {
		if err := os.WriteFile(probe, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(probe)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(probe); err != nil {
			t.Fatal(err)
		}
		return st.ModTime()
	}
	for first := when(); !when().After(first); {
	}
}

// mixed is a tree with one of everything that can be changed.
func mixed() []testkit.Step {
	return []testkit.Step{
		testkit.TextFile("small", "small"),
		testkit.File("large", 9*mebi+5, 1),
		testkit.TextFile("dir/inner", "inner"),
		testkit.TextFile("dir/sub/leaf", "leaf"),
		testkit.Dir("empty", 0o755),
		testkit.Symlink("small", "link"),
		testkit.TextFile("one", "linked"),
		testkit.Hardlink("one", "two"),
	}
}

// A source that does not stay as it was, from the walk to the end of reading back,
// is an error: of all that was copied nothing is published, and nothing left.
func TestSourceChangesWhileCopied(t *testing.T) {
	epoch := time.Unix(1e9, 1)
	replace := func(name string, with testkit.Step) []testkit.Step {
		return []testkit.Step{testkit.Remove(name), with}
	}
	type edit struct {
		name  string
		steps []testkit.Step
	}
	edits := []edit{
		{"small truncated", []testkit.Step{testkit.Truncate("small", 1)}},
		{"small emptied", []testkit.Step{testkit.Truncate("small", 0)}},
		{"small grown", []testkit.Step{testkit.Truncate("small", 6)}},
		{"small rewritten", []testkit.Step{testkit.Write("small", 0, "S")}},
		{"small replaced", []testkit.Step{testkit.TextFile("new", "small"), testkit.Rename("new", "small")}},
		{"small removed", []testkit.Step{testkit.Remove("small")}},
		{"large truncated", []testkit.Step{testkit.Truncate("large", 9*mebi)}},
		{"large cut to a block", []testkit.Step{testkit.Truncate("large", 4*mebi)}},
		{"large emptied", []testkit.Step{testkit.Truncate("large", 0)}},
		{"large grown", []testkit.Step{testkit.Truncate("large", 9*mebi+6)}},
		{"large rewritten", []testkit.Step{testkit.Write("large", 5*mebi, "L")}},
		{"large rewritten, mtime set back", []testkit.Step{testkit.Write("large", 5*mebi, "L"), testkit.Times("large", epoch, epoch)}},
		{"large replaced", []testkit.Step{testkit.File("new", 9*mebi+5, 1), testkit.Times("new", epoch, epoch), testkit.Rename("new", "large")}},
		{"large removed", []testkit.Step{testkit.Remove("large")}},
		{"mtime of file", []testkit.Step{testkit.Times("small", epoch, epoch.Add(1))}},
		{"mtime of directory", []testkit.Step{testkit.Times("empty", epoch, epoch.Add(1))}},
		{"mtime of link", []testkit.Step{testkit.Times("link", epoch, epoch.Add(1))}},
		{"mode of file", []testkit.Step{testkit.Chmod("dir/inner", 0o600)}},
		{"mode of directory", []testkit.Step{testkit.Chmod("dir", 0o700)}},
		{"mode of root", []testkit.Step{testkit.Chmod(".", 0o700)}},
		{"entry added", []testkit.Step{testkit.TextFile("dir/sub/new", "")}},
		{"entry added to the root", []testkit.Step{testkit.TextFile("new", "")}},
		{"entry added to an empty directory", []testkit.Step{testkit.Dir("empty/new", 0o755)}},
		{"entry removed", []testkit.Step{testkit.Remove("dir/sub/leaf")}},
		{"name more", []testkit.Step{testkit.Hardlink("small", "dir/name")}},
		{"name less", []testkit.Step{testkit.Remove("two")}},
		{"link elsewhere", replace("link", testkit.Symlink("large", "link"))},
		{"file is a directory", replace("small", testkit.Dir("small", 0o755))},
		{"file is a link", replace("small", testkit.Symlink("large", "small"))},
		{"file is a FIFO", replace("small", testkit.FIFO("small"))},
		{"file is a socket", replace("small", testkit.Socket("small"))},
		{"large is a link", replace("large", testkit.Symlink("small", "large"))},
		{"large is a socket", replace("large", testkit.Socket("large"))},
		{"link is a file", replace("link", testkit.TextFile("link", "small"))},
		{"empty directory removed", []testkit.Step{testkit.Remove("empty")}},
		{"directory renamed", []testkit.Step{testkit.Rename("dir", "other")}},
		{"directory is a link", []testkit.Step{testkit.Rename("dir", "other"), testkit.Symlink("other", "dir")}},
		{"directory is another one", []testkit.Step{testkit.Rename("dir", "other"), testkit.TextFile("dir/inner", "inner"), testkit.TextFile("dir/sub/leaf", "leaf")}},
	}
	if testkit.ProbeFeatures(t, t.TempDir()).UserXattrs {
		edits = append(edits,
			edit{"xattr of file", []testkit.Step{testkit.Xattr("small", "user.new", "")}},
			edit{"xattr of large", []testkit.Step{testkit.Xattr("large", "user.new", "")}},
			edit{"xattr of directory", []testkit.Step{testkit.Xattr("dir/sub", "user.new", "")}})
	}
	// With one worker, what is done before and after the change is the same in
	// every run; with several, it may also come in the middle of something.
	for _, when := range []struct {
		name string
		jobs int
		hook func(do func()) *hook
	}{
		{"planned", 1, func(do func()) *hook { return &hook{planned: do} }},
		{"copying", 1, onceCopied},
		{"reading back", 3, onceReadBack},
	} {
		for _, e := range edits {
			t.Run(e.name+" while "+when.name, func(t *testing.T) {
				s := newSite(t, t.TempDir(), t.TempDir())
				testkit.Apply(t, s.source, mixed()...)
				testkit.Apply(t, s.source, testkit.Times("large", epoch, epoch))
				tick(t, s.ssd)
				_, err := s.ensure(t.Context(), jobs(when.jobs), watched(when.hook(func() { testkit.Apply(t, s.source, e.steps...) })))
				if !errors.Is(err, copier.ErrSourceChanged) {
					t.Errorf("Ensure: %v, want %v", err, copier.ErrSourceChanged)
				}
				s.nothingLeft()
			})
		}
	}
}

// After a source has changed, the next copy is of what it is now.
func TestCopyAfterChange(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, mixed()...)
	change := onceCopied(func() { testkit.Apply(t, s.source, testkit.TextFile("new", "")) })
	if _, err := s.ensure(t.Context(), watched(change)); !errors.Is(err, copier.ErrSourceChanged) {
		t.Errorf("Ensure: %v", err)
	}
	if r := s.copied(); r.ResumedBytes != 0 {
		t.Errorf("%d bytes of another state of the source were kept", r.ResumedBytes)
	}
	s.released()
}

// Offsets and lengths do not fit into 31 or 32 bits any more.
func TestHugeFiles(t *testing.T) {
	edges := func(at ...int64) (x []testkit.Extent) {
		for _, off := range at {
			x = append(x, testkit.Extent{Off: off, Len: 3})
		}
		return x
	}
	const two, four = 2 << 30, 4 << 30
	for _, e := range []copier.Engine{copier.Auto, copier.Range} {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			testkit.Apply(t, s.source,
				testkit.Sparse("2 GiB and a bit", two+2, edges(0, two-1)),
				testkit.Sparse("4 GiB and a bit", four+5*mebi+1, edges(two-2, two+4096, four-1, four+5*mebi-2)))
			r, err := s.ensure(t.Context(), engine(e))
			if err != nil || r.Bytes != two+2+four+5*mebi+1 {
				t.Fatalf("Ensure: %+v, %v", r, err)
			}
			for _, name := range []string{"2 GiB and a bit", "4 GiB and a bit"} {
				sameData(t, filepath.Join(s.source, name), filepath.Join(s.published(), name))
			}
			if e == copier.Auto {
				s.verified()
			}
			s.released()
		})
	}
}

// sameData compares two files of which most is holes, reading only what is none.
func sameData(t *testing.T, a, b string) {
	t.Helper()
	var files [2]*os.File
	var extents [2][]testkit.Extent
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i], extents[i] = f, dataOf(t, f)
	}
	if !slices.Equal(extents[0], extents[1]) {
		t.Fatalf("%s has data at %v, its copy at %v", a, extents[0], extents[1])
	}
	for _, x := range extents[0] {
		var bytes [2][]byte
		for i, f := range files {
			bytes[i] = make([]byte, x.Len)
			if _, err := f.ReadAt(bytes[i], x.Off); err != nil {
				t.Fatal(err)
			}
		}
		if string(bytes[0]) != string(bytes[1]) {
			t.Errorf("%s and its copy differ in the %d bytes at %d", a, x.Len, x.Off)
		}
	}
}

// dataOf is where a file has data; its length comes last, as an extent of none.
func dataOf(t *testing.T, f *os.File) (data []testkit.Extent) {
	t.Helper()
	size, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); ; {
		from, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return append(data, testkit.Extent{Off: size})
		}
		if err != nil {
			t.Fatal(err)
		}
		if off, err = f.Seek(from, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		data = append(data, testkit.Extent{Off: from, Len: off - from})
	}
}

// What is only in memory yet, or in space that is reserved and not written, must
// not be taken for a hole; and what is a hole stays one.
func TestNoFalseHoles(t *testing.T) {
	const size = 12 * mebi
	for _, system := range testkit.FileSystemsOf(t, 400*mebi) {
		for _, e := range []copier.Engine{copier.Auto, copier.Direct, copier.Buffered} {
			t.Run(fmt.Sprint(system.Name, " ", e), func(t *testing.T) {
				s := newSite(t, system.Dir, system.Dir)
				reserved := func(name string, mode uint32, reserve, length int64, text string, at ...int64) {
					f := writtenTo(t, filepath.Join(s.source, name), length, text, at...)
					defer f.Close()
					if err := unix.Fallocate(int(f.Fd()), mode, 0, reserve); err != nil {
						t.Fatal(err)
					}
				}
				reserved("written, then reserved", 0, size, size, "data", 5*mebi+1, size-4)
				reserved("reserved at the start", unix.FALLOC_FL_KEEP_SIZE, mebi, size, "data", mebi/2, 7*mebi)
				writtenTo(t, filepath.Join(s.source, "not synced"), size, "data", 4*mebi-2, 8*mebi+4095, size-4).Close()
				writtenTo(t, filepath.Join(s.source, "appended to"), 0, "data", size-4).Close()
				writtenTo(t, filepath.Join(s.source, "small"), 100_000, "data", 50_000).Close()
				defer mapped(t, filepath.Join(s.source, "mapped"), size, "data", 0, 4*mebi-2, size-4)()
				defer mapped(t, filepath.Join(s.source, "small mapped"), 60_000, "data", 30_000)()
				copyAndCheck(s, engine(e))
			})
		}
	}
}

// writtenTo makes a file of a length with the text at some places, and nothing
// synced.
func writtenTo(t *testing.T, path string, length int64, text string, at ...int64) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(length)
	}
	for _, off := range at {
		if err == nil {
			_, err = f.WriteAt([]byte(text), off)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// mapped is writtenTo through memory, which stays mapped until the returned
// function is called.
func mapped(t *testing.T, path string, length int, text string, at ...int) (unmap func()) {
	t.Helper()
	f := writtenTo(t, path, int64(length), "")
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range at {
		copy(m[off:], text)
	}
	return func() { _ = unix.Munmap(m) }
}

// Three names are one file in the copy, which is copied once; names outside the
// shard do not count.
func TestHardLinksAreNotDuplicated(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, testkit.File("large", 9*mebi, 1), testkit.Hardlink("large", "a/b/second"), testkit.Hardlink("large", "z"),
		testkit.TextFile("small", "x"), testkit.Hardlink("small", "a/small"), testkit.Hardlink("small", "../outside"))
	r := s.copied()
	if r.Files != 2 || r.Bytes != 9*mebi+1 {
		t.Errorf("%d files and %d bytes, want 2 and %d", r.Files, r.Bytes, 9*mebi+1)
	}
	for name, want := range map[string]uint64{"z": 3, "small": 2} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(s.published(), name), &st); err != nil || uint64(st.Nlink) != want {
			t.Errorf("%q has %d names, want %d (%v)", name, st.Nlink, want, err)
		}
	}
	s.released()
}

// A Go module cache has read-only directories and files in them, and entries are
// made in each directory again and again until its time is set at last.
func TestReadOnlyDirectories(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.MakeRemovable(t, filepath.Dir(s.source))
	testkit.MakeRemovable(t, s.ssd)
	old := time.Unix(1e9, 123)
	steps := []testkit.Step{
		testkit.File("mod/a@v1/large", 5*mebi, 1), testkit.TextFile("mod/a@v1/x/go.mod", "module a"),
		testkit.Symlink("go.mod", "mod/a@v1/x/link"), testkit.Hardlink("mod/a@v1/large", "mod/a@v1/x/large"),
	}
	has := testkit.ProbeFeatures(t, s.ssd, s.source)
	for _, file := range []string{"mod/a@v1/large", "mod/a@v1/x/go.mod"} {
		if has.UserXattrs { // which take write permission to set
			steps = append(steps, testkit.Xattr(file, "user.a", "b"))
		}
		steps = append(steps, testkit.Chmod(file, 0o444))
		if has.ACLs {
			steps = append(steps, testkit.ACL(file, testkit.AccessACL, 12, 4))
		}
	}
	for _, dir := range []string{"mod/a@v1/x", "mod/a@v1", "mod", "."} {
		steps = append(steps, testkit.Chmod(dir, 0o555), testkit.Times(dir, old, old))
	}
	testkit.Apply(t, s.source, steps...)
	copyAndCheck(s)
	// Interrupted when all is copied, the second copy meets them in the stage.
	s.interrupted(countdown(3, (*hook).atReadBack))
	s.copied()
	s.released()
}

func TestManyFilesInOneDirectory(t *testing.T) {
	const count = 20_000
	// On a file system that is fresh: ext4 avoids inode numbers that were just
	// freed, which other tests have done all the time, and takes its time for it.
	systems := testkit.FileSystemsOf(t, 400*mebi)
	fresh := systems[len(systems)-1].Dir
	s := newSite(t, fresh, fresh)
	for i := range count {
		path := filepath.Join(s.source, fmt.Sprintf("file %d", i))
		if err := os.WriteFile(path, fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.copied(); r.Files != count {
		t.Errorf("%d files, want %d", r.Files, count)
	}
	s.released()
}

// Each directory is opened by one name at a time, whatever the path is long.
func TestPathBeyondTheLimit(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	dir := strings.Repeat(strings.Repeat("d", 250)+"/", 40)
	testkit.Apply(t, s.source, testkit.File(dir+"large", 5*mebi, 1), testkit.TextFile(dir+"small", "x"),
		testkit.Hardlink(dir+"large", dir+"linked"), testkit.Symlink("small", dir+"link"), testkit.Dir(dir+"empty", 0o755))
	copyAndCheck(s)
	s.interrupted(countdown(2, (*hook).atReadBack))
	if r := s.copied(); r.ResumedBytes == 0 {
		t.Error("nothing was kept")
	}
	s.released()
}

// fill takes what a file system has left: all space, or all inodes.
func fill(t testing.TB, dir string, inodes bool) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	if err := os.Mkdir(filler, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil; i++ {
		path := filepath.Join(filler, fmt.Sprint(i))
		if inodes {
			err = os.WriteFile(path, nil, 0o600)
		} else {
			err = takeAll(path)
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// takeAll fills a file until there is no more space, in ever smaller pieces.
func takeAll(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := make([]byte, mebi)
	off := int64(0)
	for len(piece) > 0 {
		n, err := f.WriteAt(piece, off)
		off += int64(n)
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			return err
		}
		if err != nil {
			piece = piece[:len(piece)/2]
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.ENOSPC
}

func leftOfFilling(s *site) {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.ssd, "filler")); err != nil {
		s.t.Fatal(err)
	}
	s.nothingLeft()
}

// Somebody else fills the SSD while a copy that would have fitted is under way.
func TestDiskFillsUpWhileCopied(t *testing.T) {
	testkit.RequireRoot(t)
	var small []testkit.Step
	for i := range 400 {
		small = append(small, testkit.File(fmt.Sprintf("dir%d/%d", i%7, i), 40_000, uint64(i)))
	}
	large := []testkit.Step{testkit.File("large", 17*mebi, 1), testkit.File("larger", 18*mebi, 1)}
	sparse := []testkit.Step{testkit.Sparse("sparse", 64*mebi, []testkit.Extent{{Off: 0, Len: 16 * mebi}, {Off: 40 * mebi, Len: 16 * mebi}})}
	for _, c := range []struct {
		name, system string
		size         int64
		steps        []testkit.Step
		inodes       bool
	}{
		{"small files", "ext4", 64 * mebi, small, false},
		{"small files", "tmpfs", 64 * mebi, small, false},
		{"small files", "btrfs", 256 * mebi, small, false},
		{"inodes", "ext4", 64 * mebi, small, true},
		{"large files", "ext4", 64 * mebi, large, false},
		{"large files", "tmpfs", 64 * mebi, large, false},
		{"sparse file", "ext4", 64 * mebi, sparse, false},
		{"sparse file", "tmpfs", 64 * mebi, sparse, false},
	} {
		t.Run(fmt.Sprint(c.name, " on ", c.system), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, c.size)
			testkit.Apply(t, s.source, c.steps...)
			full := onceCopied(func() { fill(t, s.ssd, c.inodes) })
			r, err := s.ensure(t.Context(), watched(full), jobs(1))
			if !errors.Is(err, shardtossd.ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
				t.Errorf("Ensure: %+v, %v", r, err)
			}
			leftOfFilling(s)
			copyAndCheck(s)
		})
	}
}

// What does not fit from the beginning is not begun.
func TestTooLittleSpace(t *testing.T) {
	testkit.RequireRoot(t)
	var empty []testkit.Step
	for i := range 3000 {
		empty = append(empty, testkit.TextFile(fmt.Sprintf("%02d/%d", i%50, i), ""))
	}
	for _, c := range []struct {
		name, system string
		size         int64
		steps        []testkit.Step
		inodes       bool
	}{
		{"bytes", "ext4", 32 * mebi, []testkit.Step{testkit.File("a", 20*mebi, 1), testkit.File("b", 20*mebi, 1)}, false},
		{"bytes", "tmpfs", 32 * mebi, []testkit.Step{testkit.File("a", 20*mebi, 1), testkit.File("b", 20*mebi, 1)}, false},
		{"inodes", "ext4", 8 * mebi, empty, true},
	} {
		t.Run(fmt.Sprint(c.name, " on ", c.system), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, c.size)
			testkit.Apply(t, s.source, c.steps...)
			begun := onceCopied(func() { t.Error("something was copied") })
			_, err := s.ensure(t.Context(), watched(begun))
			var space *copier.SpaceError
			if !errors.Is(err, shardtossd.ErrNoSpace) || !errors.As(err, &space) {
				t.Fatalf("Ensure: %v", err)
			}
			numbers := []int64{space.Need, space.Free}
			if c.inodes {
				numbers = []int64{space.NeedInodes, space.FreeInodes}
			}
			if numbers[0] <= numbers[1] || numbers[1] <= 0 {
				t.Errorf("needs %d, free are %d", numbers[0], numbers[1])
			}
			for _, n := range numbers {
				if !strings.Contains(err.Error(), fmt.Sprint(n)) {
					t.Errorf("%d is not in %q", n, err)
				}
			}
			s.nothingLeft()
		})
	}
}

// A file system that is full to its last byte or inode when the copy begins is the
// same failure, with the same status.
func TestFullFromTheBeginning(t *testing.T) {
	testkit.RequireRoot(t)
	for _, c := range []struct {
		system string
		inodes bool
	}{{"ext4", false}, {"ext4", true}, {"tmpfs", false}} {
		t.Run(fmt.Sprint(c.system, ", inodes: ", c.inodes), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, 16*mebi)
			testkit.Apply(t, s.source, testkit.TextFile("file", "x"))
			fill(t, s.ssd, c.inodes)
			if _, err := s.ensure(t.Context()); !errors.Is(err, shardtossd.ErrNoSpace) {
				t.Errorf("Ensure: %v", err)
			}
			leftOfFilling(s)
			copyAndCheck(s)
		})
	}
}

// Sockets, FIFOs and devices are refused before a byte is copied, and named.
func TestSpecialFilesAreRefused(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	steps := []testkit.Step{testkit.TextFile("a", "x"), testkit.Socket("dir/socket")}
	for i := range 12 {
		steps = append(steps, testkit.FIFO(fmt.Sprintf("pipe%02d", i)))
	}
	testkit.Apply(t, s.source, steps...)
	begun := onceCopied(func() { t.Error("something was copied") })
	_, err := s.ensure(t.Context(), watched(begun))
	if !errors.Is(err, copier.ErrUnsupportedEntry) {
		t.Fatalf("Ensure: %v", err)
	}
	for _, part := range []string{"13 other entries", `"pipe00" (FIFO)`, `"pipe09"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if strings.Contains(err.Error(), "pipe10") {
		t.Errorf("more than ten are named: %q", err)
	}
	s.nothingLeft()
}

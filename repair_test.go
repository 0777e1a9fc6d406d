package shardtossd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/testkit"
)

// mustRepair calls Repair and checks that the shard equals its source, and that no files of
// the repair are left in the state dir.
func (s *site) mustRepair() *shardtossd.RepairResult {
	s.t.Helper()
	r, err := shardtossd.Repair(s.t.Context(), s.repairOptions())
	if err != nil || r.Outcome != shardtossd.Repaired {
		s.t.Fatalf("Repair: got %q, %v, differences %+v, want %q", r.Outcome, err, r.Differences, shardtossd.Repaired)
	}
	testkit.ExpectSame(s.t, s.source, s.publishedPath())
	for _, left := range []string{"stage", "trash", "plan", "journal"} {
		if _, err := os.Lstat(filepath.Join(s.stateDir(), left)); err == nil {
			s.t.Errorf("%s still exists in the state dir", left)
		}
	}
	return r
}

// Repair restores every kind of entry, on each file system.
func TestRepairOnEachFileSystem(t *testing.T) {
	for _, fs := range testkit.FileSystems(t) {
		t.Run(fs.Name, func(t *testing.T) {
			s := newSite(t, t.TempDir(), fs.Dir)
			testkit.Apply(t, s.source, testkit.File("large", 9<<20+5, 1), testkit.Hardlink("large", "d/large"),
				testkit.Sparse("sparse", 9<<20, []testkit.Extent{{Off: 8 << 20, Len: 100}}), testkit.File("d/small", 5000, 2),
				testkit.Symlink("d/small", "link"), testkit.File("d/e/f/deep", 100, 3), testkit.Dir("d/empty", 0o750), testkit.Chmod("d/e", 0o555))
			s.mustCopy()
			testkit.Apply(t, s.publishedPath(), testkit.Write("large", 5<<20, "damage"), testkit.Write("sparse", 1<<20, "no hole"),
				testkit.Truncate("d/small", 10), testkit.Remove("link"), testkit.Dir("link", 0o755), testkit.Remove("d/empty"),
				testkit.TextFile("d/e/f/g/h", "extraneous"), testkit.Chmod("d/e/f", 0o700))
			if err := os.RemoveAll(filepath.Join(s.publishedPath(), "d/e")); err != nil {
				t.Fatal(err)
			}
			s.mustRepair()
			s.mustVerify()
			s.mustRelease()
		})
	}
}

// damageSilently damages a published file and keeps its mtime, as a bad device would.
func (s *site) damageSilently(name string, at int64) {
	s.t.Helper()
	damageFileSilently(s.t, filepath.Join(s.publishedPath(), name), at)
}

// damageFileSilently overwrites a few bytes of a file and keeps its mtime.
func damageFileSilently(t testing.TB, path string, at int64) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Apply(t, filepath.Dir(path), testkit.Write(filepath.Base(path), at, "damage"),
		testkit.Times(filepath.Base(path), st.ModTime(), st.ModTime()))
}

// logTrigger calls do once, when a logged message contains the word.
type logTrigger struct {
	word string
	do   func()
}

func (l *logTrigger) Log(_ shardtossd.Level, _, message string) {
	if l.do != nil && strings.Contains(message, l.word) {
		do := l.do
		l.do = nil
		do()
	}
}

// A source may change after Repair compared it and before it is copied. Repair finds that
// in the stage and leaves the shard unchanged. Another process may replace or repair the
// shard before Repair has the lock: Repair checks the shard again.
func TestRepairMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(s *site)
		outcome   shardtossd.Outcome
		failure   string
	}{
		"source changes": {func(s *site) { damageFileSilently(s.t, filepath.Join(s.source, "d/f"), 10) }, "", "the source changed"},
		"shard replaced": {func(s *site) {
			testkit.Apply(s.t, s.ssd, testkit.Rename("shard", "aside"), testkit.TextFile("shard/d/f", "another"))
		}, "", "removed or replaced meanwhile"},
		"shard repaired": {func(s *site) {
			testkit.RunCommand(s.t, "cp", "-p", filepath.Join(s.source, "d/f"), filepath.Join(s.publishedPath(), "d/f"))
		}, shardtossd.NothingToRepair, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			testkit.Apply(t, s.source, testkit.File("d/f", 5000, 1))
			s.mustCopy()
			s.damageSilently("d/f", 100)
			var before testkit.Tree
			o := s.repairOptions()
			o.Log = &logTrigger{"acquired", func() { c.meanwhile(s); before = testkit.SnapshotTree(s.publishedPath()) }}
			r, err := shardtossd.Repair(t.Context(), o)
			if r.Outcome != c.outcome || (err == nil) != (c.failure == "") || err != nil && !strings.Contains(err.Error(), c.failure) {
				t.Errorf("Repair: got %q, %v, want %q and an error with %q", r.Outcome, err, c.outcome, c.failure)
			}
			for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(s.publishedPath())) {
				t.Errorf("the shard changed: %s", line)
			}
		})
	}
}

// A process that has a damaged file open or mapped continues to read that file during and
// after a repair. All names lead to the new file.
func TestRepairUnderReaders(t *testing.T) {
	for _, fs := range testkit.FileSystems(t) {
		t.Run(fs.Name, func(t *testing.T) {
			s := newSite(t, t.TempDir(), fs.Dir)
			testkit.Apply(t, s.source, testkit.File("large", 9<<20+5, 1), testkit.Hardlink("large", "d/twin"))
			s.mustCopy()
			s.damageSilently("large", 5<<20)
			f, err := os.Open(filepath.Join(s.publishedPath(), "d/twin"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			size := 9<<20 + 5
			mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(mapped)
			before := bytes.Clone(mapped)
			s.mustRepair()
			read := make([]byte, size)
			if _, err := f.ReadAt(read, 0); err != nil || !bytes.Equal(read, before) || !bytes.Equal(mapped, before) {
				t.Errorf("the reader got other data than before, or %v", err)
			}
			var open, one, other unix.Stat_t
			for path, into := range map[string]*unix.Stat_t{f.Name(): &one, filepath.Join(s.publishedPath(), "large"): &other} {
				if err := unix.Stat(path, into); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Fstat(int(f.Fd()), &open); err != nil {
				t.Fatal(err)
			}
			if one.Ino != other.Ino || one.Nlink != 2 || open.Ino == one.Ino || open.Nlink != 0 {
				t.Errorf("got names of inodes %d and %d with %d links, want one new inode with 2 links; the reader has inode %d with %d links, want 0",
					one.Ino, other.Ino, one.Nlink, open.Ino, open.Nlink)
			}
		})
	}
}

// Repair changes nothing outside of the shard, even if a symbolic link, a hard link or a
// mount leads there.
func TestRepairWithinTheShard(t *testing.T) {
	testkit.RequireRoot(t)
	dir := testkit.Mount(t, "ext4", 64<<20)
	outside := filepath.Join(dir, "outside")
	testkit.Apply(t, dir, testkit.Dir("outside", 0o755))
	testkit.Apply(t, outside, testkit.TextFile("f", "theirs"), testkit.Chmod("f", 0o600))
	for name, damage := range map[string]func(s *site) error{
		"symbolic link": func(s *site) error {
			return os.Symlink(outside, filepath.Join(s.publishedPath(), "d"))
		},
		"hard link": func(s *site) error {
			testkit.Apply(s.t, s.publishedPath(), testkit.Dir("d", 0o755))
			return os.Link(filepath.Join(outside, "f"), filepath.Join(s.publishedPath(), "d/f"))
		},
		"mount": func(s *site) error {
			testkit.Apply(s.t, s.publishedPath(), testkit.Dir("d", 0o755))
			return unix.Mount(outside, filepath.Join(s.publishedPath(), "d"), "", unix.MS_BIND, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, t.TempDir(), dir)
			testkit.Apply(t, s.source, testkit.TextFile("d/f", "theirs"))
			s.mustCopy()
			testkit.Apply(t, s.publishedPath(), testkit.Remove("d/f"), testkit.Remove("d"))
			before := testkit.SnapshotTree(outside)
			if err := damage(s); err != nil {
				t.Fatal(err)
			}
			r, err := shardtossd.Repair(t.Context(), s.repairOptions())
			mounted := unix.Unmount(filepath.Join(s.publishedPath(), "d"), 0) == nil
			if mounted != (name == "mount") || (err != nil) != mounted {
				t.Errorf("Repair: got %v, %+v, still mounted: %v, want an error for the mount only", err, r, mounted)
			}
			for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(outside)) {
				if !strings.Contains(line, ": ctime: ") { // making a hard link changes it
					t.Errorf("changed outside of the shard: %s", line)
				}
			}
			s.repairAgain()
		})
	}
}

// repairAgain calls Repair, whether or not the shard is still damaged, and checks the result.
func (s *site) repairAgain() {
	s.t.Helper()
	if _, err := shardtossd.Repair(s.t.Context(), s.repairOptions()); err != nil {
		s.t.Errorf("Repair: %v", err)
	}
	testkit.ExpectSame(s.t, s.source, s.publishedPath())
}

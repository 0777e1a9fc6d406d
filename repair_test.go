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

// mustRepair is a Repair that must mend what is damaged, and leave nothing beside.
func (s *site) mustRepair() *shardtossd.RepairResult {
	s.t.Helper()
	r, err := shardtossd.Repair(s.t.Context(), s.repairOptions())
	if err != nil || r.Outcome != shardtossd.Repaired {
		s.t.Fatalf("Repair: %q, %v, differences %+v", r.Outcome, err, r.Differences)
	}
	testkit.ExpectSame(s.t, s.source, s.publishedPath())
	for _, left := range []string{"stage", "trash", "plan", "journal"} {
		if _, err := os.Lstat(filepath.Join(s.stateDir(), left)); err == nil {
			s.t.Errorf("%s is left", left)
		}
	}
	return r
}

// Every kind of entry is mended, on each file system.
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
				testkit.TextFile("d/e/f/g/h", "stranger"), testkit.Chmod("d/e/f", 0o700))
			if err := os.RemoveAll(filepath.Join(s.publishedPath(), "d/e")); err != nil {
				t.Fatal(err)
			}
			s.mustRepair()
			s.mustVerify()
			s.mustRelease()
		})
	}
}

// damageSilently damages a file and leaves all its times but ctime, as a bad device would.
func (s *site) damageSilently(name string, at int64) {
	s.t.Helper()
	damageFileSilently(s.t, filepath.Join(s.publishedPath(), name), at)
}

func damageFileSilently(t testing.TB, path string, at int64) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Apply(t, filepath.Dir(path), testkit.Write(filepath.Base(path), at, "damage"),
		testkit.Times(filepath.Base(path), st.ModTime(), st.ModTime()))
}

// logTrigger does something once when a line is logged that holds a word.
type logTrigger struct {
	word string
	do   func()
}

func (a *logTrigger) Log(_ shardtossd.Level, _, message string) {
	if a.do != nil && strings.Contains(message, a.word) {
		do := a.do
		a.do = nil
		do()
	}
}

// A source that changes after it was compared, and before it is copied, is found out by
// what is in the stage; nothing of the shard is changed. A shard that others replace or
// mend before the lock is had is looked at again.
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
		"shard mended": {func(s *site) {
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
				t.Errorf("%q, %v", r.Outcome, err)
			}
			for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(s.publishedPath())) {
				t.Error(line)
			}
		})
	}
}

// Who has a damaged file open, or mapped, goes on reading it while it is repaired, and
// after; all names lead to the new one.
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
				t.Errorf("the reader sees something else than before: %v", err)
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
				t.Errorf("the names lead to inodes %d and %d, the reader has %d with %d links", one.Ino, other.Ino, open.Ino, open.Nlink)
			}
		})
	}
}

// Nothing outside of the shard is changed: through no link, symbolic or hard, and in no
// mount.
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
				t.Errorf("%v, %+v", err, r)
			}
			for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(outside)) {
				if !strings.Contains(line, ": ctime: ") { // a hard link changes that by itself
					t.Error(line)
				}
			}
			s.repairAgain()
		})
	}
}

// repairAgain repairs what may be damaged still.
func (s *site) repairAgain() {
	s.t.Helper()
	if _, err := shardtossd.Repair(s.t.Context(), s.repairOptions()); err != nil {
		s.t.Error(err)
	}
	testkit.ExpectSame(s.t, s.source, s.publishedPath())
}

package shardtossd_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// A copy of a random tree with every kind of entry equals its source, from and to every
// file system, with every engine. The copy leaves the source unchanged, and a release
// leaves nothing behind.
func TestRandomTreesAreCopied(t *testing.T) {
	testkit.RequireTools(t, "xxhsum")
	defer unix.Umask(unix.Umask(0o077))
	systems := testkit.FileSystems(t)
	for i, to := range systems {
		from := systems[(i+1)%len(systems)]
		for j, c := range []struct {
			from    testkit.FS
			engines []copier.Engine
		}{
			{from, []copier.Engine{copier.Auto, copier.Direct}},
			{to, []copier.Engine{copier.Auto, copier.Clone, copier.Range, copier.Buffered}},
		} {
			seed := uint64(10*i + j)
			s := newSite(t, c.from.Dir, to.Dir)
			has := testkit.ProbeFeatures(t, c.from.Dir, to.Dir)
			testkit.RandomTree(t, s.source, seed, testkit.RandomOptions{Features: &has})
			before := testkit.SnapshotTree(s.source)
			for _, e := range c.engines {
				t.Run(fmt.Sprintf("%s to %s, %s, seed %d", c.from.Name, to.Name, e, seed), func(t *testing.T) {
					s.t = t
					copyAndCheck(s, withEngine(e))
				})
			}
			s.t = t
			s.expectSourceUnchanged(before)
		}
	}
}

// A forced engine moves the data itself where the file system supports it.
func TestEnginesMoveTheData(t *testing.T) {
	can := []struct {
		engine copier.Engine
		on     string
	}{
		{copier.Clone, "xfs btrfs"},
		{copier.Range, "ext4 xfs btrfs tmpfs"},
		{copier.Direct, "ext4 xfs btrfs"},
		{copier.Buffered, "ext4 xfs btrfs tmpfs"},
	}
	for _, system := range testkit.FileSystems(t) {
		s := newSite(t, system.Dir, system.Dir)
		testkit.Apply(t, s.source, testkit.File("small", 5000, 1), testkit.File("dir/large", 9<<20+1, 2),
			testkit.Sparse("sparse", 20<<20, []testkit.Extent{{Off: 9 << 20, Len: 5000}}))
		for _, c := range can {
			if !strings.Contains(c.on, system.Name) {
				continue
			}
			t.Run(fmt.Sprint(c.engine, " on ", system.Name), func(t *testing.T) {
				s.t = t
				r := copyAndCheck(s, withEngine(c.engine))
				if used := r.Engines[string(c.engine)]; used.Files != 3 {
					t.Errorf("the engine moved %d files, want 3: %v", used.Files, r.Engines)
				}
			})
		}
	}
}

// An empty directory and a single file are shards too. The path of a shard may be a
// symbolic link, and it may end in a slash.
func TestPlainShards(t *testing.T) {
	const block = 4 << 20
	file := func(size int64) testkit.Step { return testkit.File("shard", size, 7) }
	for _, system := range testkit.FileSystems(t) {
		for _, c := range []struct {
			name  string
			steps []testkit.Step // in the parent directory of the shard
			given string         // the path that the caller passes
			files int64
		}{
			{"empty directory", []testkit.Step{testkit.Dir("shard", 0o750)}, "shard", 0},
			{"trailing slashes", []testkit.Step{testkit.TextFile("shard/a", "b")}, "shard//", 1},
			{"empty file", []testkit.Step{file(0)}, "shard", 1},
			{"one byte", []testkit.Step{file(1)}, "shard", 1},
			{"file of a block", []testkit.Step{file(block)}, "shard", 1},
			{"file of two blocks and a byte", []testkit.Step{file(2*block + 1), testkit.Chmod("shard", 0o440)}, "shard", 1},
			{"link to a directory", []testkit.Step{testkit.TextFile("elsewhere/a", "b"), testkit.Symlink("elsewhere", "shard")}, "shard", 1},
			{"link to a small file", []testkit.Step{testkit.TextFile("elsewhere", "b"), testkit.Symlink("elsewhere", "shard")}, "shard", 1},
			{"link to a large file", []testkit.Step{testkit.File("elsewhere", block+1, 1), testkit.Symlink("elsewhere", "shard")}, "shard", 1},
			{"entry with the shard's name", []testkit.Step{testkit.TextFile("shard/shard", "b"), testkit.TextFile("shard/shard2/shard", "c")}, "shard", 2},
			{"entry called stage", []testkit.Step{testkit.TextFile("shard/stage", "b"), testkit.File("shard/stage2/stage", block+1, 3)}, "shard", 2},
		} {
			t.Run(c.name+" on "+system.Name, func(t *testing.T) {
				s := newSite(t, t.TempDir(), system.Dir)
				above := filepath.Dir(s.source)
				testkit.Apply(t, above, append([]testkit.Step{testkit.Remove("shard")}, c.steps...)...)
				given := func(o *shardtossd.EnsureOptions) { o.Shard = above + "/" + c.given }
				r, err := s.runEnsure(t.Context(), given)
				if err != nil || r.Outcome != shardtossd.Copied || r.Files != c.files {
					t.Fatalf("Ensure: got %+v, %v, want %q and %d files", r, err, shardtossd.Copied, c.files)
				}
				real, err := filepath.EvalSymlinks(s.source)
				if err != nil {
					t.Fatal(err)
				}
				testkit.ExpectSame(t, real, s.publishedPath())
				s.mustVerify()
				if again, err := s.runEnsure(t.Context(), given); err != nil || again.Outcome != shardtossd.AlreadyOnSSD || again.Stale {
					t.Errorf("second Ensure: got %+v, %v, want %q", again, err, shardtossd.AlreadyOnSSD)
				}
				s.mustRelease()
			})
		}
	}
}

// The umask of the caller changes nothing: a copy sets the permission bits that the umask removes.
func TestUmask(t *testing.T) {
	masks := []int{0, 0o027, 0o077}
	if os.Geteuid() == 0 { // other users could not enter the directories that they made
		masks = append(masks, 0o777)
	}
	for _, mask := range masks {
		t.Run(fmt.Sprintf("%04o", mask), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			testkit.Apply(t, s.source, testkit.TextFile("dir/file", "1"), testkit.Chmod("dir/file", 0o666),
				testkit.Dir("dir/sub", 0o777), testkit.Dir("sticky", 0o1775), testkit.Symlink("dir", "link"),
				testkit.File("dir/sub/large", 5<<20, 1), testkit.Chmod(".", 0o777))
			old := unix.Umask(mask)
			_, err := s.runEnsure(t.Context())
			unix.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			testkit.ExpectSame(t, s.source, s.publishedPath())
			if st, err := os.Stat(s.stateDir()); err != nil || st.Mode() != fs.ModeDir|0o700 {
				t.Errorf("state dir: got mode %v, %v, want %v", st.Mode(), err, fs.ModeDir|0o700)
			}
			if st, err := os.Stat(s.userFile()); err != nil || st.Mode() != 0o644 {
				t.Errorf("user file: got mode %v, %v, want 0644", st.Mode(), err)
			}
			s.mustRelease()
		})
	}
}

package shardtossd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// A site is where one test copies a shard from and to.
type site struct {
	t      testing.TB
	source string // the shard
	ssd    string
	locks  string
	log    lines
}

// newSite makes the directories of a site below those given: the shard's, called
// "shard" and empty, and the SSD dir. The lock dir is elsewhere.
func newSite(t testing.TB, from, to string) *site {
	t.Helper()
	s := &site{t: t, locks: t.TempDir()}
	for dir, below := range map[*string]string{&s.source: from, &s.ssd: to} {
		made, err := os.MkdirTemp(below, "site")
		if err != nil {
			t.Fatal(err)
		}
		*dir = made
	}
	s.source = filepath.Join(s.source, "shard")
	if err := os.Mkdir(s.source, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) published() string { return filepath.Join(s.ssd, filepath.Base(s.source)) }
func (s *site) state() string {
	return filepath.Join(s.ssd, ".shard_to_ssd", filepath.Base(s.source))
}
func (s *site) stage() string { return filepath.Join(s.state(), copier.StageName) }

func (s *site) userFile() string { return filepath.Join(s.locks, filepath.Base(s.source)+".lock") }

// lines are what a call has said.
type lines []string

func (l *lines) Log(_ shardtossd.Level, _, message string) { *l = append(*l, message) }

type change func(*shardtossd.EnsureOptions)

func engine(e copier.Engine) change        { return func(o *shardtossd.EnsureOptions) { o.Engine = e } }
func watched(by copier.Observer) change    { return func(o *shardtossd.EnsureOptions) { o.Observer = by } }
func jobs(n int) change                    { return func(o *shardtossd.EnsureOptions) { o.Jobs = n } }
func noResume(o *shardtossd.EnsureOptions) { o.NoResume = true }

// host is where the site's shard is published, with a new log.
func (s *site) host() shardtossd.Host {
	s.log = nil
	return shardtossd.Host{LockDir: s.locks, SSDDir: s.ssd, Log: &s.log}
}

func (s *site) ensureOptions(changes ...change) shardtossd.EnsureOptions {
	o := shardtossd.EnsureOptions{Host: s.host(), Shard: s.source, ID: "instance1"}
	for _, c := range changes {
		c(&o)
	}
	return o
}

func (s *site) releaseOptions() shardtossd.ReleaseOptions {
	return shardtossd.ReleaseOptions{Host: s.host(), Shard: s.source, ID: "instance1"}
}

func (s *site) verifyOptions() shardtossd.VerifyOptions {
	return shardtossd.VerifyOptions{Host: s.host(), Shard: s.source}
}

func (s *site) repairOptions() shardtossd.RepairOptions {
	return shardtossd.RepairOptions{Host: s.host(), Shard: s.source}
}

// ensure is Ensure, which must leave neither descriptors nor goroutines behind,
// whether it succeeds or not.
func (s *site) ensure(ctx context.Context, changes ...change) (*shardtossd.EnsureResult, error) {
	s.t.Helper()
	descriptors, goroutines := openDescriptors(s.t), runtime.NumGoroutine()
	r, err := shardtossd.Ensure(ctx, s.ensureOptions(changes...))
	if now := openDescriptors(s.t); !slices.Equal(now, descriptors) {
		s.t.Errorf("descriptors open before: %q, after: %q", descriptors, now)
	}
	// One that has handed over its result may still be on its way out.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			s.t.Errorf("goroutines before: %d, after: %d", goroutines, runtime.NumGoroutine())
			break
		}
	}
	return r, err
}

// openDescriptors are the descriptors of this process, each with what it leads to.
func openDescriptors(t testing.TB) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // not the one of ReadDir
			open = append(open, e.Name()+" "+to)
		}
	}
	return open
}

// copied is an Ensure that must copy, and copy everything.
func (s *site) copied(changes ...change) *shardtossd.EnsureResult {
	s.t.Helper()
	r, err := s.ensure(s.t.Context(), changes...)
	if err != nil {
		s.t.Fatalf("Ensure: %v", err)
	}
	if r.Outcome != shardtossd.Copied {
		s.t.Fatalf("Ensure: %q, want %q", r.Outcome, shardtossd.Copied)
	}
	testkit.ExpectSame(s.t, s.source, s.published())
	if moved := movedBytes(r) + r.ResumedBytes; moved != r.Bytes {
		s.t.Errorf("%d bytes were moved or kept, the shard has %d: %+v", moved, r.Bytes, r)
	}
	users, err := os.ReadFile(s.userFile())
	if err != nil || string(users) != "instance1" {
		s.t.Errorf("users are %q, %v", users, err)
	}
	return r
}

func movedBytes(r *shardtossd.EnsureResult) (moved int64) {
	for _, u := range r.Engines {
		moved += u.Bytes
	}
	return moved
}

// verified is a Verify that must find everything as it was copied.
func (s *site) verified() {
	s.t.Helper()
	r, err := shardtossd.Verify(s.t.Context(), s.verifyOptions())
	if err != nil || r.Outcome != shardtossd.Verified {
		s.t.Errorf("Verify: %v, differences %+v", err, r.Differences)
	}
}

// released is a Release that must leave nothing at all on disk.
func (s *site) released() {
	s.t.Helper()
	r, err := shardtossd.Release(s.t.Context(), s.releaseOptions())
	if err != nil || r.Outcome != shardtossd.Removed {
		s.t.Fatalf("Release: %q, %v", r.Outcome, err)
	}
	s.nothingLeft()
}

// nothingLeft looks at everything outside the source: nothing may be published,
// half copied or registered, and of the state dirs only their root may be there.
func (s *site) nothingLeft() {
	s.t.Helper()
	for _, dir := range []string{s.ssd, s.locks} {
		tree := testkit.SnapshotTree(dir)
		delete(tree, ".")
		delete(tree, ".shard_to_ssd")
		if len(tree) > 0 {
			s.t.Errorf("left in %s: %q", dir, slices.Sorted(maps.Keys(tree)))
		}
	}
}

// summed has xxhsum hold the published shard against sums.xxh64. Version 0.8.1
// reads no escaped names, and none takes a path beyond PATH_MAX: these are for a
// reader of the format that was written for the tests.
func (s *site) summed(files int64) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.state(), "sums.xxh64"))
	if err != nil {
		s.t.Fatal(err)
	}
	root, err := os.OpenRoot(s.published())
	if err != nil {
		s.t.Fatal(err)
	}
	defer root.Close()
	var plain []string
	count := int64(0)
	for line := range strings.Lines(string(text)) {
		count++
		sum, name, err := parseSum(line)
		if err != nil {
			s.t.Errorf("%v: %q", err, line)
			continue
		}
		if line[0] != '\\' && len(name) < unix.PathMax {
			plain = append(plain, line)
		} else if got := sumOf(root, name); got != sum {
			s.t.Errorf("sums.xxh64 says %s of %q, which is %s", sum, name, got)
		}
	}
	if count != files {
		s.t.Errorf("sums.xxh64 has %d lines, the shard %d files", count, files)
	}
	s.xxhsum(plain)
}

func (s *site) xxhsum(sums []string) {
	s.t.Helper()
	if len(sums) == 0 {
		return
	}
	testkit.RequireTools(s.t, "xxhsum")
	list := filepath.Join(s.t.TempDir(), "sums")
	if err := os.WriteFile(list, []byte(strings.Join(sums, "")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	said := testkit.RunCommand(s.t, "sh", "-c", `cd "$1" && exec xxhsum -c "$2"`, "sh", s.published(), list)
	if ok := strings.Count(said, ": OK\n"); ok != len(sums) {
		s.t.Errorf("xxhsum found %d of %d files good:\n%s", ok, len(sums), said)
	}
}

// parseSum takes a line of sums.xxh64 apart.
func parseSum(line string) (sum, name string, err error) {
	line, whole := strings.CutSuffix(line, "\n")
	line, escaped := strings.CutPrefix(line, `\`)
	sum, name, ok := strings.Cut(line, "  ./")
	if _, hex := strconv.ParseUint(sum, 16, 64); hex != nil || !whole || !ok || len(sum) != 16 {
		return "", "", errors.New("not a line of xxhsum")
	}
	if escaped != strings.ContainsAny(name, "\\") {
		return "", "", errors.New("the mark of an escaped name does not fit")
	}
	return sum, strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(name), nil
}

func sumOf(root *os.Root, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	digest := xxhash.New()
	if _, err := io.Copy(digest, f); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%016x", digest.Sum64())
}

// Random trees with every kind of entry in them come out the same, on and from
// every file system, moved by every engine; nothing of the source is changed, and
// nothing is left when they are released.
func TestRandomTreesAreCopied(t *testing.T) {
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
					copyAndCheck(s, engine(e))
				})
			}
			s.t = t
			s.sourceIs(before)
		}
	}
}

func copyAndCheck(s *site, changes ...change) *shardtossd.EnsureResult {
	s.t.Helper()
	r := s.copied(changes...)
	s.summed(r.Files)
	s.verified()
	s.released()
	return r
}

// sourceIs says what of the source is not any more as it was.
func (s *site) sourceIs(before testkit.Tree) {
	s.t.Helper()
	for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(s.source)) {
		s.t.Errorf("the source was changed: %s", line)
	}
}

// A forced engine is the one that moves the data, where it can.
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
				r := copyAndCheck(s, engine(c.engine))
				if used := r.Engines[string(c.engine)]; used.Files != 3 {
					t.Errorf("it moved %d files of 3: %v", used.Files, r.Engines)
				}
			})
		}
	}
}

// What is no tree with something in it is a shard too, also when its path is a
// symbolic link or ends in a slash.
func TestPlainShards(t *testing.T) {
	const block = 4 << 20
	file := func(size int64) testkit.Step { return testkit.File("shard", size, 7) }
	for _, system := range testkit.FileSystems(t) {
		for _, c := range []struct {
			name  string
			steps []testkit.Step // in the directory that the shard is in
			given string         // what is given as the shard
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
				r, err := s.ensure(t.Context(), given)
				if err != nil || r.Outcome != shardtossd.Copied || r.Files != c.files {
					t.Fatalf("Ensure: %+v, %v", r, err)
				}
				real, err := filepath.EvalSymlinks(s.source)
				if err != nil {
					t.Fatal(err)
				}
				testkit.ExpectSame(t, real, s.published())
				s.verified()
				if again, err := s.ensure(t.Context(), given); err != nil || again.Outcome != shardtossd.AlreadyOnSSD || again.Stale {
					t.Errorf("Ensure again: %+v, %v", again, err)
				}
				s.released()
			})
		}
	}
}

// The umask of the caller is of no matter: what it takes away is given again.
func TestUmask(t *testing.T) {
	masks := []int{0, 0o027, 0o077}
	if os.Geteuid() == 0 { // who is not root could not enter what it has made
		masks = append(masks, 0o777)
	}
	for _, mask := range masks {
		t.Run(fmt.Sprintf("%04o", mask), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			testkit.Apply(t, s.source, testkit.TextFile("dir/file", "1"), testkit.Chmod("dir/file", 0o666),
				testkit.Dir("dir/sub", 0o777), testkit.Dir("sticky", 0o1775), testkit.Symlink("dir", "link"),
				testkit.File("dir/sub/large", 5<<20, 1), testkit.Chmod(".", 0o777))
			old := unix.Umask(mask)
			_, err := s.ensure(t.Context())
			unix.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			testkit.ExpectSame(t, s.source, s.published())
			if st, err := os.Stat(s.state()); err != nil || st.Mode() != fs.ModeDir|0o700 {
				t.Errorf("state dir: %v, %v", st.Mode(), err)
			}
			if st, err := os.Stat(s.userFile()); err != nil || st.Mode() != 0o644 {
				t.Errorf("user file: %v, %v", st.Mode(), err)
			}
			s.released()
		})
	}
}

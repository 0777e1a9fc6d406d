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
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
)

// The page cache belongs to the services. A copy or a verification keeps the files of the
// source that services have cached. Less than a hundredth of the other files in the source,
// and of the copy, is cached afterwards. This holds for every engine.
func TestPageCacheIsLeftAlone(t *testing.T) {
	testkit.RequireRoot(t)
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		for _, engine := range []copier.Engine{copier.Auto, copier.Direct, copier.Buffered, copier.Range} {
			t.Run(kind+" "+string(engine), func(t *testing.T) {
				s := newSite(t, testkit.Mount(t, kind, 400<<20), testkit.Mount(t, kind, 400<<20))
				testkit.Apply(t, s.source, testkit.File("large", 40<<20+1, 1), testkit.File("d/middling", 900_000, 4))
				testkit.Apply(t, s.source, manyFiles(3, 800)...)
				testkit.Apply(t, s.source, usedFiles()...)
				control := filepath.Join(filepath.Dir(s.source), "control")
				if err := os.Mkdir(control, 0o755); err != nil {
					t.Fatal(err)
				}
				testkit.Apply(t, control, usedFiles()...)
				unix.Sync()
				cacheCheck{control, s.source, []string{s.publishedPath(), s.stateDir()}}.expectUntouched(t, func() error {
					_, err := s.runEnsure(t.Context(), withEngine(engine))
					return err
				}, func() error {
					_, err := shardtossd.Release(t.Context(), s.releaseOptions())
					return err
				})
				if _, err := s.runEnsure(t.Context()); err != nil {
					t.Fatal(err)
				}
				cacheCheck{control, s.publishedPath(), []string{s.stateDir()}}.expectUntouched(t, func() error {
					_, err := shardtossd.Verify(t.Context(), s.verifyOptions())
					return err
				}, func() error { return nil })
				s.mustRelease()
			})
		}
	}
}

// usedFiles makes the files that services have in the page cache.
func usedFiles() []testkit.Step {
	steps := []testkit.Step{testkit.File("used-large", 9<<20, 2)}
	for i := range 60 {
		steps = append(steps, testkit.File(fmt.Sprintf("d/used-small-%d", i), 10_000, uint64(i)))
	}
	return steps
}

// A cacheCheck names the trees whose cached bytes are compared before and after a call.
type cacheCheck struct {
	control string   // the call does not read this tree
	read    string   // the call reads this tree
	made    []string // the call makes or reads these files, which services do not use
}

// expectUntouched checks that a call keeps the cached files of services and leaves nothing
// else in the page cache. The kernel or the host of a virtual machine may reclaim memory
// at any time. The control tree loses its cached files then too, and after undo the check
// is repeated.
func (c cacheCheck) expectUntouched(t *testing.T, call, undo func() error) {
	t.Helper()
	const attempts = 20
	for range attempts {
		controlBefore := cacheUsedFiles(t, c.control)
		before := cacheUsedFiles(t, c.read)
		if err := call(); err != nil {
			t.Fatal(err)
		}
		after, controlAfter := measureCache(t, c.read), measureCache(t, c.control)
		var made []cachedBytes
		for _, m := range c.made {
			made = append(made, measureCache(t, m))
		}
		if controlAfter.keepsMostOf(controlBefore) && before.hasUsedFiles() && controlBefore.hasUsedFiles() {
			expectSameCache(t, before, after)
			for i, m := range made { // the state dir has a few short files beside the manifest
				if n := m.large + m.small + m.others; n*100 > m.all && n > 16<<10 {
					t.Errorf("%s: got %d of %d bytes in the page cache, want at most 1 %%", c.made[i], n, m.all)
				}
			}
			return
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("in each of %d attempts something else emptied the page cache", attempts)
}

// expectSameCache checks that the used files are still cached, and the other files not.
func expectSameCache(t *testing.T, before, after cachedBytes) {
	t.Helper()
	// A call that drops one block drops 4/9 of the large used file.
	if !after.keepsMostOf(before) {
		t.Errorf("cached bytes of the used files: got %+v, want most of %+v", after, before)
	}
	if others := after.others - before.others; others*100 > after.all {
		t.Errorf("got %d of %d bytes that were read in the page cache, want at most 1 %%", others, after.all)
	}
}

// cachedBytes counts the bytes of a tree that are in the page cache: those of the large and
// the small files that services use, and those of all other files. all is the size of the tree.
type cachedBytes struct{ large, small, others, all int64 }

// hasUsedFiles reports whether all files that services use are cached.
func (c cachedBytes) hasUsedFiles() bool { return c.large >= 9<<20 && c.small >= 60*10_000 }

// keepsMostOf reports whether most of the used files that were cached before still are. A
// kernel that reclaims memory by itself (DAMON) takes some per cent in five seconds.
func (c cachedBytes) keepsMostOf(before cachedBytes) bool {
	return c.large*4 >= before.large*3 && c.small*4 >= before.small*3
}

// measureCache counts the cached bytes of all files below root.
func measureCache(t *testing.T, root string) (c cachedBytes) {
	t.Helper()
	forEachFile(t, root, func(path string, f *sys.File, size int64) {
		n, err := f.CachedBytes(0, size)
		if err != nil {
			t.Fatal(err)
		}
		c.all += size
		switch {
		case strings.Contains(path, "used-large"):
			c.large += n
		case strings.Contains(path, "used-small"):
			c.small += n
		default:
			c.others += n
		}
	})
	return c
}

// cacheUsedFiles brings the files that services use into the page cache, and drops all others.
func cacheUsedFiles(t *testing.T, root string) cachedBytes {
	t.Helper()
	dropCachedTree(t, root)
	forEachFile(t, root, func(path string, _ *sys.File, _ int64) {
		if strings.Contains(path, "used-") {
			if _, err := os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
	})
	return measureCache(t, root)
}

// dropCachedTree drops all files below root from the page cache.
func dropCachedTree(t *testing.T, root string) {
	t.Helper()
	forEachFile(t, root, func(_ string, f *sys.File, _ int64) {
		if err := f.DropCached(0, 0); err != nil {
			t.Fatal(err)
		}
	})
}

// forEachFile opens each regular file below root and calls do with it.
func forEachFile(t *testing.T, root string, do func(path string, f *sys.File, size int64)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := sys.Open(path, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := e.Info()
		if err != nil {
			return err
		}
		do(path, f, info.Size())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

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

// The page cache belongs to the services: what they have in it of the source stays,
// and of the rest of the source and of the copy less than a hundredth comes into it,
// by a copy or by a verification, whatever the engine.
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
				untouched(t, control, s.source, func() error {
					_, err := s.runEnsure(t.Context(), func(o *shardtossd.EnsureOptions) { o.Engine = engine })
					return err
				}, func() error {
					_, err := shardtossd.Release(t.Context(), s.releaseOptions())
					return err
				}, s.publishedPath(), s.stateDir())
				if _, err := s.runEnsure(t.Context(), func(*shardtossd.EnsureOptions) {}); err != nil {
					t.Fatal(err)
				}
				untouched(t, control, s.publishedPath(), func() error {
					_, err := shardtossd.Verify(t.Context(), s.verifyOptions())
					return err
				}, func() error { return nil }, s.stateDir())
				s.mustRelease()
			})
		}
	}
}

// usedFiles are what services have in the page cache.
func usedFiles() []testkit.Step {
	steps := []testkit.Step{testkit.File("used-large", 9<<20, 2)}
	for i := range 60 {
		steps = append(steps, testkit.File(fmt.Sprintf("d/used-small-%d", i), 10_000, uint64(i)))
	}
	return steps
}

// untouched has a call read the tree, and wants the page cache to have of it what it had
// before; and of what the call has made, or used besides, nothing. The kernel, or whoever lends this machine
// its memory, may take everything back at any time: then the files in control, which
// nobody reads, are gone as well, and it is tried again.
func untouched(t *testing.T, control, root string, call, undo func() error, made ...string) {
	t.Helper()
	const attempts = 20
	for range attempts {
		usual := cacheUsedFiles(t, control)
		before := cacheUsedFiles(t, root)
		if err := call(); err != nil {
			t.Fatal(err)
		}
		after, now := measureCache(t, root), measureCache(t, control)
		var left []cached // of what was made
		for _, m := range made {
			left = append(left, measureCache(t, m))
		}
		if now.stillHas(usual) && before.used() && usual.used() {
			// To forget one block would take 4/9 of what is used of the large file.
			if !after.stillHas(before) {
				t.Errorf("of what services use is cached: %+v, was: %+v", after, before)
			}
			if source := after.others - before.others; source*100 > after.all {
				t.Errorf("%d bytes of what was read were left in the page cache, of %d", source, after.all)
			}
			for i, c := range left { // beside the manifest there are a few short files
				if n := c.large + c.small + c.others; n*100 > c.all && n > 16<<10 {
					t.Errorf("%d bytes of %s were left in the page cache, of %d", n, made[i], c.all)
				}
			}
			return
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("the page cache was emptied by somebody else in each of %d attempts", attempts)
}

// cached is what of a tree is in the page cache, in bytes: of the files that services
// use, large and small, and of all others; and how long all files are together.
type cached struct{ large, small, others, all int64 }

// used reports whether services have all of their files.
func (c cached) used() bool { return c.large >= 9<<20 && c.small >= 60*10_000 }

// stillHas reports whether most of what services had is there. A kernel that reclaims by
// itself (DAMON) takes some per cent in five seconds.
func (c cached) stillHas(before cached) bool {
	return c.large*4 >= before.large*3 && c.small*4 >= before.small*3
}

func measureCache(t *testing.T, root string) (c cached) {
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

// cacheUsedFiles has the files of services in the page cache, and no others.
func cacheUsedFiles(t *testing.T, root string) cached {
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

func dropCachedTree(t *testing.T, root string) {
	t.Helper()
	forEachFile(t, root, func(_ string, f *sys.File, _ int64) {
		if err := f.DropCached(0, 0); err != nil {
			t.Fatal(err)
		}
	})
}

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
		if err == nil {
			do(path, f, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

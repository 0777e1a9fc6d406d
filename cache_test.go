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
	testkit.NeedRoot(t)
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		for _, engine := range []copier.Engine{copier.Auto, copier.Direct, copier.Buffered, copier.Range} {
			t.Run(kind+" "+string(engine), func(t *testing.T) {
				s := newSite(t, testkit.Mount(t, kind, 400<<20), testkit.Mount(t, kind, 400<<20))
				testkit.Apply(t, s.source, testkit.File("large", 40<<20+1, 1), testkit.File("used-large", 9<<20, 2))
				testkit.Apply(t, s.source, manyFiles(3, 800)...)
				testkit.Apply(t, s.source, testkit.File("d/middling", 900_000, 4))
				for i := range 60 {
					testkit.Apply(t, s.source, testkit.File(fmt.Sprintf("d/used-small-%d", i), 10_000, uint64(i)))
				}
				unix.Sync()
				before := useSome(t, s.source)
				if _, err := s.ensure(t.Context(), func(o *shardtossd.Options) { o.Engine = engine }); err != nil {
					t.Fatal(err)
				}
				after, copied := inPageCache(t, s.source), inPageCache(t, s.published())
				used := useSome(t, s.published())
				if _, err := shardtossd.Verify(t.Context(), s.options()); err != nil {
					t.Fatal(err)
				}
				verified := inPageCache(t, s.published())
				if verified.large*4 < used.large*3 || verified.small*4 < used.small*3 || (verified.others-used.others)*50 > used.all {
					t.Errorf("after a verification is cached of the copy: %+v, was: %+v", verified, used)
				}
				// A kernel that reclaims by itself (DAMON) takes some per cent in five seconds;
				// to forget one block would take 4/9 of what is used of the large file.
				if after.large*4 < before.large*3 || after.small*4 < before.small*3 {
					t.Errorf("of what services use is cached: %+v, was: %+v", after, before)
				}
				source, published := after.others-before.others, copied.large+copied.small+copied.others
				if (source+published)*100 > 2*after.all {
					t.Errorf("%d bytes of the source and %d of the copy were left in the page cache, of %d each", source, published, after.all)
				}
				s.released()
			})
		}
	}
}

// cached is what of a tree is in the page cache, in bytes: of the files that services
// use, large and small, and of all others; and how long all files are together.
type cached struct{ large, small, others, all int64 }

func inPageCache(t *testing.T, root string) (c cached) {
	t.Helper()
	eachFile(t, root, func(path string, f *sys.File, size int64) {
		n, err := f.Cached(0, size)
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

// useSome has the files of services in the page cache, and no others.
func useSome(t *testing.T, root string) cached {
	t.Helper()
	forgetAll(t, root)
	eachFile(t, root, func(path string, _ *sys.File, _ int64) {
		if strings.Contains(path, "used-") {
			if _, err := os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
	})
	c := inPageCache(t, root)
	if c.large == 0 || c.small == 0 || c.others*100 > c.all {
		t.Fatalf("before the copy are cached: %+v", c)
	}
	return c
}

func forgetAll(t *testing.T, root string) {
	t.Helper()
	eachFile(t, root, func(_ string, f *sys.File, _ int64) {
		if err := f.Forget(0, 0); err != nil {
			t.Fatal(err)
		}
	})
}

func eachFile(t *testing.T, root string, do func(path string, f *sys.File, size int64)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := sys.Open(path, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // opened for reading
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

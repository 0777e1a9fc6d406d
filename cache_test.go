package shardtossd_test

import (
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
				testkit.Apply(t, s.source, manyFiles(3, 300)...)
				testkit.Apply(t, s.source, testkit.File("d/used-small", 10_000, 3), testkit.File("d/middling", 900_000, 4))
				unix.Sync()
				forgetAll(t, s.source)
				for _, used := range []string{"used-large", "d/used-small"} { // by a service
					if _, err := os.ReadFile(filepath.Join(s.source, used)); err != nil {
						t.Fatal(err)
					}
				}
				used, _, _ := inPageCache(t, s.source)
				if _, err := s.ensure(t.Context(), func(o *shardtossd.Options) { o.Engine = engine }); err != nil {
					t.Fatal(err)
				}
				if _, err := shardtossd.Verify(t.Context(), s.options()); err != nil {
					t.Fatal(err)
				}
				still, strange, all := inPageCache(t, s.source)
				// A kernel that reclaims by itself (DAMON) took 1.5 % in five seconds.
				if still*100 < used*95 || used == 0 {
					t.Errorf("of what services use %d bytes are cached, were %d", still, used)
				}
				copied, more, _ := inPageCache(t, s.published())
				if left := strange + more + copied; left*100 > 2*all {
					t.Errorf("%d bytes of the source and %d of the copy were left in the page cache, of %d each", strange, more+copied, all)
				}
				s.released()
			})
		}
	}
}

// inPageCache counts the bytes below root that are in the page cache: of files that
// services use, and of others; and all bytes.
func inPageCache(t *testing.T, root string) (used, others, all int64) {
	t.Helper()
	eachFile(t, root, func(path string, f *sys.File, size int64) {
		n, err := f.Cached(0, size)
		if err != nil {
			t.Fatal(err)
		}
		all += size
		if strings.Contains(path, "used-") {
			used += n
		} else {
			others += n
		}
	})
	return used, others, all
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

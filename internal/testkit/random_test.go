package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func randomTree(t *testing.T, in FS, name string, seed uint64, opt RandomOptions) string {
	t.Helper()
	dir := filepath.Join(in.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	RandomTree(t, dir, seed, opt)
	return dir
}

// The tree of the first file system is made again on each. So the test shows that a seed
// always makes the same tree, and that each file system keeps everything in it.
func TestRandomIsTheSameEverywhere(t *testing.T) {
	systems := FileSystems(t)
	var dirs []string
	for _, system := range systems {
		dirs = append(dirs, system.Dir)
	}
	has := ProbeFeatures(t, dirs...)
	opt := RandomOptions{Features: &has, Special: true}
	original := randomTree(t, systems[0], "original", 1, opt)
	for _, system := range systems {
		t.Run(system.Name, func(t *testing.T) {
			ExpectSame(t, original, randomTree(t, system, "again", 1, opt))
		})
	}
	other := randomTree(t, systems[0], "other", 2, opt)
	if len(CompareTrees(original, other)) == 0 {
		t.Error("another seed made the same tree")
	}
}

func TestRandomCopiedByRsync(t *testing.T) {
	RequireRoot(t) // without root, rsync fails in a directory that is not writable
	RequireTools(t, "rsync")
	for i, system := range FileSystems(t) {
		t.Run(system.Name, func(t *testing.T) {
			original := randomTree(t, system, "original", uint64(i), RandomOptions{Shallow: true, Special: true})
			b := filepath.Join(system.Dir, "copy")
			RunCommand(t, "rsync", "-aHAX", "--sparse", original+"/", b+"/")
			// rsync extends a file while it writes, and XFS then preallocates space.
			opt := CompareOptions{}
			if system.Name == "xfs" {
				opt.SparseSlack = -1
			}
			wantLines(t, CompareTreesWith(opt, original, b), nil)
		})
	}
}

func TestRandomCopiedByCp(t *testing.T) {
	system := FS{"tempdir", t.TempDir()}
	original := randomTree(t, system, "original", 5, RandomOptions{Shallow: true, Special: true})
	b := filepath.Join(system.Dir, "copy")
	MakeRemovable(t, b)
	RunCommand(t, "cp", "-a", "--reflink=never", "--sparse=always", original, b)
	wantLines(t, CompareTreesWith(CompareOptions{SparseSlack: -1}, original, b), nil)
}

func TestRandomHasEverything(t *testing.T) {
	system := FileSystems(t)[0]
	root := randomTree(t, system, "tree", 3, RandomOptions{Special: true})
	tree := SnapshotTree(root)
	missing := map[string]bool{}
	for _, feature := range wantedInRandom() {
		missing[feature] = true
	}
	for name, fact := range tree {
		delete(missing, fact.Kind)
		delete(missing, fmt.Sprintf("%s %04o", fact.Kind, fact.Mode))
		delete(missing, fmt.Sprint("size ", fact.Size))
		if len(name) > unix.PathMax && fact.Kind == "regular file" {
			delete(missing, "beyond PATH_MAX")
		}
		if fact.Mtime.Sec < 0 && fact.Mtime.Nsec > 0 {
			delete(missing, "before 1970")
		}
		if fact.Mtime.Sec > 1<<32 {
			delete(missing, "after 2106")
		}
		if fact.Err != "" {
			t.Errorf("%q: %s", name, fact.Err)
		}
	}
	for feature := range missing {
		t.Errorf("none of %d entries is or has: %s", len(tree), feature)
	}
	t.Logf("%d entries", len(tree))
}

func wantedInRandom() []string {
	list := []string{
		"regular file", "directory", "symbolic link", "FIFO", "socket", "beyond PATH_MAX", "before 1970", "after 2106",
		"size 0", "size 1", "size 511", "size 512", "size 4095", "size 4096", "size 4097",
		"size 1048576", "size 4194303", "size 4194304", "size 4194305",
		"regular file 0400", "regular file 0444", "directory 0555",
	}
	if isRoot() {
		list = append(list, "character device", "regular file 0000", "directory 0000", "regular file 7777", "directory 3777")
	}
	return list
}

func TestNamesAreUsed(t *testing.T) {
	dir := t.TempDir()
	RandomTree(t, dir, 4, RandomOptions{Shallow: true})
	var names []string
	for name := range SnapshotTree(dir) {
		names = append(names, filepath.Base(name))
	}
	for _, odd := range oddNames() {
		if !slices.Contains(names, odd) {
			t.Errorf("no entry is called %q", odd)
		}
	}
}

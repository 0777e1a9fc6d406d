package shardtossd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// Other copiers had bugs with the trees in this file. The tests show them without system calls
// that fail on demand.

// A file with three names is copied once, and has three names in the copy. Names outside
// the shard do not count.
func TestHardLinksAreNotDuplicated(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, testkit.File("large", 9*mebi, 1), testkit.Hardlink("large", "a/b/second"), testkit.Hardlink("large", "z"),
		testkit.TextFile("small", "x"), testkit.Hardlink("small", "a/small"), testkit.Hardlink("small", "../outside"))
	r := s.mustCopy()
	if r.Files != 2 || r.Bytes != 9*mebi+1 {
		t.Errorf("got %d files and %d bytes, want 2 and %d", r.Files, r.Bytes, 9*mebi+1)
	}
	for name, want := range map[string]uint64{"z": 3, "small": 2} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(s.publishedPath(), name), &st); err != nil || uint64(st.Nlink) != want {
			t.Errorf("hard links of %q: got %d, want %d (%v)", name, st.Nlink, want, err)
		}
	}
	s.mustRelease()
}

// A Go module cache has read-only directories with read-only files. A copy makes entries in
// each directory many times before it sets the time of the directory.
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
		if has.UserXattrs { // setting them needs write permission
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
	// The first copy is interrupted when everything is copied. The second one finds read-only
	// directories in the stage.
	s.interruptCopy(cancelAtCall(3, (*hook).atReadBack))
	s.mustCopy()
	s.mustRelease()
}

// A directory with very many files is copied completely.
func TestManyFilesInOneDirectory(t *testing.T) {
	const count = 20_000
	// The file system must be new: ext4 avoids inode numbers that were just freed, and
	// finding others is slow. Other tests free inodes all the time.
	systems := testkit.FileSystemsOf(t, 400*mebi)
	fresh := systems[len(systems)-1].Dir
	s := newSite(t, fresh, fresh)
	for i := range count {
		path := filepath.Join(s.source, fmt.Sprintf("file %d", i))
		if err := os.WriteFile(path, fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.mustCopy(); r.Files != count {
		t.Errorf("got %d files, want %d", r.Files, count)
	}
	s.mustRelease()
}

// A path may be longer than PATH_MAX, because a copy opens one directory of it at a time.
func TestPathBeyondTheLimit(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	dir := strings.Repeat(strings.Repeat("d", 250)+"/", 40)
	testkit.Apply(t, s.source, testkit.File(dir+"large", 5*mebi, 1), testkit.TextFile(dir+"small", "x"),
		testkit.Hardlink(dir+"large", dir+"linked"), testkit.Symlink("small", dir+"link"), testkit.Dir(dir+"empty", 0o755))
	copyAndCheck(s)
	s.interruptCopy(cancelAtCall(2, (*hook).atReadBack))
	if r := s.mustCopy(); r.ResumedBytes == 0 {
		t.Error("got no bytes resumed, want some")
	}
	s.mustRelease()
}

// Sockets, FIFOs and devices are refused before any file is copied, and the error names them.
func TestSpecialFilesAreRefused(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	steps := []testkit.Step{testkit.TextFile("a", "x"), testkit.Socket("dir/socket")}
	for i := range 12 {
		steps = append(steps, testkit.FIFO(fmt.Sprintf("pipe%02d", i)))
	}
	testkit.Apply(t, s.source, steps...)
	begun := onceCopied(func() { t.Error("a file was copied, want an error before") })
	_, err := s.runEnsure(t.Context(), withObserver(begun))
	if !errors.Is(err, copier.ErrUnsupportedEntry) {
		t.Fatalf("Ensure: got %v, want %v", err, copier.ErrUnsupportedEntry)
	}
	for _, part := range []string{"13 other entries", `"pipe00" (FIFO)`, `"pipe09"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error: got %q, want one with %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "pipe10") {
		t.Errorf("got an error that names more than ten entries: %q", err)
	}
	s.expectNothingLeft()
}

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

// Other copiers had bugs with these trees. Each test here shows one without a call that fails on demand.

// Three names are one file in the copy, which is copied once; names outside the
// shard do not count.
func TestHardLinksAreNotDuplicated(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, testkit.File("large", 9*mebi, 1), testkit.Hardlink("large", "a/b/second"), testkit.Hardlink("large", "z"),
		testkit.TextFile("small", "x"), testkit.Hardlink("small", "a/small"), testkit.Hardlink("small", "../outside"))
	r := s.mustCopy()
	if r.Files != 2 || r.Bytes != 9*mebi+1 {
		t.Errorf("%d files and %d bytes, want 2 and %d", r.Files, r.Bytes, 9*mebi+1)
	}
	for name, want := range map[string]uint64{"z": 3, "small": 2} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(s.publishedPath(), name), &st); err != nil || uint64(st.Nlink) != want {
			t.Errorf("%q has %d names, want %d (%v)", name, st.Nlink, want, err)
		}
	}
	s.mustRelease()
}

// A Go module cache has read-only directories and files in them, and entries are
// made in each directory again and again until its time is set at last.
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
		if has.UserXattrs { // which take write permission to set
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
	// Interrupted when all is copied, the second copy meets them in the stage.
	s.interruptCopy(cancelAtCall(3, (*hook).atReadBack))
	s.mustCopy()
	s.mustRelease()
}

func TestManyFilesInOneDirectory(t *testing.T) {
	const count = 20_000
	// On a file system that is fresh: ext4 avoids inode numbers that were just
	// freed, which other tests have done all the time, and takes its time for it.
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
		t.Errorf("%d files, want %d", r.Files, count)
	}
	s.mustRelease()
}

// Each directory is opened by one name at a time, whatever the path is long.
func TestPathBeyondTheLimit(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	dir := strings.Repeat(strings.Repeat("d", 250)+"/", 40)
	testkit.Apply(t, s.source, testkit.File(dir+"large", 5*mebi, 1), testkit.TextFile(dir+"small", "x"),
		testkit.Hardlink(dir+"large", dir+"linked"), testkit.Symlink("small", dir+"link"), testkit.Dir(dir+"empty", 0o755))
	copyAndCheck(s)
	s.interruptCopy(cancelAtCall(2, (*hook).atReadBack))
	if r := s.mustCopy(); r.ResumedBytes == 0 {
		t.Error("nothing was kept")
	}
	s.mustRelease()
}

// Sockets, FIFOs and devices are refused before a byte is copied, and named.
func TestSpecialFilesAreRefused(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	steps := []testkit.Step{testkit.TextFile("a", "x"), testkit.Socket("dir/socket")}
	for i := range 12 {
		steps = append(steps, testkit.FIFO(fmt.Sprintf("pipe%02d", i)))
	}
	testkit.Apply(t, s.source, steps...)
	begun := onceCopied(func() { t.Error("something was copied") })
	_, err := s.runEnsure(t.Context(), withObserver(begun))
	if !errors.Is(err, copier.ErrUnsupportedEntry) {
		t.Fatalf("Ensure: %v", err)
	}
	for _, part := range []string{"13 other entries", `"pipe00" (FIFO)`, `"pipe09"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if strings.Contains(err.Error(), "pipe10") {
		t.Errorf("more than ten are named: %q", err)
	}
	s.expectNothingLeft()
}

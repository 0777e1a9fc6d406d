package shardtossd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// fillFileSystem takes what a file system has left: all space, or all inodes.
func fillFileSystem(t testing.TB, dir string, inodes bool) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	if err := os.Mkdir(filler, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil; i++ {
		path := filepath.Join(filler, fmt.Sprint(i))
		if inodes {
			err = os.WriteFile(path, nil, 0o600)
		} else {
			err = fillWithFile(path)
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// fillWithFile fills a file until there is no more space, in ever smaller pieces.
func fillWithFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := make([]byte, mebi)
	off := int64(0)
	for len(piece) > 0 {
		n, err := f.WriteAt(piece, off)
		off += int64(n)
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			return err
		}
		if err != nil {
			piece = piece[:len(piece)/2]
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.ENOSPC
}

func removeFiller(s *site) {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.ssd, "filler")); err != nil {
		s.t.Fatal(err)
	}
	s.expectNothingLeft()
}

// Somebody else fills the SSD while a copy that would have fitted is under way.
func TestDiskFillsUpWhileCopied(t *testing.T) {
	testkit.RequireRoot(t)
	var small []testkit.Step
	for i := range 400 {
		small = append(small, testkit.File(fmt.Sprintf("dir%d/%d", i%7, i), 40_000, uint64(i)))
	}
	large := []testkit.Step{testkit.File("large", 17*mebi, 1), testkit.File("larger", 18*mebi, 1)}
	sparse := []testkit.Step{testkit.Sparse("sparse", 64*mebi, []testkit.Extent{{Off: 0, Len: 16 * mebi}, {Off: 40 * mebi, Len: 16 * mebi}})}
	for _, c := range []struct {
		name, system string
		size         int64
		steps        []testkit.Step
		inodes       bool
	}{
		{"small files", "ext4", 64 * mebi, small, false},
		{"small files", "tmpfs", 64 * mebi, small, false},
		{"small files", "btrfs", 256 * mebi, small, false},
		{"inodes", "ext4", 64 * mebi, small, true},
		{"large files", "ext4", 64 * mebi, large, false},
		{"large files", "tmpfs", 64 * mebi, large, false},
		{"sparse file", "ext4", 64 * mebi, sparse, false},
		{"sparse file", "tmpfs", 64 * mebi, sparse, false},
	} {
		t.Run(fmt.Sprint(c.name, " on ", c.system), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, c.size)
			testkit.Apply(t, s.source, c.steps...)
			full := onceCopied(func() { fillFileSystem(t, s.ssd, c.inodes) })
			r, err := s.runEnsure(t.Context(), withObserver(full), withJobs(1))
			if !errors.Is(err, shardtossd.ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
				t.Errorf("Ensure: %+v, %v", r, err)
			}
			removeFiller(s)
			copyAndCheck(s)
		})
	}
}

// What does not fit from the beginning is not begun.
func TestTooLittleSpace(t *testing.T) {
	testkit.RequireRoot(t)
	var empty []testkit.Step
	for i := range 3000 {
		empty = append(empty, testkit.TextFile(fmt.Sprintf("%02d/%d", i%50, i), ""))
	}
	for _, c := range []struct {
		name, system string
		size         int64
		steps        []testkit.Step
		inodes       bool
	}{
		{"bytes", "ext4", 32 * mebi, []testkit.Step{testkit.File("a", 20*mebi, 1), testkit.File("b", 20*mebi, 1)}, false},
		{"bytes", "tmpfs", 32 * mebi, []testkit.Step{testkit.File("a", 20*mebi, 1), testkit.File("b", 20*mebi, 1)}, false},
		{"inodes", "ext4", 8 * mebi, empty, true},
	} {
		t.Run(fmt.Sprint(c.name, " on ", c.system), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, c.size)
			testkit.Apply(t, s.source, c.steps...)
			begun := onceCopied(func() { t.Error("something was copied") })
			_, err := s.runEnsure(t.Context(), withObserver(begun))
			var space *copier.SpaceError
			if !errors.Is(err, shardtossd.ErrNoSpace) || !errors.As(err, &space) {
				t.Fatalf("Ensure: %v", err)
			}
			numbers := []int64{space.Need, space.Free}
			if c.inodes {
				numbers = []int64{space.NeedInodes, space.FreeInodes}
			}
			if numbers[0] <= numbers[1] || numbers[1] <= 0 {
				t.Errorf("needs %d, free are %d", numbers[0], numbers[1])
			}
			for _, n := range numbers {
				if !strings.Contains(err.Error(), fmt.Sprint(n)) {
					t.Errorf("%d is not in %q", n, err)
				}
			}
			s.expectNothingLeft()
		})
	}
}

// A file system that is full to its last byte or inode when the copy begins is the
// same failure, with the same status.
func TestFullFromTheBeginning(t *testing.T) {
	testkit.RequireRoot(t)
	for _, c := range []struct {
		system string
		inodes bool
	}{{"ext4", false}, {"ext4", true}, {"tmpfs", false}} {
		t.Run(fmt.Sprint(c.system, ", inodes: ", c.inodes), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, 16*mebi)
			testkit.Apply(t, s.source, testkit.TextFile("file", "x"))
			fillFileSystem(t, s.ssd, c.inodes)
			if _, err := s.runEnsure(t.Context()); !errors.Is(err, shardtossd.ErrNoSpace) {
				t.Errorf("Ensure: %v", err)
			}
			removeFiller(s)
			copyAndCheck(s)
		})
	}
}

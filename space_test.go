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

// useAllSpace uses up all free space of a file system.
func useAllSpace(t testing.TB, dir string) {
	t.Helper()
	makeFillers(t, dir, fillWithFile)
}

// useAllInodes uses up all free inodes of a file system.
func useAllInodes(t testing.TB, dir string) {
	t.Helper()
	makeFillers(t, dir, func(path string) error { return os.WriteFile(path, nil, 0o600) })
}

// makeFillers makes files in a directory "filler" until it gets the error ENOSPC.
func makeFillers(t testing.TB, dir string, makeFile func(path string) error) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	if err := os.Mkdir(filler, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil; i++ {
		err = makeFile(filepath.Join(filler, fmt.Sprint(i)))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// fillWithFile writes a file in smaller and smaller pieces until no space is left. It returns
// ENOSPC then.
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

// removeFiller removes the files of makeFillers and checks that nothing else is left.
func removeFiller(s *site) {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.ssd, "filler")); err != nil {
		s.t.Fatal(err)
	}
	s.expectNothingLeft()
}

// Another process fills the SSD during a copy that had enough space when it began.
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
		fill         func(t testing.TB, dir string)
	}{
		{"small files", "ext4", 64 * mebi, small, useAllSpace},
		{"small files", "tmpfs", 64 * mebi, small, useAllSpace},
		{"small files", "btrfs", 256 * mebi, small, useAllSpace},
		{"inodes", "ext4", 64 * mebi, small, useAllInodes},
		{"large files", "ext4", 64 * mebi, large, useAllSpace},
		{"large files", "tmpfs", 64 * mebi, large, useAllSpace},
		{"sparse file", "ext4", 64 * mebi, sparse, useAllSpace},
		{"sparse file", "tmpfs", 64 * mebi, sparse, useAllSpace},
	} {
		t.Run(fmt.Sprint(c.name, " on ", c.system), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, c.size)
			testkit.Apply(t, s.source, c.steps...)
			full := onceCopied(func() { c.fill(t, s.ssd) })
			r, err := s.runEnsure(t.Context(), withObserver(full), withJobs(1))
			if !errors.Is(err, shardtossd.ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
				t.Errorf("Ensure: got %+v, %v, want %v", r, err, shardtossd.ErrNoSpace)
			}
			removeFiller(s)
			copyAndCheck(s)
		})
	}
}

// A shard that is too large for the free space is refused before the copy begins.
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
			begun := onceCopied(func() { t.Error("a file was copied, want an error before") })
			_, err := s.runEnsure(t.Context(), withObserver(begun))
			var space *copier.SpaceError
			if !errors.Is(err, shardtossd.ErrNoSpace) || !errors.As(err, &space) {
				t.Fatalf("Ensure: got %v, want %v", err, shardtossd.ErrNoSpace)
			}
			numbers := []int64{space.Need, space.Free}
			if c.inodes {
				numbers = []int64{space.NeedInodes, space.FreeInodes}
			}
			if numbers[0] <= numbers[1] || numbers[1] <= 0 {
				t.Errorf("got %d needed and %d free, want more needed than free, and some free", numbers[0], numbers[1])
			}
			for _, n := range numbers {
				if !strings.Contains(err.Error(), fmt.Sprint(n)) {
					t.Errorf("error: got %q, want one with %d", err, n)
				}
			}
			s.expectNothingLeft()
		})
	}
}

// A file system without one free byte or inode at the beginning gives the same error as one
// with too little space.
func TestFullFromTheBeginning(t *testing.T) {
	testkit.RequireRoot(t)
	for _, c := range []struct {
		name, system string
		fill         func(t testing.TB, dir string)
	}{{"space", "ext4", useAllSpace}, {"inodes", "ext4", useAllInodes}, {"space", "tmpfs", useAllSpace}} {
		t.Run(fmt.Sprint(c.name, " on ", c.system), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			s.ssd = testkit.Mount(t, c.system, 16*mebi)
			testkit.Apply(t, s.source, testkit.TextFile("file", "x"))
			c.fill(t, s.ssd)
			if _, err := s.runEnsure(t.Context()); !errors.Is(err, shardtossd.ErrNoSpace) {
				t.Errorf("Ensure: got %v, want %v", err, shardtossd.ErrNoSpace)
			}
			removeFiller(s)
			copyAndCheck(s)
		})
	}
}

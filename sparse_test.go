package shardtossd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// Offsets and lengths of these files do not fit into 31 or 32 bits.
func TestHugeFiles(t *testing.T) {
	edges := func(at ...int64) (x []testkit.Extent) {
		for _, off := range at {
			x = append(x, testkit.Extent{Off: off, Len: 3})
		}
		return x
	}
	const two, four = 2 << 30, 4 << 30
	for _, e := range []copier.Engine{copier.Auto, copier.Range} {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			testkit.Apply(t, s.source,
				testkit.Sparse("2 GiB and a bit", two+2, edges(0, two-1)),
				testkit.Sparse("4 GiB and a bit", four+5*mebi+1, edges(two-2, two+4096, four-1, four+5*mebi-2)))
			r, err := s.runEnsure(t.Context(), withEngine(e))
			if err != nil || r.Bytes != two+2+four+5*mebi+1 {
				t.Fatalf("Ensure: got %+v, %v, want %d bytes", r, err, int64(two+2+four+5*mebi+1))
			}
			for _, name := range []string{"2 GiB and a bit", "4 GiB and a bit"} {
				expectSameData(t, filepath.Join(s.source, name), filepath.Join(s.publishedPath(), name))
			}
			if e == copier.Auto {
				s.mustVerify()
			}
			s.mustRelease()
		})
	}
}

// expectSameData compares two files that consist mostly of holes. It reads only their data.
func expectSameData(t *testing.T, a, b string) {
	t.Helper()
	var files [2]*os.File
	var extents [2][]testkit.Extent
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i], extents[i] = f, dataExtents(t, f)
	}
	if !slices.Equal(extents[0], extents[1]) {
		t.Fatalf("extents of the copy of %s: got %v, want %v", a, extents[1], extents[0])
	}
	for _, x := range extents[0] {
		var bytes [2][]byte
		for i, f := range files {
			bytes[i] = make([]byte, x.Len)
			if _, err := f.ReadAt(bytes[i], x.Off); err != nil {
				t.Fatal(err)
			}
		}
		if string(bytes[0]) != string(bytes[1]) {
			t.Errorf("%s and its copy differ in the %d bytes at %d", a, x.Len, x.Off)
		}
	}
}

// dataExtents returns the data extents of a file. The last extent has length 0 and begins at
// the end of the file.
func dataExtents(t *testing.T, f *os.File) (data []testkit.Extent) {
	t.Helper()
	size, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); ; {
		from, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return append(data, testkit.Extent{Off: size})
		}
		if err != nil {
			t.Fatal(err)
		}
		if off, err = f.Seek(from, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		data = append(data, testkit.Extent{Off: from, Len: off - from})
	}
}

// Data that is only in memory, or was written over reserved space, must not be taken for a
// hole. Holes stay holes.
func TestNoFalseHoles(t *testing.T) {
	const size = 12 * mebi
	for _, system := range testkit.FileSystemsOf(t, 400*mebi) {
		for _, e := range []copier.Engine{copier.Auto, copier.Direct, copier.Buffered} {
			t.Run(fmt.Sprint(system.Name, " ", e), func(t *testing.T) {
				s := newSite(t, system.Dir, system.Dir)
				path := func(name string) string { return filepath.Join(s.source, name) }
				reserveSpace(t, createWithText(t, path("written, then reserved"), size, "data", 5*mebi+1, size-4), 0, size)
				reserveSpace(t, createWithText(t, path("reserved at the start"), size, "data", mebi/2, 7*mebi), unix.FALLOC_FL_KEEP_SIZE, mebi)
				createWithText(t, path("not synced"), size, "data", 4*mebi-2, 8*mebi+4095, size-4).Close()
				createWithText(t, path("appended to"), 0, "data", size-4).Close()
				createWithText(t, path("small"), 100_000, "data", 50_000).Close()
				defer writeThroughMapping(t, path("mapped"), size, "data", 0, 4*mebi-2, size-4)()
				defer writeThroughMapping(t, path("small mapped"), 60_000, "data", 30_000)()
				copyAndCheck(s, withEngine(e))
			})
		}
	}
}

// createWithText creates a file of the given length and writes the text at each offset. It
// does not sync the file.
func createWithText(t *testing.T, path string, length int64, text string, at ...int64) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(length); err != nil {
		t.Fatal(err)
	}
	for _, off := range at {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// reserveSpace reserves space for the first bytes of a file, and closes the file.
func reserveSpace(t *testing.T, f *os.File, mode uint32, length int64) {
	t.Helper()
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), mode, 0, length); err != nil {
		t.Fatal(err)
	}
}

// writeThroughMapping creates a file and writes the text at each offset through a shared
// mapping, which exists until the caller calls unmap.
func writeThroughMapping(t *testing.T, path string, length int, text string, at ...int) (unmap func()) {
	t.Helper()
	f := createWithText(t, path, int64(length), "")
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range at {
		copy(m[off:], text)
	}
	return func() { _ = unix.Munmap(m) }
}

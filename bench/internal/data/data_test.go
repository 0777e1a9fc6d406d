package data

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"shard_to_ssd/internal/sys"
)

func openDir(t *testing.T, path string) *sys.File {
	t.Helper()
	d, err := sys.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// readAllFiles returns the contents of all files below dir, by path.
func readAllFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		below, _ := filepath.Rel(dir, path)
		found[below] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDataIsIncompressibleAndUnique(t *testing.T) {
	seen := map[string]string{}
	for _, w := range Workloads(16 << 20) {
		dir := t.TempDir()
		if err := w.WriteFiles(t.Context(), openDir(t, dir), 1, 4, nil); err != nil {
			t.Fatal(err)
		}
		for path, text := range readAllFiles(t, dir) {
			var short bytes.Buffer
			to, _ := flate.NewWriter(&short, flate.BestCompression)
			to.Write(text)
			to.Close()
			if short.Len() < len(text) {
				t.Errorf("%s/%s: %d bytes can be compressed to %d", w.Name, path, len(text), short.Len())
			}
			for off := 0; off+4096 <= len(text); off += 4096 {
				page, place := string(text[off:off+4096]), w.Name+"/"+path
				if other, equal := seen[page]; equal {
					t.Fatalf("%s: the page at %d equals %s", place, off, other)
				}
				seen[page] = place
			}
		}
	}
}

func TestWriteFilesMakesTheWorkload(t *testing.T) {
	w := Workload{Name: "odd", Groups: []Group{
		{"large", 0, 2, directFrom, directFrom + 12345}, {"small", 3, 10, 0, 9000}}}
	dir := t.TempDir()
	reported := int64(0)
	if err := w.WriteFiles(t.Context(), openDir(t, dir), 7, 1, func(n int64) { reported += n }); err != nil {
		t.Fatal(err)
	}
	found := readAllFiles(t, dir)
	total := w.AddUp(7)
	files, size := total.Files, total.Bytes
	if int64(len(found)) != files || reported != size || files != 12 {
		t.Errorf("got %d files and %d bytes reported, want %d and %d", len(found), reported, files, size)
	}
	for number, f := range w.EachFile(7) {
		want := make([]byte, f.Size)
		Fill(want, 7^nameSeed("odd"), number, 0)
		if got, exists := found[filepath.Join(f.Dir, f.Name)]; !exists || !bytes.Equal(got, want) {
			t.Errorf("%s/%s: exists %v, got %d bytes, want %d, or the contents differ", f.Dir, f.Name, exists, len(got), f.Size)
		}
	}
}

// The contents of a file do not depend on the pieces in which Fill makes them.
func TestFillInPieces(t *testing.T) {
	whole, pieces := make([]byte, 1<<20), make([]byte, 1<<20)
	Fill(whole, 3, 4, 1<<30)
	for off := 0; off < len(pieces); off += 48 << 10 {
		Fill(pieces[off:min(off+48<<10, len(pieces))], 3, 4, 1<<30+int64(off))
	}
	if !bytes.Equal(whole, pieces) {
		t.Error("the pieces differ from the whole file")
	}
}

func TestWriteFilesStopsWithItsContext(t *testing.T) {
	why := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := Workloads(256 << 20)[0].WriteFiles(ctx, openDir(t, t.TempDir()), 1, 1, func(int64) { cancel(why) })
	if !errors.Is(err, why) {
		t.Errorf("got error %v, want %v", err, why)
	}
}

func BenchmarkFill(b *testing.B) {
	buf := make([]byte, 4<<20)
	b.SetBytes(int64(len(buf)))
	for i := range b.N {
		Fill(buf, 1, uint64(i), 0)
	}
}

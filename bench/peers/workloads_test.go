package peers

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

func TestWorkloadsAreReproducible(t *testing.T) {
	w := workload{"w", []batch{equalFiles("segment", 2, 3*mib+5), smallFiles("small", 3, 20)}}
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for _, dir := range []string{a, b} {
		if err := w.createShard(dir); err != nil {
			t.Fatal(err)
		}
	}
	testkit.RunCommand(t, "diff", "-r", a, b)

	var count int
	var bytes int64
	parents := map[string]bool{}
	err := walkFiles(a, func(path string) error {
		info, err := os.Stat(path)
		count, bytes = count+1, bytes+info.Size()
		if parent := filepath.Base(filepath.Dir(path)); parent != "a" {
			parents[parent] = true
			if info.Size() < 1_000 || info.Size() > 20_000 {
				t.Errorf("%s: got %d bytes, want 1,000 to 20,000", path, info.Size())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if count != w.fileCount() || bytes != w.totalBytes() || len(parents) != 3 {
		t.Errorf("got %d files of %d bytes in %d directories, want %d of %d in 3", count, bytes, len(parents), w.fileCount(), w.totalBytes())
	}
}

func TestSparseWorkload(t *testing.T) {
	huge := equalFiles("huge", 1, 4*sparseUnit)
	huge.stored = 4
	w := workload{"sparse", []batch{huge}}
	dir := filepath.Join(t.TempDir(), "w")
	if err := w.createShard(dir); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "huge0000000"), &st); err != nil {
		t.Fatal(err)
	}
	if stored := st.Blocks * 512; st.Size != 4*sparseUnit || stored < sparseUnit || stored > sparseUnit+mib {
		t.Errorf("got %d bytes, %d stored, want %d and a quarter of it", st.Size, stored, 4*sparseUnit)
	}
	if got := w.diskSpace(); got < sparseUnit || got > sparseUnit+mib {
		t.Errorf("disk space: got %d, want about %d", got, sparseUnit)
	}
}

// A disk must not be able to compress the noise.
func TestNoiseHasNoPattern(t *testing.T) {
	buf := make([]byte, mib+3)
	fillNoise(buf, seededRandom("x"))
	var counts [256]int
	for _, b := range buf {
		counts[b]++
	}
	if least, most := slices.Min(counts[:]), slices.Max(counts[:]); least < 3500 || most > 4700 {
		t.Errorf("got %d to %d of each byte, want about 4096", least, most)
	}
	if string(buf[:4096]) == string(buf[4096:8192]) {
		t.Error("got two equal blocks, want different ones")
	}
}

// The test gives the times, instead of a clock.
func TestBucketKeepsItsRate(t *testing.T) {
	b := bucket{rate: 1_000_000}
	now := time.Unix(1000, 0)
	if got, want := b.reserveBytes(100_000, now), 100*time.Millisecond-mostBehind; got != want {
		t.Errorf("the first 100 ms of bytes: got %v, want %v", got, want)
	}
	if got, want := b.reserveBytes(100_000, now), 200*time.Millisecond-mostBehind; got != want {
		t.Errorf("another reader at the same time: got %v, want %v", got, want)
	}
	now = now.Add(10 * time.Second) // an idle bucket saves nothing up
	if got, want := b.reserveBytes(100_000, now), 100*time.Millisecond-mostBehind; got != want {
		t.Errorf("after a pause: got %v, want %v", got, want)
	}
}

func TestNotes(t *testing.T) {
	n, err := parseNotes("About all.\n\n## Row 3\n\nSlow.\nBecause.\n## Row 12\nx\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.addNote("3=More: this = that."); err != nil {
		t.Fatal(err)
	}
	for row, want := range map[int][]string{0: {"About all."}, 3: {"Slow.\nBecause.", "More: this = that."}, 12: {"x"}} {
		if !slices.Equal(n[row], want) {
			t.Errorf("row %d: got %q, want %q", row, n[row], want)
		}
	}
	for _, text := range []string{"## Rows\n", "## Row x\n", "## 3\n"} {
		if _, err := parseNotes(text); err == nil {
			t.Errorf("%q: got nil, want an error", text)
		}
	}
	for _, text := range []string{"3", "x=y", ""} {
		if err := n.addNote(text); err == nil {
			t.Errorf("--note %q: got nil, want an error", text)
		}
	}
}

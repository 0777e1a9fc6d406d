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

func TestWorkloadsAreTheSameEveryTime(t *testing.T) {
	w := workload{"w", []batch{equalFiles("segment", 2, 3*mib+5), smallFiles("small", 3, 20)}}
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for _, dir := range []string{a, b} {
		if err := w.createShard(dir); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Command(t, "diff", "-r", a, b)

	var count int
	var bytes int64
	parents := map[string]bool{}
	err := walkFiles(a, func(path string) error {
		info, err := os.Stat(path)
		count, bytes = count+1, bytes+info.Size()
		if parent := filepath.Base(filepath.Dir(path)); parent != "a" {
			parents[parent] = true
			if info.Size() < 1_000 || info.Size() > 20_000 {
				t.Errorf("%s: %d bytes, wanted 1,000 to 20,000", path, info.Size())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if count != w.fileCount() || bytes != w.totalBytes() || len(parents) != 3 {
		t.Errorf("%d files of %d bytes in %d directories, wanted %d of %d in 3", count, bytes, len(parents), w.fileCount(), w.totalBytes())
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
		t.Errorf("%d bytes, %d stored, wanted %d and a quarter of it", st.Size, stored, 4*sparseUnit)
	}
	if got := w.diskSpace(); got < sparseUnit || got > sparseUnit+mib {
		t.Errorf("space: got %d, wanted about %d", got, sparseUnit)
	}
}

// Noise must not be something that a disk can make smaller.
func TestNoiseHasNoPattern(t *testing.T) {
	buf := make([]byte, mib+3)
	fillNoise(buf, seededRandom("x"))
	var counts [256]int
	for _, b := range buf {
		counts[b]++
	}
	if least, most := slices.Min(counts[:]), slices.Max(counts[:]); least < 3500 || most > 4700 {
		t.Errorf("a byte occurs %d times, another %d: wanted about 4096 each", least, most)
	}
	if string(buf[:4096]) == string(buf[4096:8192]) {
		t.Error("two blocks are the same")
	}
}

// The bucket is asked as by a reader, with the clock in the test's hand.
func TestBucketKeepsItsRate(t *testing.T) {
	b := bucket{rate: 1_000_000}
	now := time.Unix(1000, 0)
	if got, want := b.reserveBytes(100_000, now), 100*time.Millisecond-mostBehind; got != want {
		t.Errorf("the first 100 ms of bytes: got %v, wanted %v", got, want)
	}
	if got, want := b.reserveBytes(100_000, now), 200*time.Millisecond-mostBehind; got != want {
		t.Errorf("somebody else's, at once: got %v, wanted %v", got, want)
	}
	now = now.Add(10 * time.Second) // nothing is saved up
	if got, want := b.reserveBytes(100_000, now), 100*time.Millisecond-mostBehind; got != want {
		t.Errorf("after a pause: got %v, wanted %v", got, want)
	}
}

func TestNotes(t *testing.T) {
	n, err := parseNotes("Of all.\n\n## Row 3\n\nSlow.\nBecause.\n## Row 12\nx\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.addNote("3=Also this = that."); err != nil {
		t.Fatal(err)
	}
	for row, want := range map[int][]string{0: {"Of all."}, 3: {"Slow.\nBecause.", "Also this = that."}, 12: {"x"}} {
		if !slices.Equal(n[row], want) {
			t.Errorf("row %d: got %q, wanted %q", row, n[row], want)
		}
	}
	for _, text := range []string{"## Rows\n", "## Row x\n", "## 3\n"} {
		if _, err := parseNotes(text); err == nil {
			t.Errorf("%q: wanted an error", text)
		}
	}
	for _, text := range []string{"3", "x=y", ""} {
		if err := n.addNote(text); err == nil {
			t.Errorf("--note %q: wanted an error", text)
		}
	}
}

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
)

func openDir(t testing.TB, path string) *sys.File {
	t.Helper()
	d, err := sys.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// newCeilings returns a ceilingBench that works in dir.
func newCeilings(t testing.TB, dir string, size int64) *ceilingBench {
	t.Helper()
	b := &ceilingBench{dir: openDir(t, dir), size: size, seed: 1, moved: func(int64) {}, useProcessors: func(n int) { runtime.GOMAXPROCS(n) }}
	if err := b.writeSource(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// Each Way moves every byte once, in requests of one block, and leaves only the file that
// it reads.
func TestCeilingMovesEveryByteOnce(t *testing.T) {
	dir := t.TempDir()
	b := newCeilings(t, dir, 8*mib)
	for _, c := range []struct {
		way   Way
		moved int64
	}{{Read, 8 * mib}, {Write, 8 * mib}, {Both, 16 * mib}} {
		moved := new(counter)
		b.moved = moved.add
		got := Ceiling{Way: c.way, Block: mib, Depth: 3}
		for range 2 {
			if err := b.addSample(t.Context(), &got); err != nil {
				t.Fatal(err)
			}
		}
		if moved.Load() != 2*c.moved || len(got.Rates) != 2 || got.Rates[0] <= 0 {
			t.Errorf("%s: moved %d bytes with rates %v, want 2 × %d bytes", c.way, moved.Load(), got.Rates, c.moved)
		}
		l := got.Latency[1]
		if l.Count != c.moved/mib || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max {
			t.Errorf("%s: wrong latency %+v, want %d requests and ascending percentiles", c.way, l, c.moved/mib)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("%s: left %v, want only the source", c.way, left)
		}
	}
}

// A stream writes all its data, and no two pieces of it are equal.
func TestStreamWritesNothingTwice(t *testing.T) {
	dir := openDir(t, t.TempDir())
	seen := map[string]string{}
	for stamp := range uint64(2) {
		name := fmt.Sprint("file", stamp)
		f, err := dir.OpenAt(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := newStream(streamConfig{f, Write, 4 * mib, 256 << 10, 4, stamp, func(int64) {}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		text, _ := os.ReadFile(filepath.Join(dir.Path(), name))
		if int64(len(text)) != 4*mib {
			t.Errorf("%s has %d bytes, want %d", name, len(text), 4*mib)
		}
		for i := 0; i+512 <= len(text); i += 512 {
			piece, place := string(text[i:i+512]), fmt.Sprint(name, " at ", i)
			if other, equal := seen[piece]; equal {
				t.Fatalf("%s equals %s", place, other)
			}
			seen[piece] = place
		}
	}
}

// The memory of a stream is a number of whole huge pages, even for small requests.
func TestStreamHasHugePages(t *testing.T) {
	for _, c := range []struct {
		block int64
		depth int
	}{{128 * kib, 1}, {128 * kib, 4}, {mib, 3}, {4 * mib, 16}} {
		s, err := newStream(streamConfig{nil, Read, 8 * mib, c.block, c.depth, 1, func(int64) {}})
		if err != nil {
			t.Fatal(err)
		}
		if have, want := int64(len(s.memory)), int64(c.depth)*c.block; have%hugePage != 0 || have < want || have >= want+hugePage {
			t.Errorf("depth %d, block %d: got %d bytes of memory, want at least %d in whole huge pages", c.depth, c.block, have, want)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// The ceilings equal those of fio for the same job, in which each thread waits for its
// request. The test compares the median ratio of samples that directly follow each other,
// because the rate of a shared disk changes within a minute. It runs only if
// SHARD_TO_SSD_MEASURE is set, and needs a machine without other load.
func TestCeilingsAreThoseOfFio(t *testing.T) {
	if os.Getenv("SHARD_TO_SSD_MEASURE") == "" {
		t.Log("skipped: SHARD_TO_SSD_MEASURE is not set")
		return
	}
	testkit.RequireTools(t, "fio")
	for _, c := range []struct {
		block int64
		depth int
		size  int64
	}{{128 * kib, 4, gib / 4}, {mib, 16, gib}, {4 * mib, 16, gib}} {
		dir := t.TempDir()
		b := newCeilings(t, dir, c.size)
		for _, way := range []Way{Read, Write, Both} {
			compareWithFio(t, b, Ceiling{Way: way, Block: c.block, Depth: c.depth})
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// compareWithFio measures a ceiling and fio in turn: A B, B A.
func compareWithFio(t *testing.T, b *ceilingBench, ours Ceiling) {
	t.Helper()
	const pairs = 12
	var theirs, ratios []float64
	measure := []func(){func() {
		if err := b.addSample(t.Context(), &ours); err != nil {
			t.Fatal(err)
		}
	}, func() { theirs = append(theirs, fioRate(t, b, &ours)) }}
	for i := range pairs {
		for k := range measure {
			unix.Sync()
			measure[(i+k)%2]()
		}
		ratios = append(ratios, ours.Rates[i]/theirs[i])
	}
	percent := 100 * Median(ratios)
	t.Logf("%s: ours %.0f, fio %.0f MB/s: %.1f %%", ours.stepName(), Median(ours.Rates)/1e6, Median(theirs)/1e6, percent)
	if percent < 90 || percent > 110 {
		t.Errorf("got %.1f %%, want 90 to 110 %%; ratios %.2f", percent, ratios)
	}
}

// fioRate returns the rate of fio for the job of a sample, in bytes a second. For both
// directions at the same time it is the rate of the slower one. Each thread has its own
// part of the file.
func fioRate(t *testing.T, b *ceilingBench, c *Ceiling) float64 {
	t.Helper()
	dir, way, size, part := b.dir.Path(), c.Way, b.size, b.size/int64(c.Depth)
	source, err := filepath.Glob(filepath.Join(dir, ceilingSource, "*"))
	if err != nil || len(source) != 1 {
		t.Fatalf("files to read: got %v, %v, want one", source, err)
	}
	copied := filepath.Join(dir, ceilingCopy)
	defer os.Remove(copied)                              // does not exist after a read
	t.Setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1") // as the memory of a stream
	args := []string{"--output-format=json", "--iomem_align=2m", "--direct=1", "--ioengine=psync", "--fallocate=native", "--end_fsync=1",
		"--thread", fmt.Sprintf("--bs=%d", c.Block), fmt.Sprintf("--numjobs=%d", c.Depth),
		fmt.Sprintf("--size=%d", part), fmt.Sprintf("--offset_increment=%d", part)}
	for _, side := range way.directions() {
		file := source[0]
		if side == Write {
			file = copied
		}
		args = append(args, "--name="+string(side), "--filename="+file, "--rw="+string(side))
	}
	out := testkit.RunCommand(t, "fio", args...)
	type side struct {
		Runtime float64 `json:"runtime"` // milliseconds
		Bytes   float64 `json:"io_bytes"`
	}
	var report struct{ Jobs []struct{ Read, Write side } }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("fio printed no JSON: %v in %s", err, out)
	}
	moved, slowest := 0.0, 0.0
	for _, job := range report.Jobs {
		moved += job.Read.Bytes + job.Write.Bytes
		slowest = max(slowest, job.Read.Runtime, job.Write.Runtime)
	}
	if want := float64(size) * float64(len(way.directions())); moved != want {
		t.Fatalf("fio moved %.0f bytes, want %.0f", moved, want)
	}
	return float64(size) / slowest * 1000
}

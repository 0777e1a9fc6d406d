package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// newCeilings is a bench in a directory of its own.
func newCeilings(t testing.TB, dir string, size int64) *ceilingBench {
	t.Helper()
	b := &ceilingBench{dir: openDir(t, dir), size: size, seed: 1, moved: func(int64) {}}
	if err := b.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// Every way moves each byte once, in requests of a block, and leaves nothing but what is
// read.
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
			if err := b.sample(t.Context(), &got); err != nil {
				t.Fatal(err)
			}
		}
		if moved.Load() != 2*c.moved || len(got.Rates) != 2 || got.Rates[0] <= 0 {
			t.Errorf("%s: moved %d bytes, rates %v; wanted 2 × %d", c.way, moved.Load(), got.Rates, c.moved)
		}
		l := got.Latency[1]
		if l.Count != c.moved/mib || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max {
			t.Errorf("%s: %+v", c.way, l)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("%s: left %v", c.way, left)
		}
	}
}

// What a ceiling writes is on the device, and no two pieces of it are the same.
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
		s, err := newStream(f, Write, 4*mib, 256<<10, 4, stamp, func(int64) {})
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
			t.Errorf("%s is %d bytes", name, len(text))
		}
		for i := 0; i+512 <= len(text); i += 512 {
			piece, place := string(text[i:i+512]), fmt.Sprint(name, " at ", i)
			if other, twice := seen[piece]; twice {
				t.Fatalf("%s is as %s", place, other)
			}
			seen[piece] = place
		}
	}
}

// The ceilings are those of fio for the same job, with the engine that is its fastest
// here, alternating in one run, on medians. It measures: only when asked to, and on a
// machine that does nothing else.
func TestCeilingsAreThoseOfFio(t *testing.T) {
	if os.Getenv("SHARD_TO_SSD_MEASURE") == "" {
		t.Log("left out: SHARD_TO_SSD_MEASURE is not set")
		return
	}
	testkit.Need(t, "fio")
	for _, c := range []struct {
		block int64
		depth int
		size  int64
	}{{128 * kib, 4, gib / 4}, {mib, 16, gib}, {4 * mib, 16, gib}} {
		dir := t.TempDir()
		b := newCeilings(t, dir, c.size)
		for _, way := range []Way{Read, Write, Both} {
			againstFio(t, b, Ceiling{Way: way, Block: c.block, Depth: c.depth})
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// againstFio measures a ceiling and fio in turn.
func againstFio(t *testing.T, b *ceilingBench, ours Ceiling) {
	t.Helper()
	const samples = 8
	engines := []string{"libaio", "io_uring", "psync"}
	theirs := map[string][]float64{}
	for i := range samples {
		for k := range len(engines) + 1 { // each comes first sometimes: it may find a device that is still busy
			unix.Sync()
			if n := (i + k) % (len(engines) + 1); n < len(engines) {
				theirs[engines[n]] = append(theirs[engines[n]], fioRate(t, b, &ours, engines[n]))
			} else if err := b.sample(t.Context(), &ours); err != nil {
				t.Fatal(err)
			}
		}
	}
	fastest := slices.MaxFunc(engines, func(a, b string) int { return cmp.Compare(median(theirs[a]), median(theirs[b])) })
	percent := 100 * median(ours.Rates) / median(theirs[fastest])
	t.Logf("%s: ours %.0f, fio %.0f MB/s (%s): %.1f %%", ours.what(), median(ours.Rates)/1e6, median(theirs[fastest])/1e6, fastest, percent)
	for _, e := range engines {
		t.Logf("  %s %.0f MB/s", e, median(theirs[e])/1e6)
	}
	if percent < 90 || percent > 110 {
		t.Errorf("%s is %.1f %% of fio's, wanted 90 to 110: %.0f and %.0f", ours.what(), percent, ours.Rates, theirs[fastest])
	}
}

// fioRate is what fio says of the job that a sample is, bytes a second; of both sides
// at once that of the slower. With psync, each request is one of a thread's, which has a
// part of the file of its own.
func fioRate(t *testing.T, b *ceilingBench, c *Ceiling, engine string) float64 {
	t.Helper()
	dir, way, size := b.dir.Path(), c.Way, b.size
	source, err := filepath.Glob(filepath.Join(dir, ceilingSource, "*"))
	if err != nil || len(source) != 1 {
		t.Fatalf("files to read: %v, %v", source, err)
	}
	copied := filepath.Join(dir, ceilingCopy)
	defer os.Remove(copied)                              //nolint:errcheck // there is none of a read
	t.Setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1") // as a stream's memory is
	args := []string{"--output-format=json", "--iomem_align=2m", "--direct=1", "--ioengine=" + engine, "--fallocate=native", "--end_fsync=1",
		fmt.Sprintf("--bs=%d", c.Block)}
	if engine == "psync" {
		part := size / int64(c.Depth)
		args = append(args, "--thread", fmt.Sprintf("--numjobs=%d", c.Depth), fmt.Sprintf("--size=%d", part), fmt.Sprintf("--offset_increment=%d", part))
	} else {
		args = append(args, fmt.Sprintf("--iodepth=%d", c.Depth), fmt.Sprintf("--size=%d", size))
	}
	for _, side := range way.each() {
		file := source[0]
		if side == Write {
			file = copied
		}
		args = append(args, "--name="+string(side), "--filename="+file, "--rw="+string(side))
	}
	out := testkit.Command(t, "fio", args...)
	type side struct {
		Runtime float64 `json:"runtime"` // milliseconds
		Bytes   float64 `json:"io_bytes"`
	}
	var report struct{ Jobs []struct{ Read, Write side } }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	moved, slowest := 0.0, 0.0
	for _, job := range report.Jobs {
		moved += job.Read.Bytes + job.Write.Bytes
		slowest = max(slowest, job.Read.Runtime, job.Write.Runtime)
	}
	if want := float64(size) * float64(len(way.each())); moved != want {
		t.Fatalf("fio moved %.0f bytes of %.0f", moved, want)
	}
	return float64(size) / slowest * 1000
}

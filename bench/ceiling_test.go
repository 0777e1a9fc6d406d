package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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

// The memory of a stream is of whole huge pages, however small its requests are.
func TestStreamHasHugePages(t *testing.T) {
	for _, c := range []struct {
		block int64
		depth int
	}{{128 * kib, 1}, {128 * kib, 4}, {mib, 3}, {4 * mib, 16}} {
		s, err := newStream(nil, Read, 8*mib, c.block, c.depth, 1, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		if have, want := int64(len(s.memory)), int64(c.depth)*c.block; have%hugePage != 0 || have < want || have >= want+hugePage {
			t.Errorf("%d of %d: %d bytes of memory", c.depth, c.block, have)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// The ceilings are those of fio for the same job, as many threads of which each waits for
// its request: by the median of the ratios of samples taken one right after the other,
// since a disk that others use is another one a minute later. It measures: only when
// asked to, and on a machine that does nothing else.
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

// againstFio measures a ceiling and fio in turn, A B, B A.
func againstFio(t *testing.T, b *ceilingBench, ours Ceiling) {
	t.Helper()
	const pairs = 12
	var theirs, ratios []float64
	measure := []func(){func() {
		if err := b.sample(t.Context(), &ours); err != nil {
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
	percent := 100 * median(ratios)
	t.Logf("%s: ours %.0f, fio %.0f MB/s: %.1f %%", ours.what(), median(ours.Rates)/1e6, median(theirs)/1e6, percent)
	if percent < 90 || percent > 110 {
		t.Errorf("wanted 90 to 110 %%: %.2f", ratios)
	}
}

// fioRate is what fio says of the job that a sample is, bytes a second; of both sides
// at once that of the slower. Each thread has a part of the file of its own.
func fioRate(t *testing.T, b *ceilingBench, c *Ceiling) float64 {
	t.Helper()
	dir, way, size, part := b.dir.Path(), c.Way, b.size, b.size/int64(c.Depth)
	source, err := filepath.Glob(filepath.Join(dir, ceilingSource, "*"))
	if err != nil || len(source) != 1 {
		t.Fatalf("files to read: %v, %v", source, err)
	}
	copied := filepath.Join(dir, ceilingCopy)
	defer os.Remove(copied)                              //nolint:errcheck // there is none of a read
	t.Setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1") // as a stream's memory is
	args := []string{"--output-format=json", "--iomem_align=2m", "--direct=1", "--ioengine=psync", "--fallocate=native", "--end_fsync=1",
		"--thread", fmt.Sprintf("--bs=%d", c.Block), fmt.Sprintf("--numjobs=%d", c.Depth),
		fmt.Sprintf("--size=%d", part), fmt.Sprintf("--offset_increment=%d", part)}
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

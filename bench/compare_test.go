package bench_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/internal/benchtest"
)

// resultOf returns a result with one case, with a copy for each rate.
func resultOf(rates ...float64) *bench.Result {
	c := bench.Case{Workload: "huge", Engine: "direct", Block: 1 << 20, Jobs: 1, Bytes: 1 << 30}
	for _, rate := range rates {
		c.Samples = append(c.Samples, bench.Sample{LastDone: float64(c.Bytes) / rate})
	}
	return &bench.Result{Version: bench.ResultVersion, Started: time.Unix(1, 0), Complete: true, Cases: []bench.Case{c}}
}

func rowOf(t *testing.T, c *bench.Comparison, unit string) bench.Row {
	t.Helper()
	for _, r := range c.Rows {
		if r.Unit == unit {
			return r
		}
	}
	t.Fatalf("no row with unit %s", unit)
	return bench.Row{}
}

// The expected values of p are those of the exact Mann-Whitney distribution. For n and n
// samples that do not overlap, p is 2 divided by the number of ways to choose n of 2n.
func TestCompareKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new []float64
		p        float64
		rates    bench.Verdict
		times    bench.Verdict
	}{
		{"apart, up", []float64{1, 2, 3, 4, 5, 6}, []float64{11, 12, 13, 14, 15, 16}, 2.0 / 924, bench.Better, bench.Better},
		{"apart, down", []float64{11, 12, 13, 14, 15, 16}, []float64{1, 2, 3, 4, 5, 6}, 2.0 / 924, bench.Worse, bench.Worse},
		{"four and four", []float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 2.0 / 70, bench.Better, bench.Better},
		{"interleaved", []float64{1, 3, 5, 7, 9, 11}, []float64{2, 4, 6, 8, 10, 12}, 0.6991341991341991, bench.Same, bench.Same},
		{"equal", []float64{5, 5, 5, 5, 5, 5}, []float64{5, 5, 5, 5, 5, 5}, 1, bench.Same, bench.Same},
		{"three and three", []float64{1, 2, 3}, []float64{7, 8, 9}, 0.1, bench.Unknown, bench.Unknown},
		{"one and one", []float64{1}, []float64{9}, 1, bench.Unknown, bench.Unknown},
		{"one and many", []float64{100}, []float64{1, 2, 3, 4, 5, 6, 7, 8}, 2.0 / 9, bench.Unknown, bench.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			both := bench.Compare(resultOf(c.old...), resultOf(c.new...))
			rates := rowOf(t, both, "B/s")
			if math.Abs(rates.P-c.p) > 1e-9 || rates.Verdict != c.rates {
				t.Errorf("rates: got p %v, %s; want %v, %s", rates.P, rates.Verdict, c.p, c.rates)
			}
			// For times, less is better: the same copies from the other side.
			if times := rowOf(t, both, "last-done-sec"); times.Verdict != c.times || math.Abs(times.P-c.p) > 1e-9 {
				t.Errorf("times: got p %v, %s; want %v, %s", times.P, times.Verdict, c.p, c.times)
			}
		})
	}
}

// With 6 samples, the interval from minimum to maximum has the median unless all 6 are on
// one side of it: 1 - 2/2^6.
func TestCompareConfidence(t *testing.T) {
	c := bench.Compare(resultOf(10, 20, 30, 40, 50, 60), resultOf(10, 20, 30))
	r := rowOf(t, c, "B/s")
	if r.Old.Center != 35 || r.Old.Lo != 10 || r.Old.Hi != 60 || r.Old.Confidence != 1-2.0/64 {
		t.Errorf("six samples: got %+v, want 35 from 10 to 60", r.Old)
	}
	if r.New.Center != 20 || !math.IsInf(r.New.Lo, -1) || !math.IsInf(r.New.Hi, 1) {
		t.Errorf("three samples: got %+v, want 20 and no interval", r.New)
	}
	if r.NOld != 6 || r.NNew != 3 {
		t.Errorf("got %d and %d samples, want 6 and 3", r.NOld, r.NNew)
	}
}

// Two runs on the same drive do not differ.
func TestCompareSameDrive(t *testing.T) {
	again := benchtest.CachedDrive()
	again.Seed = 77
	c := bench.Compare(benchtest.CachedDrive().MakeResult(8), again.MakeResult(8))
	verdicts := map[bench.Verdict]int{}
	for _, r := range c.Rows {
		verdicts[r.Verdict]++
	}
	// With p at most 0.05, one row in twenty is wrong. Twice as many, of so many rows,
	// are not chance.
	if wrong := verdicts[bench.Better] + verdicts[bench.Worse]; wrong*10 > len(c.Rows) || verdicts[bench.Same] == 0 {
		t.Errorf("%d rows with verdicts %v, want at most a tenth that differ", len(c.Rows), verdicts)
	}
}

func TestCompareTable(t *testing.T) {
	old, new := resultOf(1e9, 1.01e9, 1.02e9, 1.03e9, 1.04e9, 1.05e9), resultOf(2e9, 2.02e9, 2.04e9, 2.06e9, 2.08e9, 2.1e9)
	kernel := "6.99.0-example"
	new.Facts.Kernel = &kernel
	new.Complete = false
	new.Cases[0].Files++
	// The result has only two measures: the rate and the time until the last file.
	old.Ceilings = []bench.Ceiling{{Way: bench.Read, Block: 1000, Depth: 2, Rates: []float64{5}}}
	var text strings.Builder
	if _, err := bench.Compare(old, new).WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"B/s (more is better)", "last-done-sec (less is better)",
		"+100.0%", "-50.0%", "0.002", "6+6", "977.5Mi ± 2%", "2 measures: 2 better, 0 worse, 0 no difference, 0 too few samples; by chance alone up to 0 would differ",
		"only in old: Ceiling/way=read/block=1000B/depth=2",
		"note: kernel differs: not known, then 6.99.0-example", "note: the new run was ended early",
		"note: workload huge differs: 0 files, 1073741824 bytes, then 1 file, 1073741824 bytes",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table does not have %q", want)
		}
	}
	if t.Failed() {
		t.Log(text.String())
	}
}

// A share of a lower ceiling is larger, but not better.
func TestCompareLeavesOutShares(t *testing.T) {
	old, new := resultOf(101, 102, 103, 104, 105, 106), resultOf(101, 102, 103, 104, 105, 106)
	old.Cases[0].Ceiling, new.Cases[0].Ceiling = 100, 50
	for _, r := range bench.Compare(old, new).Rows {
		if r.Verdict != bench.Same {
			t.Errorf("%s %s: got %s, want %s", r.Name, r.Unit, r.Verdict, bench.Same)
		}
	}
}

// Each difference of the setup has a note, and nothing else has.
func TestCompareNotes(t *testing.T) {
	changed := "something else"
	for want, change := range map[string]func(r *bench.Result){
		"profile":                 func(r *bench.Result) { r.Profile = changed },
		"size":                    func(r *bench.Result) { r.Size++ },
		"version":                 func(r *bench.Result) { r.Tool = changed },
		"how caches were emptied": func(r *bench.Result) { r.CacheMethod = changed },
		"kernel":                  func(r *bench.Result) { r.Facts.Kernel = &changed },
		"CPU":                     func(r *bench.Result) { r.Facts.CPU = &changed },
		"governor":                func(r *bench.Result) { r.Facts.Governor = nil },
		"transport":               func(r *bench.Result) { r.Facts.Transport = &changed },
		"link speed":              func(r *bench.Result) { r.Facts.LinkSpeed = &changed },
		"link width":              func(r *bench.Result) { r.Facts.LinkWidth = new(2) },
		"layers":                  func(r *bench.Result) { r.Facts.Layers = []string{"crypt"} },
		"scheduler":               func(r *bench.Result) { r.Facts.Scheduler = &changed },
		"number of CPUs":          func(r *bench.Result) { r.Facts.CPUs++ },
		"file system":             func(r *bench.Result) { r.Facts.FileSystem = &changed },
		"mount options":           func(r *bench.Result) { r.Facts.Mount = &changed },
		"how full the file system was": func(r *bench.Result) {
			r.Facts.Size, r.Facts.Free = new(int64(1000)), new(int64(100))
		},
		"pause of the long write": func(r *bench.Result) { r.Sustained.Pause++ },
		"workload huge":           func(r *bench.Result) { r.Cases[0].Files++; r.Cases = r.Cases[:1] },
	} {
		old, new := benchtest.CachedDrive().MakeResult(1), benchtest.CachedDrive().MakeResult(1)
		if change(new); len(bench.Compare(old, old).Notes) > 0 {
			t.Errorf("a result and itself: got notes %q, want none", bench.Compare(old, old).Notes)
		}
		if notes := bench.Compare(old, new).Notes; len(notes) != 1 || !strings.HasPrefix(notes[0], want+" differs: ") {
			t.Errorf("%s: got notes %q, want one about it", want, notes)
		}
	}
}

package peers

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	percent := quantity{unit: "%", digits: 1}
	for _, c := range []struct {
		name       string
		target     target
		medians    map[string]float64
		got, state string
	}{
		{"at most, just", atMost(1.05, "a", "b"), map[string]float64{"a": 105, "b": 100}, "1.05 ×", "met"},
		{"at most, over", atMost(1.05, "a", "b"), map[string]float64{"a": 106, "b": 100}, "1.06 ×", "missed"},
		{"at most, no reference", atMost(1.05, "a", "b"), map[string]float64{"a": 1}, "–", "not measured"},
		{"at most, not itself", atMost(1.05, "a", "b"), map[string]float64{"b": 1}, "–", "not measured"},
		{"faster than the fastest", fasterBy(1.3, "a", "", "b", "c"), map[string]float64{"a": 10, "b": 20, "c": 13}, "1.30 ×", "met"},
		{"not faster than one", fasterBy(1.3, "a", "", "b", "c"), map[string]float64{"a": 10, "b": 12, "c": 90}, "1.20 ×", "missed"},
		{"a missing one could be the fastest", fasterBy(1.3, "a", "", "b", "c"), map[string]float64{"a": 10, "b": 20}, "–", "not measured"},
		{"below", medianAtMost(1, "a", percent), map[string]float64{"a": 1}, "1.0 %", "met"},
		{"not below", medianAtMost(1, "a", percent), map[string]float64{"a": 1.2}, "1.2 %", "missed"},
		{"NaN is not below", medianAtMost(1, "a", percent), map[string]float64{"a": math.NaN()}, "–", "not measured"},
		{"above", medianAtLeast(99, "a", percent), map[string]float64{"a": 99.5}, "99.5 %", "met"},
		{"not above", medianAtLeast(99, "a", percent), map[string]float64{"a": 50}, "50.0 %", "missed"},
		{"flat", spreadAtMost(1.15, "a", "b", "c"), map[string]float64{"a": 10, "b": 11.5, "c": 11}, "1.15 ×", "met"},
		{"falling is not flat", spreadAtMost(1.15, "a", "b", "c"), map[string]float64{"a": 12, "b": 11, "c": 10}, "1.20 ×", "missed"},
		{"flat, one missing", spreadAtMost(1.15, "a", "b", "c"), map[string]float64{"a": 12, "b": 11}, "–", "not measured"},
	} {
		v := c.target.compareWith(c.medians)
		if v.got != c.got || v.state != c.state {
			t.Errorf("%s: got %s, %s, want %s, %s", c.name, v.got, v.state, c.got, c.state)
		}
	}
}

func TestQuantities(t *testing.T) {
	w := workload{"w", []batch{equalFiles("f", 4, gib/2)}} // 2 GiB in 4 files
	s := sample{Wall: 3, CPU: 1, Values: map[string]float64{
		"peak": 100 * float64(mib), "cache left": float64(gib / 50), "cache kept": 0.5, "gone": 0.02,
		"phase copy": 0.01, "phase copy and read back": 0.02, "phase plan": 5,
	}}
	for _, c := range []struct {
		quantity quantity
		want     float64
	}{
		{seconds, 3}, {milliseconds, 3000}, {cpu, 0.5}, {perFile, 750_000}, {perGiB, 1.5}, {peak, 100},
		{cacheLeft, 1}, {cacheKept, 50}, {gone, 20}, {copyPhase, 30},
	} {
		if got := c.quantity.of(w, s); math.Abs(got-c.want) > 1e-6*c.want {
			t.Errorf("%s, %s: got %v, want %v", c.quantity.name, c.quantity.unit, got, c.want)
		}
	}
	s.setValue("phase clone", 0.004)
	if got := copyPhase.of(w, s); got != 4 {
		t.Errorf("copy phase, with a phase for cloning: got %v ms, want 4", got)
	}
	for _, q := range []quantity{peak, cacheLeft, cacheKept, gone, copyPhase} {
		if got := q.of(w, sample{Wall: 3}); !math.IsNaN(got) {
			t.Errorf("%s of a sample without it: got %v, want NaN", q.name, got)
		}
	}
}

func replaceAll(text string, pairs ...string) string {
	return strings.NewReplacer(pairs...).Replace(text)
}

func TestFioSeconds(t *testing.T) {
	const report = `{"jobs": [
		{"jobname": "source", "error": 0, "read": {"runtime": 2000, "io_bytes": 8}, "write": {"runtime": 0, "io_bytes": 0}},
		{"jobname": "copy", "error": 0, "read": {"runtime": 0, "io_bytes": 0}, "write": {"runtime": 3000, "io_bytes": 8}},
		{"jobname": "back", "error": %ERROR%, "read": {"runtime": 1500, "io_bytes": %BACK%}, "write": {"runtime": 0, "io_bytes": 0}}]}`
	whole := replaceAll(report, "%ERROR%", "0", "%BACK%", "8")
	for _, c := range []struct {
		name string
		text string
		jobs string
		want float64 // 0: an error
	}{
		{"the slower of two, then reading back", whole, "source copy back", 4.5},
		{"a job failed", replaceAll(report, "%ERROR%", "5", "%BACK%", "8"), "source copy back", 0},
		{"read back in part", replaceAll(report, "%ERROR%", "0", "%BACK%", "4"), "source copy back", 0},
		{"a job is missing", `{"jobs": []}`, "back", 0},
		{"another job is missing", whole, "source copy back more", 0},
		{"no JSON", "fio: cannot open", "back", 0},
	} {
		p := place{temp: t.TempDir()}
		if err := os.WriteFile(filepath.Join(p.temp, "fio.json"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var got sample
		err := parseFio(8, strings.Fields(c.jobs)...)(p, nil, &got)
		if (err != nil) != (c.want == 0) || got.Wall != c.want {
			t.Errorf("%s: got %v, %v, want %v", c.name, got.Wall, err, c.want)
		}
	}
}

package bench

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/bench/internal/data"
	"shard_to_ssd/internal/testkit"
)

// docs/ssdbench.md has these costs: about 48 GiB for quick, about 205 GiB and 6 % of the
// free space for standard.
func TestDocumentedCost(t *testing.T) {
	const free = 1000 * gib
	for _, c := range []struct {
		profile   Profile
		want      float64 // bytes
		freeShare float64 // in addition, of the free space
	}{{Quick, 48 * float64(gib), 0}, {Standard, 205 * float64(gib), 0.06}} {
		b := budgetOf(t, c.profile, free)
		want := c.want + c.freeShare*float64(free-b.reserve)
		if got := float64(b.totalCost().Writes); got < 0.95*want || got > 1.05*want {
			t.Errorf("%s writes %.1f GiB of %d free, want %.1f", c.profile, got/float64(gib), free/gib, want/float64(gib))
		}
	}
}

// budgetOf returns the budget of a profile without other settings.
func budgetOf(t *testing.T, profile Profile, free int64) *budget {
	t.Helper()
	set, err := (&Config{Target: "any", Profile: profile}).makeSettings()
	if err != nil {
		t.Fatal(err)
	}
	b := &budget{set: set, free: free, reserve: reserveOf(free)}
	for i, w := range data.Workloads(set.size) {
		t := w.AddUp(1)
		b.addWorkload(t)
		b.addCases(t, i != smallFilesIndex)
	}
	b.addFixedSteps()
	return b
}

// Copies of many files are deleted one by one if they do not fit together, with a
// warning. If they fit, there is no warning.
func TestCopiesThatDoNotFit(t *testing.T) {
	source := t.TempDir()
	var steps []testkit.Step
	for i := range manyFiles {
		steps = append(steps, testkit.File(fmt.Sprint("d", i/100, "/", i), 64<<10, uint64(i)))
	}
	testkit.Apply(t, source, steps...)
	for size, deleted := range map[int64]bool{256 * mib: true, 640 * mib: false} {
		c := tinyConfig(testkit.Mount(t, "ext4", size))
		c.Source, c.Engines, c.Blocks, c.Jobs, c.Samples = source, []string{"direct", "buffered"}, []int64{4 * mib}, []int{2}, 2
		var cost Cost
		c.OnCost = func(c Cost) { cost = c }
		r, err := Run(t.Context(), c)
		if err != nil || !r.Complete {
			t.Fatalf("%d MiB: run failed: %v", size/mib, err)
		}
		warned := strings.Contains(strings.Join(r.Warnings, "\n"), "to keep copies of many files")
		if warned != deleted || !cost.fitsSpace() {
			t.Errorf("%d MiB: warned %v, want %v; warnings %q, peak %d MiB, free %d MiB", size/mib, warned, deleted, r.Warnings, cost.Peak/mib, cost.Free/mib)
		}
	}
}

// A source on another file system is read from the same drive if both file systems are on
// it.
func TestCeilingOfASourceElsewhere(t *testing.T) {
	r := newRunner(t, t.TempDir())
	r.result.Ceilings = []Ceiling{{Way: Write, Rates: []float64{3}}, {Way: Both, Rates: []float64{2}}}
	elsewhere := testkit.Mount(t, "ext4", 64<<20)
	for _, one := range []struct {
		in    string
		drive func(a, b string) bool
		want  float64
	}{
		{t.TempDir(), nil, 2},
		{elsewhere, nil, 3},
		{elsewhere, func(a, b string) bool { return false }, 3},
		{elsewhere, func(a, b string) bool { return b == filepath.Join(elsewhere, "shard") }, 2},
	} {
		testkit.Apply(t, one.in, testkit.File("shard/a", 10, 1))
		s, err := openShard(t.Context(), "x", filepath.Join(one.in, "shard"), openDir(t, t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		r.SameDrive = one.drive
		if got := r.ceilingOf(s); got != one.want {
			t.Errorf("%s: got ceiling %v, want %v", one.in, got, one.want)
		}
		s.close()
	}
}

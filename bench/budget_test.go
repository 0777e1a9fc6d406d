package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"shard_to_ssd/bench/data"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// What the README says that the profiles write is what they cost.
func TestCostIsAsTheREADMESays(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const free = 1000 * gib
	for profile, says := range map[Profile]string{
		Quick:    "`quick` writes some (\\d+) GiB",
		Standard: "`standard` some (\\d+) and (\\d+) % of what is\\s+free",
	} {
		found := regexp.MustCompile(says).FindSubmatch(text)
		if found == nil {
			t.Errorf("the README does not say %s", says)
			continue
		}
		want, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		want *= float64(gib)
		b := budgetOf(t, profile, free)
		if len(found) > 2 {
			percent, err := strconv.ParseFloat(string(found[2]), 64)
			if err != nil {
				t.Fatal(err)
			}
			want += percent / 100 * float64(free-b.reserve)
		}
		if got := float64(b.cost().Writes); got < 0.95*want || got > 1.05*want {
			t.Errorf("%s writes %.1f GiB of %d that are free, the README says %.1f", profile, got/float64(gib), free/gib, want/float64(gib))
		}
	}
}

// budgetOf is that of a profile with nothing else said.
func budgetOf(t *testing.T, profile Profile, free int64) *budget {
	t.Helper()
	set, err := (&Config{Target: "any", Profile: profile}).settings()
	if err != nil {
		t.Fatal(err)
	}
	b := &budget{set: set, free: free, reserve: reserveOf(free)}
	for i, w := range data.Workloads(set.size) {
		t := w.Total(1)
		b.addMade(t)
		b.addCases(t, i != onlySmall)
	}
	b.addRest()
	return b
}

// Copies of many files that cannot all be kept are deleted one by one, and it is said
// what that means; where they can be, nothing is said.
func TestCopiesThatDoNotFit(t *testing.T) {
	source := t.TempDir()
	var steps []testkit.Step
	for i := range manyFiles {
		steps = append(steps, testkit.File(fmt.Sprint("d", i/100, "/", i), 64<<10, uint64(i)))
	}
	testkit.Apply(t, source, steps...)
	for size, deleted := range map[int64]bool{256 * mib: true, 640 * mib: false} {
		c := tiny(testkit.Mount(t, "ext4", size))
		c.Source, c.Engines, c.Blocks, c.Jobs, c.Samples = source, []copier.Engine{copier.Direct, copier.Buffered}, []int64{4 * mib}, []int{2}, 2
		var told Cost
		c.Tell = func(cost Cost) { told = cost }
		r, err := Run(t.Context(), c)
		if err != nil || !r.Complete {
			t.Fatalf("%d MiB: %v", size/mib, err)
		}
		if said := strings.Contains(strings.Join(r.Warnings, "\n"), "to keep copies of many files"); said != deleted || !told.fits() {
			t.Errorf("%d MiB: warnings %q, at most %d MiB at once of %d", size/mib, r.Warnings, told.Peak/mib, told.Free/mib)
		}
	}
}

// A source on another file system of the same drive is read from it while the drive is
// written.
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
			t.Errorf("%s: ceiling %v, wanted %v", one.in, got, one.want)
		}
		s.close()
	}
}

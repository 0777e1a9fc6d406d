package bench_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/perf/benchfmt"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/example"
)

// parsed reads the format with the package that benchstat reads it with.
func parsed(t *testing.T, text []byte) (results []*benchfmt.Result, units benchfmt.UnitMetadataMap) {
	t.Helper()
	r := benchfmt.NewReader(bytes.NewReader(text), "test")
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			results = append(results, rec.Clone())
		case *benchfmt.SyntaxError:
			t.Error(rec)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return results, r.Units()
}

func goBench(t *testing.T, r *bench.Result) []byte {
	t.Helper()
	var text bytes.Buffer
	if err := bench.WriteGoBench(&text, r); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// Every sample of every measure comes back, under the same name and in the same unit.
func TestGoBenchIsReadBack(t *testing.T) {
	r := example.Cached().Result(3)
	results, units := parsed(t, goBench(t, r))
	got := map[string][]float64{}
	for _, res := range results {
		for _, v := range res.Values {
			got[res.Name.String()+" "+v.Unit] = append(got[res.Name.String()+" "+v.Unit], v.Value)
		}
	}
	want := map[string][]float64{}
	for _, m := range r.Measures() {
		want[m.Name+" "+m.Unit] = m.Values
		better := -1
		if m.HigherIsBetter() {
			better = 1
		}
		if units.GetBetter(m.Unit) != better {
			t.Errorf("%s: better is %d", m.Unit, units.GetBetter(m.Unit))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(want) < 100 {
		t.Errorf("only %d measures", len(want))
	}
}

func TestGoBenchFacts(t *testing.T) {
	r := example.Steady().Result(1)
	r.Facts.Governor = nil
	odd := "Example\n: Drive\t B"
	r.Facts.Model = &odd
	results, _ := parsed(t, goBench(t, r))
	for key, want := range map[string]string{
		"model": "Example : Drive B", "firmware": "EXB7", "link-speed": "16.0 GT/s PCIe", "link-width": "4",
		"file-system": "xfs", "size": "16GiB", "governor": "", "serial": "", "capacity": "2000398934016",
	} {
		if got := results[0].GetConfig(key); got != want {
			t.Errorf("%s is %q; wanted %q", key, got, want)
		}
	}
}

// What is not known of a drive is not taken from the one before it.
func TestGoBenchFactsOfSeveral(t *testing.T) {
	first, second := example.Steady().Result(1), example.Cached().Result(1)
	second.Facts.Model, second.Facts.Governor = nil, nil
	var text bytes.Buffer
	if err := bench.WriteGoBench(&text, first, second); err != nil {
		t.Fatal(err)
	}
	results, _ := parsed(t, text.Bytes())
	a, b := results[0], results[len(results)-1]
	if a.GetConfig("model") == "" || a.GetConfig("governor") == "" || b.GetConfig("firmware") == "" {
		t.Errorf("facts are missing: %v, %v", a.Config, b.Config)
	}
	if model, governor := b.GetConfig("model"), b.GetConfig("governor"); model != "" || governor != "" {
		t.Errorf("model %q, governor %q of a drive of which they are not known", model, governor)
	}
}

// Names are for ever: results of years are compared by them.
func TestGoBenchNames(t *testing.T) {
	var got []string
	for _, m := range example.Cached().Result(1).Measures() {
		if m.Unit == "B/s" {
			got = append(got, m.Name)
		}
	}
	for _, want := range []string{
		"Ceiling/way=read/block=128KiB/depth=1", "Ceiling/way=both/block=4MiB/depth=32",
		"Copy/workload=huge/engine=direct/block=1MiB/jobs=4", "Copy/workload=small/engine=range/block=4MiB/jobs=1",
		"Sustained/block=1MiB/depth=32/phase=before-cliff", "Sustained/block=1MiB/depth=32/phase=after-cliff",
		"Sustained/block=1MiB/depth=32/phase=worst-second", "Reader/beside=copy",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not measured", want)
		}
	}
	odd := measured(1)
	odd.Cases[0].Workload = "my files/of 2030 =\u00a0x"
	if got, want := odd.Cases[0].Name(), "Copy/workload=my_files_of_2030___x/engine=direct/block=1MiB/jobs=1"; got != want {
		t.Errorf("%q; wanted %q", got, want)
	}
}

// benchstat itself: it is of the module that the statistics come from.
func TestBenchstat(t *testing.T) {
	dir := t.TempDir()
	for name, r := range map[string]*bench.Result{"old.txt": example.Steady().Result(6), "new.txt": example.Cached().Result(6)} {
		if err := os.WriteFile(filepath.Join(dir, name), goBench(t, r), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("go", "run", "golang.org/x/perf/cmd/benchstat", "-table", ".name",
		"old="+filepath.Join(dir, "old.txt"), "new="+filepath.Join(dir, "new.txt")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`(?m)^\*/workload=huge/engine=direct/block=4MiB/jobs=4 .*Gi ± \d+%.*\+\d+\.\d+% \(p=0\.002 n=6\)`,
		`│ +B/s +│ +B/s +vs base`, `p99\.9-block-sec`, `CPU-sec/GiB`, `~ \(p=`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("benchstat did not say %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

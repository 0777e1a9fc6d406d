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
	"shard_to_ssd/bench/internal/benchtest"
)

// parseGoBench reads the format with the package that benchstat uses.
func parseGoBench(t *testing.T, text []byte) (results []*benchfmt.Result, units benchfmt.UnitMetadataMap) {
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

func goBenchText(t *testing.T, r *bench.Result) []byte {
	t.Helper()
	var text bytes.Buffer
	if err := bench.WriteGoBench(&text, r); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// Every sample of every measure is read back with the same name and unit.
func TestGoBenchIsReadBack(t *testing.T) {
	r := benchtest.CachedDrive().MakeResult(3)
	results, units := parseGoBench(t, goBenchText(t, r))
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
			t.Errorf("%s: got better=%d, want %d", m.Unit, units.GetBetter(m.Unit), better)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(want) < 100 {
		t.Errorf("got only %d measures, want at least 100", len(want))
	}
}

func TestGoBenchFacts(t *testing.T) {
	r := benchtest.SteadyDrive().MakeResult(1)
	r.Facts.Governor = nil
	odd := "Example\n: Drive\t B"
	r.Facts.Model = &odd
	results, _ := parseGoBench(t, goBenchText(t, r))
	for key, want := range map[string]string{
		"model": "Example : Drive B", "firmware": "EXB7", "link-speed": "16.0 GT/s PCIe", "link-width": "4",
		"file-system": "xfs", "size": "16GiB", "governor": "", "serial": "", "capacity": "2000398934016",
	} {
		if got := results[0].GetConfig(key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
}

// An unknown fact of a drive is not taken from the drive before it.
func TestGoBenchFactsOfSeveral(t *testing.T) {
	first, second := benchtest.SteadyDrive().MakeResult(1), benchtest.CachedDrive().MakeResult(1)
	second.Facts.Model, second.Facts.Governor = nil, nil
	var text bytes.Buffer
	if err := bench.WriteGoBench(&text, first, second); err != nil {
		t.Fatal(err)
	}
	results, _ := parseGoBench(t, text.Bytes())
	a, b := results[0], results[len(results)-1]
	if a.GetConfig("model") == "" || a.GetConfig("governor") == "" || b.GetConfig("firmware") == "" {
		t.Errorf("facts are missing: %v, %v", a.Config, b.Config)
	}
	if model, governor := b.GetConfig("model"), b.GetConfig("governor"); model != "" || governor != "" {
		t.Errorf("got model %q and governor %q of a drive without them", model, governor)
	}
}

// Names must stay stable: they identify measures in results of many years.
func TestGoBenchNames(t *testing.T) {
	var got []string
	for _, m := range benchtest.CachedDrive().MakeResult(1).Measures() {
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
			t.Errorf("no measure %s", want)
		}
	}
	odd := resultOf(1)
	odd.Cases[0].Workload = "my files/of 2030 =\u00a0x"
	if got, want := odd.Cases[0].Name(), "Copy/workload=my_files_of_2030___x/engine=direct/block=1MiB/jobs=1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// benchstat is in the module that also has the statistics.
func TestBenchstat(t *testing.T) {
	dir := t.TempDir()
	for name, r := range map[string]*bench.Result{"old.txt": benchtest.SteadyDrive().MakeResult(6), "new.txt": benchtest.CachedDrive().MakeResult(6)} {
		if err := os.WriteFile(filepath.Join(dir, name), goBenchText(t, r), 0o600); err != nil {
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
			t.Errorf("the output of benchstat does not match %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

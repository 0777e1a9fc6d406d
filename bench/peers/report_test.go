package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// oneRow returns a row with a table, and results of three contenders. One of them failed.
func oneRow() (row, map[string]*series) {
	w := workload{"2 × 1 GiB", []batch{equalFiles("f", 2, gib)}}
	lanes := freshLanes(w, "ext4", contender{name: "a"}, contender{name: "b | b"}, contender{name: "c"}, contender{name: "d"})
	r := row{3, "a race", []table{{
		title: "2 × 1 GiB on ext4", lanes: lanes, quantity: seconds,
		targets: []target{atMost(1.2, "a", "b | b"), atMost(0.4, "a", "b | b"), atMost(1, "a", "c")},
	}}}
	return r, map[string]*series{
		lanes[0].resultKey(): {Samples: []sample{{Wall: 3}, {Wall: 1, Chose: "16 jobs"}, {Wall: 2}}},
		lanes[1].resultKey(): {Samples: []sample{{Wall: 5}, {Wall: 4}, {Wall: 3}}},
		lanes[2].resultKey(): {Samples: []sample{{Wall: 1}}, Failed: "c: exit status 1"},
	}
}

func TestRowInTheReport(t *testing.T) {
	r, results := oneRow()
	var out strings.Builder
	r.writeSection(&out, results, []string{"Why it is so."})
	const want = `
## Row 3: a race

### 2 × 1 GiB on ext4

| time, s | median | min – max | samples | ratio |
|---|--:|--:|--:|--:|
| a | 2.00 | 1.00 – 3.00 | 3 | 1.00 |
| b \| b | 4.00 | 3.00 – 5.00 | 3 | 2.00 |
| c | failed | | 1 | |
| d | not measured | | | |

- a at most 1.20 × b | b: 0.50 ×, met
- a at most 0.40 × b | b: 0.50 ×, **missed**
- a at most 1.00 × c: –, **not measured**
- c failed: c: exit status 1

Why it is so.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestRatio(t *testing.T) {
	of := func(median float64) line { return line{median: median, samples: 1} }
	for want, pair := range map[string][2]line{
		"0.50": {of(1), of(2)}, "1000.00": {of(1000), of(1)}, "> 1000": {of(1001), of(1)},
		"–": {of(1), of(0)}, "0.00": {of(0), of(1)},
	} {
		if got := formatRatio(pair[0], pair[1]); got != want {
			t.Errorf("ratio of %v to %v: got %q, want %q", pair[0].median, pair[1].median, got, want)
		}
	}
	if got := formatRatio(of(1), line{median: 1, samples: 1, failed: "it fell"}); got != "–" {
		t.Errorf("ratio to a failed line: got %q, want –", got)
	}
}

func TestTargetsTable(t *testing.T) {
	r, results := oneRow()
	const want = `| row | work | target | measured | |
|--:|---|---|--:|---|
| 3 | a race: 2 × 1 GiB on ext4 | a at most 1.20 × b \| b | 0.50 × | met |
| 3 | a race: 2 × 1 GiB on ext4 | a at most 0.40 × b \| b | 0.50 × | **missed** |
| 3 | a race: 2 × 1 GiB on ext4 | a at most 1.00 × c | – | **not measured** |
`
	if diff := cmp.Diff(want, targetsTable([]row{r}, results)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// One table has all results, and an error names the contenders that failed.
func TestLinesTable(t *testing.T) {
	r, results := oneRow()
	const want = `| row | work | contender | median | min – max | samples | ratio |
|--:|---|---|--:|--:|--:|--:|
| 3 | 2 × 1 GiB on ext4, time | a | 2.00 s | 1.00 – 3.00 | 3 | 1.00 |
| 3 | 2 × 1 GiB on ext4, time | b \| b | 4.00 s | 3.00 – 5.00 | 3 | 2.00 |
| 3 | 2 × 1 GiB on ext4, time | c | failed | | 1 | |
| 3 | 2 × 1 GiB on ext4, time | d | not measured | | | |
`
	if diff := cmp.Diff(want, linesTable([]row{r}, results)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if err := (record{Results: results}).failures(); err == nil || !strings.Contains(err.Error(), "c failed: c: exit status 1") {
		t.Errorf("with a failed contender: got %v, want its error", err)
	}
	if err := (record{}).failures(); err != nil {
		t.Error(err)
	}
}

// A copy that moved data fails as a sample of a clone.
func TestCloningIsCloning(t *testing.T) {
	for engines, good := range map[string]bool{`"clone":{"bytes":5}`: true, `"direct":{"bytes":5}`: false, `"clone":{"bytes":4},"direct":{"bytes":1}`: false} {
		var s sample
		if err := cloningTool().parse(place{}, []byte(`{"jobs":16,"read_back":"clone","engines":{`+engines+`},"phases":[{"name":"clone","seconds":0.001}]}`), &s); (err == nil) != good {
			t.Errorf("engines %s: got %v, want an error: %v", engines, err, !good)
		}
	}
}

// The report of saved samples is the same as the first report.
func TestReportWrittenAgain(t *testing.T) {
	o := Config{Raw: filepath.Join(t.TempDir(), "raw.json")}
	r := record{
		Repeat: "make bench-peers SIZE=tiny", Size: "tiny", Samples: 1, Rows: []int{10}, Labels: []string{"old"},
		Fio: FioSettings{"4M", 16}, Facts: []fact{{"kernel", "6 | 7"}}, Results: map[string]*series{},
	}
	rows, _, err := r.selectedRows(r.recordedBuilds())
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range rows[0].tables[0].lanes {
		r.Results[l.resultKey()] = &series{Samples: []sample{{Wall: float64(i+1) / 1000}}}
	}
	first, err := formatReport(r, notes{10: {"A note."}})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.saveRecord(r); err != nil {
		t.Fatal(err)
	}
	again, err := loadRecord(o.Raw)
	if err != nil {
		t.Fatal(err)
	}
	second, err := formatReport(again, notes{10: {"A note."}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("first -, second +:\n%s", diff)
	}
	for _, want := range []string{
		"\n    make bench-peers SIZE=tiny\n", "| -c, present (old) | 2.00 |", "A note.", `| kernel | 6 \| 7 |`,
		"| 10 | nothing to copy, nothing to delete: 10 files of 1 kB on ext4, caches warm | -c, present at most 2.00 × flock FILE true | 0.20 × | met |",
		"**Size tiny**", "flock $LOCKS/other.lock true` (bare)", "- xfs: `mkfs.xfs ",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(first)
	}
}

func TestLoadRefusesNonsense(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw.json")
	if _, err := loadRecord(path); err == nil {
		t.Error("an absent file: got nil, want an error")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadRecord(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("half an object: got %v, want an error with the path", err)
	}
}

package peers

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every label of a target is a line of its table. Otherwise the target would never be
// compared.
func TestTargetsNameTheirLines(t *testing.T) {
	rows := allRows(fullSize(), FioSettings{"4M", 16})
	for i, r := range rows {
		if r.number != i+1 {
			t.Errorf("got number %d for row %d", r.number, i+1)
		}
		targets := 0
		for _, table := range r.tables {
			medians := map[string]float64{}
			for _, l := range table.lanes {
				medians[table.labelOf(l)] = 1
			}
			for _, target := range table.targets {
				targets++
				if v := target.compareWith(medians); v.state == "not measured" {
					t.Errorf("row %d, %s: target %q is never compared", r.number, table.title, target.want)
				}
			}
		}
		if targets == 0 {
			t.Errorf("row %d: got no target, want one", r.number)
		}
	}
	if len(rows) != 15 {
		t.Errorf("got %d rows, want 15", len(rows))
	}
}

// Lanes with the same key are measured once, for all rows. So they must be the same.
func TestKeysDistinguishLanes(t *testing.T) {
	for _, s := range []sizes{fullSize(), standardSize(), quickSize(), tinySize()} {
		seen, labels := map[string]lane{}, map[string]bool{}
		for _, r := range allRows(s, FioSettings{"4M", 16}) {
			for i, table := range r.tables {
				for _, l := range table.lanes {
					if other, ok := seen[l.resultKey()]; ok && (other.contender.command != l.contender.command || other.setting != l.setting ||
						other.workload.name != l.workload.name || other.kind != l.kind) {
						t.Errorf("size %s: two lanes have the key %s", s.Name, l.resultKey())
					}
					seen[l.resultKey()] = l
					label := strings.Join([]string{r.title, string(rune('0' + i)), table.labelOf(l)}, "|")
					if labels[label] {
						t.Errorf("size %s: row %d has two lines %s", s.Name, r.number, label)
					}
					labels[label] = true
				}
			}
		}
	}
}

func TestSelectRows(t *testing.T) {
	numbersOf := func(rows []row) (numbers []int) {
		for _, r := range rows {
			numbers = append(numbers, r.number)
		}
		return numbers
	}
	all := func() []row { return allRows(tinySize(), FioSettings{}) }
	if rows, err := selectRows(all(), nil); err != nil || len(rows) != 15 {
		t.Errorf("no numbers: got %v, %v, want all", numbersOf(rows), err)
	}
	if rows, err := selectRows(all(), []int{12, 3}); err != nil || !slices.Equal(numbersOf(rows), []int{3, 12}) {
		t.Errorf("12 and 3: got %v, %v, want 3 and 12", numbersOf(rows), err)
	}
	if _, err := selectRows(all(), []int{3, 16}); err == nil {
		t.Error("row 16: got nil, want an error")
	}
}

// Another build runs in turn with the first, in lanes of shard_to_ssd only.
func TestOtherBuilds(t *testing.T) {
	rows := withBuilds(allRows(tinySize(), FioSettings{"4M", 16}), []Build{{"", "/new"}, {"old", "/old"}})
	var got []string
	for _, l := range rows[0].tables[0].lanes {
		got = append(got, l.contenderName()+" "+l.build.Path)
	}
	if want := []string{"shard_to_ssd /new", "shard_to_ssd (old) /old", "fio, the same I/O /new"}; !slices.Equal(got, want) {
		t.Errorf("row 1: got %q, want %q", got, want)
	}
	first := rows[12].tables[0]
	if got := first.labelOf(first.lanes[1]); got != "50 files of 1 kB (old)" {
		t.Errorf("row 13: got second line %q, want that of the old build", got)
	}
}

func TestTurns(t *testing.T) {
	rows, err := selectRows(allRows(tinySize(), FioSettings{"4M", 16}), []int{1, 2, 6, 7, 10, 13})
	if err != nil {
		t.Fatal(err)
	}
	type shape struct {
		name           string
		lanes, samples int
	}
	var got []shape
	for _, turn := range turnsOf(rows, 7) {
		got = append(got, shape{turn.name, len(turn.lanes), turn.samples})
	}
	want := []shape{
		{"4 × 4 MiB, ext4", 7, 7}, // shard_to_ssd once for three rows
		{"1 × 12 MiB, ext4", 7, 7},
		{"slow, 1 × 20 MiB, ext4", 2, 7},
		{"slow, 10 files of 2 MiB, ext4", 2, 7},
		{"calls, ext4", 3, 3},
		{"growth of files, ext4", 3, 3},
		{"growth of bytes, ext4", 3, 3},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// A setting with few samples takes at most the requested number.
func TestSamplesOfSettings(t *testing.T) {
	for _, c := range []struct {
		setting setting
		want    int
	}{
		{setting{}, 2},
		{setting{samples: 1}, 1},
		{setting{samples: 3}, 2},
		{setting{samples: 100, warm: true}, 100},
	} {
		if got := c.setting.sampleCount(2); got != c.want {
			t.Errorf("%+v of 2: got %d, want %d", c.setting, got, c.want)
		}
	}
}

func TestPeakCountsKeptSources(t *testing.T) {
	s := tinySize()
	a, b := workload{"a", []batch{equalFiles("a", 1, gib)}}, workload{"b", []batch{equalFiles("b", 1, 2*gib)}}
	turns := []turn{
		{name: "1", lanes: freshLanes(a, "ext4", ourTool())},
		{name: "2", lanes: freshLanes(b, "ext4", ourTool())},
		{name: "3", lanes: freshLanes(a, "xfs", ourTool())}, // a stays on its disk during turn 2
	}
	got, name := peakDiskSpace(turns, s)
	if want := turns[1].diskSize(s) + sourceDiskSize(a) + sourceDiskSize(b); got != want || name != "2" {
		t.Errorf("got %d for %s, want %d for 2", got, name, want)
	}
	if got, _ := peakDiskSpace(turns[1:], s); got != turns[1].diskSize(s)+sourceDiskSize(b) { // a does not exist yet
		t.Errorf("without turn 1: got %d, want %d", got, turns[1].diskSize(s)+sourceDiskSize(b))
	}
}

func TestSizes(t *testing.T) {
	for name, want := range map[string]int64{"full": gib, "0.25": 256 * mib, "2": 2 * gib, "0.001": 4 * mib} {
		s, err := parseSize(name)
		if err != nil || s.Segment != want {
			t.Errorf("%s: got %d, %v, want %d", name, s.Segment, err, want)
		}
	}
	for _, name := range []string{"", "huge", "0", "-1", "NaN", "1e9"} {
		if s, err := parseSize(name); err == nil {
			t.Errorf("%q: got %+v, want an error", name, s)
		}
	}
}

// Command lines use only variables that exist.
func TestCommandsUseKnownVariables(t *testing.T) {
	env := place{}.variables()
	variable := regexp.MustCompile(`\$\{?([A-Z]+)`)
	for _, r := range allRows(tinySize(), FioSettings{"4M", 16}) {
		for _, table := range r.tables {
			for _, l := range table.lanes {
				c := l.contender
				for _, m := range variable.FindAllStringSubmatch(c.command+c.prepare+c.after+c.check+l.setting.ready, -1) {
					if _, ok := env[m[1]]; !ok {
						t.Errorf("row %d, %s: unknown variable %s", r.number, c.name, m[1])
					}
				}
			}
		}
	}
}

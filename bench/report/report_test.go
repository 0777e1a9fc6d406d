package report_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/example"
	"shard_to_ssd/bench/report"
)

// A page that is opened in ten years, on a machine without a network, is the same.
func TestSelfContained(t *testing.T) {
	page := written(t, example.Cached().Result(2), example.Steady().Result(2))
	for _, bad := range []string{"http:", "https:", "//", "<script", "@import", "url(", "<img", "<iframe", "javascript:", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", "@media print", `charset="utf-8"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// Summary first, then charts, then facts.
func TestOrder(t *testing.T) {
	page := written(t, example.Cached().Result(2))
	var got []string
	for _, m := range regexp.MustCompile(`<section id="(\w+)"`).FindAllStringSubmatch(page, -1) {
		got = append(got, m[1])
	}
	if want := "summary sustained ceiling limits matrix latency facts"; strings.Join(got, " ") != want {
		t.Errorf("%s; wanted %s", got, want)
	}
}

func TestWords(t *testing.T) {
	odd := example.Steady().Result(2)
	odd.Complete, odd.Sustained.Complete = false, false
	hot := true
	odd.Sustained.Began = 3
	odd.Facts.Governor, odd.Facts.Heat = nil, []bench.Heat{{Second: 1, Celsius: 70}, {Second: 93, Celsius: 88, Alarm: &hot}, {Second: 94, Celsius: 89, Alarm: &hot}}
	name := `<b onclick="x">&"`
	odd.Facts.Model = &name
	two := written(t, example.Cached().Result(2), odd)
	for _, want := range []string{
		"cliff at 18", "the long write was ended early", "&lt;b onclick=&#34;x&#34;&gt;&amp;&#34;: the run was ended early",
		"extents were shared: nothing was copied", "not known", "after 93 s (90 s into the long write), at 88 °C, its sensor said", "these numbers are invented",
	} {
		if !strings.Contains(two, want) {
			t.Errorf("the page does not say %s", want)
		}
	}
	if strings.Contains(two, "met no cliff") || strings.Contains(two, "no cliff") {
		t.Error("a long write that was ended early is taken for one without a cliff")
	}
	steady := example.Steady().Result(2)
	if page := written(t, example.Cached().Result(2), steady); !strings.Contains(page, "met no cliff") || strings.Count(page, ">no cliff<") == 0 {
		t.Error("a drive without a cliff is not said to have none")
	}
	steady.Sustained.Points = steady.Sustained.Points[:11]
	if page := written(t, example.Cached().Result(2), steady); strings.Contains(page, "met no cliff") || strings.Contains(page, ">no cliff<") ||
		!strings.Contains(page, "too short to tell") {
		t.Error("a write that was too short for a cliff is taken for one without")
	}
	same := written(t, example.Cached().Result(2), example.Cached().Result(2))
	if !strings.Contains(same, "Example Drive A 2TB (2)") {
		t.Error("two results of one model have one name")
	}
}

func TestHowMany(t *testing.T) {
	r := example.Steady().Result(1)
	for _, results := range [][]*bench.Result{nil, {r, r, r, r, r}} {
		if err := report.Write(&bytes.Buffer{}, results); err == nil || !strings.Contains(err.Error(), "1 to 4") {
			t.Errorf("%d results: %v", len(results), err)
		}
	}
}

// What a run that was ended at once has measured is a page, too.
func TestEmptyResult(t *testing.T) {
	for _, r := range []*bench.Result{
		{Version: 1},
		{Version: 1, Sustained: &bench.Sustained{}, Readers: &bench.Readers{}, Ceilings: []bench.Ceiling{{Way: bench.Read}}, Cases: []bench.Case{{Workload: "huge"}}},
		{Version: 1, Sustained: &bench.Sustained{Points: []bench.Point{{}}}, Facts: bench.Facts{Heat: []bench.Heat{{}}}},
	} {
		page := written(t, r)
		if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") || !strings.Contains(page, "no copy was measured") {
			t.Error(page)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	json, file := filepath.Join(dir, "a.json"), filepath.Join(dir, "a.html")
	if err := bench.Save(json, example.Cached().Result(2)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := report.Files(&out, "", []string{json}); err != nil {
		t.Fatal(err)
	}
	if err := report.Files(nil, file, []string{json}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(text, out.Bytes()) || len(text) == 0 {
		t.Errorf("%d and %d bytes, %v", len(text), out.Len(), err)
	}
	absent := filepath.Join(dir, "absent.json")
	if err := report.Files(nil, file, []string{json, absent}); err == nil || !strings.Contains(err.Error(), absent) {
		t.Errorf("%v", err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(after, text) {
		t.Error("a report that failed has changed the old one")
	}
}

// A second in which nothing was written is shown, and a percentile of too few
// measurements is not.
func TestZeroIsKnownAndFewAreNot(t *testing.T) {
	page := func(count int64) string {
		r := example.Steady().Result(1)
		r.Sustained.WorstSecond = new(float64)
		for i := range r.Cases {
			for k := range r.Cases[i].Samples {
				s := &r.Cases[i].Samples[k]
				s.File.Count, s.Sync.Count = count, count
			}
		}
		return written(t, r)
	}
	few, many := page(99), page(100)
	if !strings.Contains(few, "worst second <small>") {
		t.Error("the page does not show a worst second of nothing")
	}
	for _, name := range []string{"a file, p99", "a sync, p99"} {
		if strings.Contains(few, name) || !strings.Contains(many, name) {
			t.Errorf("%q: of 99 measurements %v, of 100 %v", name, strings.Contains(few, name), strings.Contains(many, name))
		}
	}
}

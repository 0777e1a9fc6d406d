package report_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/internal/benchtest"
	"shard_to_ssd/bench/report"
)

// The page needs no network and no script, so that it looks the same in ten years.
func TestSelfContained(t *testing.T) {
	page := renderPage(t, benchtest.CachedDrive().MakeResult(2), benchtest.SteadyDrive().MakeResult(2))
	for _, bad := range []string{"http:", "https:", "//", "<script", "@import", "url(", "<img", "<iframe", "javascript:", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s, which it must not", bad)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", "@media print", `charset="utf-8"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// The page has the summary first, then the charts, then the facts.
func TestOrder(t *testing.T) {
	page := renderPage(t, benchtest.CachedDrive().MakeResult(2))
	var got []string
	for _, m := range regexp.MustCompile(`<section id="(\w+)"`).FindAllStringSubmatch(page, -1) {
		got = append(got, m[1])
	}
	if want := "summary sustained ceiling limits matrix latency facts"; strings.Join(got, " ") != want {
		t.Errorf("got sections %s, want %s", got, want)
	}
}

func TestTexts(t *testing.T) {
	odd := benchtest.SteadyDrive().MakeResult(2)
	odd.Complete, odd.Sustained.Complete = false, false
	hot := true
	odd.Sustained.Began = 3
	odd.Facts.Governor, odd.Facts.Temperatures = nil, []bench.Temperature{{Second: 1, Celsius: 70}, {Second: 93, Celsius: 88, Alarm: &hot}, {Second: 94, Celsius: 89, Alarm: &hot}}
	name := `<b onclick="x">&"`
	odd.Facts.Model = &name
	two := renderPage(t, benchtest.CachedDrive().MakeResult(2), odd)
	for _, want := range []string{
		"cliff at 18", "the long write ended early", "&lt;b onclick=&#34;x&#34;&gt;&amp;&#34;: the run ended early",
		"extents were shared: nothing was copied", "unknown", "after 93 s (90 s into the long write) the sensor reported that 88 °C", "these numbers are invented",
	} {
		if !strings.Contains(two, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
	if strings.Contains(two, "found no cliff") || strings.Contains(two, "no cliff") {
		t.Error("a long write that ended early counts as one without a cliff")
	}
	steady := benchtest.SteadyDrive().MakeResult(2)
	if page := renderPage(t, benchtest.CachedDrive().MakeResult(2), steady); !strings.Contains(page, "found no cliff") || strings.Count(page, ">no cliff<") == 0 {
		t.Error("the page does not report a drive without a cliff")
	}
	steady.Sustained.Points = steady.Sustained.Points[:11]
	if page := renderPage(t, benchtest.CachedDrive().MakeResult(2), steady); strings.Contains(page, "found no cliff") || strings.Contains(page, ">no cliff<") ||
		!strings.Contains(page, "too short to tell") {
		t.Error("a write that was too short to find a cliff counts as one without")
	}
	same := renderPage(t, benchtest.CachedDrive().MakeResult(2), benchtest.CachedDrive().MakeResult(2))
	if !strings.Contains(same, "Example Drive A 2TB (2)") {
		t.Error("two results of one model have the same name")
	}
}

func TestNumberOfResults(t *testing.T) {
	r := benchtest.SteadyDrive().MakeResult(1)
	for _, results := range [][]*bench.Result{nil, {r, r, r, r, r}} {
		if err := report.Write(&bytes.Buffer{}, results); err == nil || !strings.Contains(err.Error(), "1 to 4") {
			t.Errorf("%d results: got error %v", len(results), err)
		}
	}
}

// A run that ended at once has a page.
func TestEmptyResult(t *testing.T) {
	for _, r := range []*bench.Result{
		{Version: 1},
		{Version: 1, Sustained: &bench.Sustained{}, Readers: &bench.Readers{}, Ceilings: []bench.Ceiling{{Way: bench.Read}}, Cases: []bench.Case{{Workload: "huge"}}},
		{Version: 1, Sustained: &bench.Sustained{Points: []bench.Point{{}}}, Facts: bench.Facts{Temperatures: []bench.Temperature{{}}}},
	} {
		page := renderPage(t, r)
		if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") || !strings.Contains(page, "No copy was measured") {
			t.Errorf("wrong page of an empty result: %s", page)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	json, file := filepath.Join(dir, "a.json"), filepath.Join(dir, "a.html")
	if err := bench.Save(json, benchtest.CachedDrive().MakeResult(2)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := report.WriteFromFiles(&out, "", []string{json}); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteFromFiles(nil, file, []string{json}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(text, out.Bytes()) || len(text) == 0 {
		t.Errorf("got %d bytes in the file and %d on standard output, %v", len(text), out.Len(), err)
	}
	absent := filepath.Join(dir, "absent.json")
	if err := report.WriteFromFiles(nil, file, []string{json, absent}); err == nil || !strings.Contains(err.Error(), absent) {
		t.Errorf("got error %v, want one about %s", err, absent)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(after, text) {
		t.Error("a failed report changed the old one")
	}
}

// The page shows a worst second of 0, but no percentile of too few measurements.
func TestZeroAndFewMeasurements(t *testing.T) {
	page := func(count int64) string {
		r := benchtest.SteadyDrive().MakeResult(1)
		r.Sustained.WorstSecond = new(float64)
		for i := range r.Cases {
			for k := range r.Cases[i].Samples {
				s := &r.Cases[i].Samples[k]
				s.File.Count, s.Sync.Count = count, count
			}
		}
		return renderPage(t, r)
	}
	few, many := page(99), page(100)
	if !strings.Contains(few, "worst second <small>") {
		t.Error("the page does not show a worst second of 0")
	}
	for _, name := range []string{"a file, p99", "a sync, p99"} {
		if strings.Contains(few, name) || !strings.Contains(many, name) {
			t.Errorf("%q: shown with 99 measurements %v, with 100 %v; want only with 100", name, strings.Contains(few, name), strings.Contains(many, name))
		}
	}
}

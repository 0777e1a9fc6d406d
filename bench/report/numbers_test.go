package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/example"
	"shard_to_ssd/bench/report"
)

func written(t *testing.T, results ...*bench.Result) string {
	t.Helper()
	var page bytes.Buffer
	if err := report.Write(&page, results); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// file is a result as any program sees it that reads the JSON.
type file struct {
	t    *testing.T
	root any
}

func fileOf(t *testing.T, r *bench.Result) file {
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	f := file{t: t}
	if err := json.Unmarshal(text, &f.root); err != nil {
		t.Fatal(err)
	}
	return f
}

// all are the values that a path leads to; * stands for each of a list.
func (f file) all(path string) []float64 {
	at := []any{f.root}
	for _, step := range strings.Split(path, "/")[1:] {
		var next []any
		for _, v := range at {
			switch v := v.(type) {
			case map[string]any:
				next = append(next, v[step])
			case []any:
				if step == "*" {
					next = append(next, v...)
				} else if i, err := strconv.Atoi(step); err == nil {
					next = append(next, v[i])
				}
			}
		}
		at = next
	}
	var numbers []float64
	for _, v := range at {
		switch v := v.(type) {
		case float64:
			numbers = append(numbers, v)
		case []any:
			for _, e := range v {
				numbers = append(numbers, e.(float64))
			}
		default:
			f.t.Errorf("%s leads to %v", path, v)
		}
	}
	return numbers
}

func middle(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// value is what a number on the page should be, from what it says it was made of.
func (f file) value(from string) float64 {
	how, path, made := strings.Cut(from, " ")
	switch {
	case !made:
		return f.all(from)[0]
	case how == "median":
		return middle(f.all(path))
	case how == "cpu":
		return middle(f.all(path+"/samples/*/cpu")) / f.all(path + "/bytes")[0] * (1 << 30)
	case how == "rate", how == "share":
		rates := f.all(path + "/samples/*/last_done")
		for i := range rates {
			rates[i] = f.all(path + "/bytes")[0] / rates[i]
		}
		if how == "share" {
			return 100 * middle(rates) / f.all(path + "/ceiling")[0]
		}
		return middle(rates)
	}
	f.t.Errorf("made from %q", from)
	return math.NaN()
}

func attribute(tag, name string) string {
	m := regexp.MustCompile(`\s` + name + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func float(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Error(err)
	}
	return v
}

func near(a, b, share float64) bool {
	return a == b || math.Abs(a-b) <= share*math.Max(math.Abs(a), math.Abs(b))
}

// read is a number as a reader of the page understands it.
func read(t *testing.T, text string) float64 {
	m := regexp.MustCompile(`([\d.]+) (%|[kMGTP]?B(?:/s)?|s|ms|µs)$`).FindStringSubmatch(text)
	if m == nil {
		t.Errorf("%q is no number with a unit", text)
		return math.NaN()
	}
	unit := strings.TrimSuffix(m[2], "/s")
	scale, ok := map[string]float64{"%": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15, "s": 1, "ms": 1e-3, "µs": 1e-6}[unit]
	if !ok {
		t.Errorf("%q has no unit", text)
	}
	return float(t, m[1]) * scale
}

var (
	dataTag  = regexp.MustCompile(`(<data [^>]*>)([^<]*)</data>`)
	markTag  = regexp.MustCompile(`(<text [^>]*data-value[^>]*>)([^<]*)</text>`)
	lineTag  = regexp.MustCompile(`<polyline [^>]*>`)
	textTags = regexp.MustCompile(`<[^>]*>`)
)

// Every number of the page is that of the file, exactly, and what is read of it is that,
// rounded.
func TestNumbersAreTheFiles(t *testing.T) {
	for name, results := range samples() {
		t.Run(name, func(t *testing.T) {
			page := written(t, results...)
			numbers := append(dataTag.FindAllStringSubmatch(page, -1), markTag.FindAllStringSubmatch(page, -1)...)
			if len(numbers) < 10*len(results) {
				t.Errorf("only %d numbers", len(numbers))
			}
			var files []file
			for _, r := range results {
				files = append(files, fileOf(t, r))
			}
			for _, n := range numbers {
				which, err := strconv.Atoi(attribute(n[1], "data-result"))
				if err != nil {
					t.Fatal(err)
				}
				exact := attribute(n[1], "value") + attribute(n[1], "data-value")
				from := attribute(n[1], "data-from")
				want := files[which].value(from)
				if got := float(t, exact); !near(got, want, 1e-12) {
					t.Errorf("%s: %v; the file has %v", from, got, want)
				}
				if said := read(t, html.UnescapeString(n[2])); !near(said, want, 0.006) {
					t.Errorf("%s: is read as %v; the file has %v", from, said, want)
				}
			}
		})
	}
}

func samples() map[string][]*bench.Result {
	a, b := example.Cached().Result(5), example.Steady().Result(6)
	bare := &bench.Result{Version: bench.ResultVersion, Cases: []bench.Case{{Workload: "huge", Engine: "direct", Block: 1000, Jobs: 1, Bytes: 5,
		Samples: []bench.Sample{{LastDone: 2}}}}}
	for i := range 10 {
		bare.Ceilings = append(bare.Ceilings, bench.Ceiling{Way: bench.Read, Block: 1, Depth: i, Rates: []float64{float64(i + 1)}})
	}
	bare.Ceilings[0].Way, bare.Ceilings[1].Way = bench.Write, bench.Both
	bare.Sustained = &bench.Sustained{Cliff: &bench.Cliff{Offset: 999_499, Before: 999_500, After: 1}, WorstSecond: new(float64)}
	bare.Readers = &bench.Readers{Alone: bench.Latency{P99: 0.00099951}, Beside: bench.Latency{P99: 1}}
	return map[string][]*bench.Result{"one": {a}, "two": {a, b}, "four": {b, a, b, a}, "bare": {bare}}
}

// series are the points of a line, from the file.
func (f file) series(from string) (x, y []float64) {
	if path, ok := strings.CutSuffix(from, " percentiles"); ok {
		path, median := strings.CutPrefix(path, "median ")
		for i, p := range []string{"p50", "p90", "p99", "p999", "max"} {
			v := f.all(path + "/" + p)
			if median {
				v = []float64{middle(v)}
			}
			x, y = append(x, float64(i)+0.5), append(y, v...)
		}
		return x, y
	}
	var list, xs, ys string
	if _, err := fmt.Sscan(from, &list, &xs, &ys); err != nil {
		f.t.Fatal(err)
	}
	return f.all(list + "/*/" + xs), f.all(list + "/*/" + ys)
}

// What the lines of charts show is what the file has: a hundredth of a pixel is off.
func TestLinesAreTheFiles(t *testing.T) {
	results := []*bench.Result{example.Cached().Result(3), example.Steady().Result(3)}
	lines := lineTag.FindAllString(written(t, results...), -1)
	if len(lines) != 2*(1+2+1+2+1) {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		which, _ := strconv.Atoi(attribute(line, "data-result"))
		from := attribute(line, "data-from")
		wantX, wantY := fileOf(t, results[which]).series(from)
		points := strings.Fields(attribute(line, "points"))
		if len(points) != len(wantX) || len(points) != len(wantY) {
			t.Errorf("%s: %d points; the file has %d", from, len(points), len(wantX))
			continue
		}
		xMax, yMin, yMax := float(t, attribute(line, "data-xmax")), float(t, attribute(line, "data-ymin")), float(t, attribute(line, "data-ymax"))
		for i, p := range points {
			px, py, _ := strings.Cut(p, ",")
			x := (float(t, px) - 76) / (744 - 76) * xMax
			part := (256 - float(t, py)) / (256 - 26)
			y := yMin + part*(yMax-yMin)
			ok := math.Abs(y-wantY[i]) <= 1e-4*yMax
			if attribute(line, "data-log") == "true" {
				y = yMin * math.Pow(yMax/yMin, part)
				ok = near(y, wantY[i], 1e-3)
			}
			if math.Abs(x-wantX[i]) > 1e-4*xMax || !ok {
				t.Errorf("%s: point %d is %v %v; the file has %v %v", from, i, x, y, wantX[i], wantY[i])
				break
			}
		}
	}
}

// The verdicts are those of compare.
func TestVerdicts(t *testing.T) {
	a, b := example.Cached().Result(6), example.Steady().Result(6)
	text := strings.Join(strings.Fields(textTags.ReplaceAllString(written(t, a, b), "")), " ")
	c := bench.Compare(a, b)
	want := fmt.Sprintf("of all measures %d better, %d worse, %d no different, %d of too few samples to tell; by chance alone up to %.0f would differ",
		c.Count(bench.Better), c.Count(bench.Worse), c.Count(bench.Same), c.Count(bench.Unknown), c.Chance())
	if !strings.Contains(text, want) {
		t.Errorf("the page does not say %q", want)
	}
}

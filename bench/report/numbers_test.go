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
	"shard_to_ssd/bench/internal/benchtest"
	"shard_to_ssd/bench/report"
)

func renderPage(t *testing.T, results ...*bench.Result) string {
	t.Helper()
	var page bytes.Buffer
	if err := report.Write(&page, results); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// jsonFile is a result as any program that reads its JSON has it.
type jsonFile struct {
	t    *testing.T
	root any
}

func fileOf(t *testing.T, r *bench.Result) jsonFile {
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	f := jsonFile{t: t}
	if err := json.Unmarshal(text, &f.root); err != nil {
		t.Fatal(err)
	}
	return f
}

// valuesAt returns the values at a path; * stands for each entry of a list.
func (f jsonFile) valuesAt(path string) []float64 {
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
			f.t.Errorf("no numbers at %s: %v", path, v)
		}
	}
	return numbers
}

func medianOf(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// expectedValue computes the value of a number from its origin.
func (f jsonFile) expectedValue(from string) float64 {
	how, path, hasMethod := strings.Cut(from, " ")
	switch {
	case !hasMethod:
		return f.valuesAt(from)[0]
	case how == "median":
		return medianOf(f.valuesAt(path))
	case how == "cpu":
		return medianOf(f.valuesAt(path+"/samples/*/cpu")) / f.valuesAt(path + "/bytes")[0] * (1 << 30)
	case how == "rate", how == "share":
		rates := f.valuesAt(path + "/samples/*/last_done")
		for i := range rates {
			rates[i] = f.valuesAt(path + "/bytes")[0] / rates[i]
		}
		if how == "share" {
			return 100 * medianOf(rates) / f.valuesAt(path + "/ceiling")[0]
		}
		return medianOf(rates)
	}
	f.t.Errorf("unknown origin %q", from)
	return math.NaN()
}

func attributeOf(tag, name string) string {
	m := regexp.MustCompile(`\s` + name + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func parseFloat(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Error(err)
	}
	return v
}

func isNear(a, b, share float64) bool {
	return a == b || math.Abs(a-b) <= share*math.Max(math.Abs(a), math.Abs(b))
}

// parseNumber returns the value of a number as a person reads it.
func parseNumber(t *testing.T, text string) float64 {
	m := regexp.MustCompile(`([\d.]+) (%|[kMGTP]?B(?:/s)?|s|ms|µs)$`).FindStringSubmatch(text)
	if m == nil {
		t.Errorf("%q is not a number with a unit", text)
		return math.NaN()
	}
	unit := strings.TrimSuffix(m[2], "/s")
	scale, ok := map[string]float64{"%": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15, "s": 1, "ms": 1e-3, "µs": 1e-6}[unit]
	if !ok {
		t.Errorf("%q has an unknown unit", text)
	}
	return parseFloat(t, m[1]) * scale
}

var (
	dataTag  = regexp.MustCompile(`(<data [^>]*>)([^<]*)</data>`)
	markTag  = regexp.MustCompile(`(<text [^>]*data-value[^>]*>)([^<]*)</text>`)
	lineTag  = regexp.MustCompile(`<polyline [^>]*>`)
	textTags = regexp.MustCompile(`<[^>]*>`)
)

// Every number of the page has the exact value of the file, and its text is that value,
// rounded.
func TestNumbersMatchTheFile(t *testing.T) {
	for name, results := range sampleResults() {
		t.Run(name, func(t *testing.T) {
			page := renderPage(t, results...)
			numbers := append(dataTag.FindAllStringSubmatch(page, -1), markTag.FindAllStringSubmatch(page, -1)...)
			if len(numbers) < 10*len(results) {
				t.Errorf("got only %d numbers", len(numbers))
			}
			var files []jsonFile
			for _, r := range results {
				files = append(files, fileOf(t, r))
			}
			for _, n := range numbers {
				which, err := strconv.Atoi(attributeOf(n[1], "data-result"))
				if err != nil {
					t.Fatal(err)
				}
				exact := attributeOf(n[1], "value") + attributeOf(n[1], "data-value")
				from := attributeOf(n[1], "data-from")
				want := files[which].expectedValue(from)
				if got := parseFloat(t, exact); !isNear(got, want, 1e-12) {
					t.Errorf("%s: got %v, want %v", from, got, want)
				}
				if rounded := parseNumber(t, html.UnescapeString(n[2])); !isNear(rounded, want, 0.006) {
					t.Errorf("%s: got the text of %v, want %v", from, rounded, want)
				}
			}
		})
	}
}

func sampleResults() map[string][]*bench.Result {
	a, b := benchtest.CachedDrive().MakeResult(5), benchtest.SteadyDrive().MakeResult(6)
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

// lineSeries returns the points of a line from the file.
func (f jsonFile) lineSeries(from string) (x, y []float64) {
	if path, ok := strings.CutSuffix(from, " percentiles"); ok {
		path, median := strings.CutPrefix(path, "median ")
		for i, p := range []string{"p50", "p90", "p99", "p999", "max"} {
			v := f.valuesAt(path + "/" + p)
			if median {
				v = []float64{medianOf(v)}
			}
			x, y = append(x, float64(i)+0.5), append(y, v...)
		}
		return x, y
	}
	var list, xs, ys string
	if _, err := fmt.Sscan(from, &list, &xs, &ys); err != nil {
		f.t.Fatal(err)
	}
	return f.valuesAt(list + "/*/" + xs), f.valuesAt(list + "/*/" + ys)
}

// The lines of the charts show the values of the file, to a hundredth of a pixel.
func TestLinesMatchTheFile(t *testing.T) {
	results := []*bench.Result{benchtest.CachedDrive().MakeResult(3), benchtest.SteadyDrive().MakeResult(3)}
	lines := lineTag.FindAllString(renderPage(t, results...), -1)
	if len(lines) != 2*(1+2+1+2+1) {
		t.Fatalf("got %d lines", len(lines))
	}
	for _, line := range lines {
		which, _ := strconv.Atoi(attributeOf(line, "data-result"))
		from := attributeOf(line, "data-from")
		wantX, wantY := fileOf(t, results[which]).lineSeries(from)
		points := strings.Fields(attributeOf(line, "points"))
		if len(points) != len(wantX) || len(points) != len(wantY) {
			t.Errorf("%s: got %d points, want %d", from, len(points), len(wantX))
			continue
		}
		xMax, yMin, yMax := parseFloat(t, attributeOf(line, "data-xmax")), parseFloat(t, attributeOf(line, "data-ymin")), parseFloat(t, attributeOf(line, "data-ymax"))
		for i, p := range points {
			px, py, _ := strings.Cut(p, ",")
			x := (parseFloat(t, px) - 76) / (744 - 76) * xMax
			part := (256 - parseFloat(t, py)) / (256 - 26)
			y := yMin + part*(yMax-yMin)
			ok := math.Abs(y-wantY[i]) <= 1e-4*yMax
			if attributeOf(line, "data-log") == "true" {
				y = yMin * math.Pow(yMax/yMin, part)
				ok = isNear(y, wantY[i], 1e-3)
			}
			if math.Abs(x-wantX[i]) > 1e-4*xMax || !ok {
				t.Errorf("%s: point %d: got %v %v, want %v %v", from, i, x, y, wantX[i], wantY[i])
				break
			}
		}
	}
}

// The page has the verdicts of the comparison.
func TestVerdicts(t *testing.T) {
	a, b := benchtest.CachedDrive().MakeResult(6), benchtest.SteadyDrive().MakeResult(6)
	text := strings.Join(strings.Fields(textTags.ReplaceAllString(renderPage(t, a, b), "")), " ")
	c := bench.Compare(a, b)
	want := fmt.Sprintf("%d measures better, %d worse, %d no different, %d with too few samples. By chance alone, up to %.0f would differ",
		c.CountVerdict(bench.Better), c.CountVerdict(bench.Worse), c.CountVerdict(bench.Same), c.CountVerdict(bench.Unknown), c.ExpectedByChance())
	if !strings.Contains(text, want) {
		t.Errorf("the page does not have %q", want)
	}
}

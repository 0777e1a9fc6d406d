package report

import (
	"fmt"
	"math"
	"strings"

	"shard_to_ssd/bench"
)

// The size of a chart, and what is left of it for labels, in units of its picture.
const (
	width, height            = 760, 300
	left, right, top, bottom = 76, 16, 26, 44
)

// chart is a picture of lines. Lines keep what their axes end with, so that values can
// be had from the picture again.
type chart struct {
	Title, Help    string
	XLabel, YLabel string
	XTicks, YTicks []tick
	Lines          []line
	Marks          []mark
	xMax           float64
	yMin, yMax     float64
	log            bool
}

type tick struct {
	At    float64
	Label string
}

type line struct {
	Class, Label string
	Dashed, Dots bool
	Result       int
	From         string // the list of points
	Points       []point
	chart        *chart
}

type point struct{ x, y float64 }

// mark is a place on the x axis.
type mark struct {
	Class string
	X, Y  float64 // in the picture
	Left  bool    // the label is on the left of it
	*Num
}

func (c *chart) x(v float64) float64 { return left + v/c.xMax*(width-left-right) }

func (c *chart) y(v float64) float64 {
	part := (v - c.yMin) / (c.yMax - c.yMin)
	if c.log {
		part = (math.Log(min(max(v, c.yMin), c.yMax)) - math.Log(c.yMin)) / (math.Log(c.yMax) - math.Log(c.yMin))
	}
	return height - bottom - part*(height-top-bottom)
}

// XMax, YMin, YMax and Log are what it takes to have values from coordinates.
func (l line) XMax() float64 { return l.chart.xMax }
func (l line) YMin() float64 { return l.chart.yMin }
func (l line) YMax() float64 { return l.chart.yMax }
func (l line) Log() bool     { return l.chart.log }

// Path is the points of the line, as SVG has them.
func (l line) Path() string {
	var b strings.Builder
	for i, p := range l.Points {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%.2f,%.2f", l.chart.x(p.x), l.chart.y(p.y))
	}
	return b.String()
}

// Spots are the points, for lines of few.
func (l line) Spots() (list []tick) {
	if !l.Dots {
		return nil
	}
	for _, p := range l.Points {
		list = append(list, tick{l.chart.x(p.x), fmt.Sprintf("%.2f", l.chart.y(p.y))})
	}
	return list
}

// nice is the step of a scale of some six steps: 1, 2 or 5 of a power of ten.
func nice(most float64) float64 {
	if !(most > 0) || math.IsInf(most, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most/6)))
	for _, step := range []float64{1, 2, 5} {
		if most/6 <= step*power {
			return step * power
		}
	}
	return 10 * power
}

// round leaves out zeros behind the point, which say nothing on an axis.
func round(label string) string {
	n, unit, _ := strings.Cut(label, " ")
	if strings.Contains(n, ".") {
		n = strings.TrimRight(strings.TrimRight(n, "0"), ".")
	}
	return n + " " + unit
}

// scale lays out both axes from 0, for what is in the lines.
func (c *chart) scale(x, y func(v float64) string) {
	mostX, mostY := 0.0, 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			mostX, mostY = max(mostX, p.x), max(mostY, p.y)
		}
	}
	stepX, stepY := nice(mostX), nice(mostY)
	c.xMax, c.yMax = max(mostX, stepX), math.Ceil(mostY*1.02/stepY)*stepY
	c.yMax = max(c.yMax, stepY)
	for _, v := range steps(stepX, c.xMax) {
		c.XTicks = append(c.XTicks, tick{c.x(v), round(x(v))})
	}
	for _, v := range steps(stepY, c.yMax) {
		c.YTicks = append(c.YTicks, tick{c.y(v), round(y(v))})
	}
}

// steps are the multiples of a step up to most. There are ten at most, whatever numbers
// a file has.
func steps(step, most float64) (list []float64) {
	for i := range 10 {
		if v := float64(i) * step; v <= most*1.001 {
			list = append(list, v)
		}
	}
	return list
}

// add puts a line into the chart.
func (c *chart) add(l line) {
	l.chart = c
	c.Lines = append(c.Lines, l)
}

// sustained are the first long write, with its cliff, and what came after a pause.
func sustained(all []source) (list []*chart) {
	first := &chart{Title: "Throughput of a long write", Help: "Each half second of one write without end. A dashed line is the cliff: from there on the drive is slower for good."}
	again := &chart{Title: "And again after a pause", Help: "Once more, and after another pause with a reader beside it (dashed)."}
	for _, s := range all {
		if l := s.Sustained; l != nil {
			first.write(s, "/sustained/points", false, l.Points)
			again.write(s, "/sustained/after_it", false, l.AfterIt)
			again.write(s, "/sustained/beside", true, l.Beside)
		}
	}
	for _, c := range []*chart{first, again} {
		if len(c.Lines) > 0 {
			c.XLabel, c.YLabel = "time", "rate"
			c.scale(func(v float64) string { return digits(v) + " s" }, func(v float64) string { return scaled(v, "B/s") })
			list = append(list, c)
		}
	}
	for _, s := range all {
		if s.Sustained != nil && s.Sustained.Cliff != nil && len(first.Lines) > 0 {
			x := first.x(s.Sustained.Cliff.Second)
			first.Marks = append(first.Marks, mark{class(s.index), x, top + 12 + 16*float64(s.index), x > width*0.75, s.drive("").Cliff})
		}
	}
	return list
}

// write adds the rate of a write over time, if there was one.
func (c *chart) write(s source, from string, dashed bool, points []bench.Point) {
	if len(points) == 0 {
		return
	}
	l := line{Class: class(s.index), Dashed: dashed, Result: s.index, From: from + " second rate"}
	for _, p := range points {
		l.Points = append(l.Points, point{p.Second, p.Rate})
	}
	c.add(l)
}

func heat(all []source) *chart {
	c := &chart{Title: "Temperature", Help: "Of the drive, while it was measured.", XLabel: "time", YLabel: "°C"}
	for _, s := range all {
		if len(s.Facts.Heat) == 0 {
			continue
		}
		l := line{Class: class(s.index), Result: s.index, From: "/facts/heat second celsius"}
		for _, h := range s.Facts.Heat {
			l.Points = append(l.Points, point{h.Second, h.Celsius})
		}
		c.add(l)
	}
	if len(c.Lines) == 0 {
		return nil
	}
	c.scale(func(v float64) string { return digits(v) + " s" }, func(v float64) string { return digits(v) + " °C" })
	return c
}

func latencies(all []source) (list []*chart) {
	readers := &chart{Title: "Latency of a reader", Help: "A random read of 4 KiB: alone (dashed), and beside a copy."}
	blocks := &chart{Title: "Latency of a block", Help: "Of the best copy of the first workload: read, summed, written. Medians of its samples."}
	for _, s := range all {
		if s.Readers != nil {
			readers.percentiles(s, "/readers/alone", true, s.Readers.Alone)
			readers.percentiles(s, "/readers/beside", false, s.Readers.Beside)
		}
		if i := s.large(); i >= 0 {
			blocks.percentiles(s, fmt.Sprintf("median /cases/%d/samples/*/block_latency", i), false, middling(s.Cases[i].Samples))
		}
	}
	for _, c := range []*chart{readers, blocks} {
		if len(c.Lines) > 0 {
			c.scaleLog()
			list = append(list, c)
		}
	}
	return list
}

// middling is the median of each percentile.
func middling(samples []bench.Sample) (l bench.Latency) {
	of := func(get func(l *bench.Latency) float64) float64 {
		var values []float64
		for i := range samples {
			values = append(values, get(&samples[i].Block))
		}
		v, _ := median(values)
		return v
	}
	l.P50, l.P90 = of(func(l *bench.Latency) float64 { return l.P50 }), of(func(l *bench.Latency) float64 { return l.P90 })
	l.P99, l.P999 = of(func(l *bench.Latency) float64 { return l.P99 }), of(func(l *bench.Latency) float64 { return l.P999 })
	l.Max = of(func(l *bench.Latency) float64 { return l.Max })
	return l
}

func (c *chart) percentiles(s source, from string, dashed bool, l bench.Latency) {
	if l.P50 <= 0 {
		return
	}
	out := line{Class: class(s.index), Dashed: dashed, Dots: true, Result: s.index, From: from + " percentiles"}
	for i, v := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
		out.Points = append(out.Points, point{float64(i) + 0.5, v})
	}
	c.add(out)
}

// scaleLog lays out percentiles beside each other, over powers of ten.
func (c *chart) scaleLog() {
	least, most := math.Inf(1), 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			least, most = min(least, p.y), max(most, p.y)
		}
	}
	// Nothing takes less than a nanosecond, or 30 years.
	least, most = max(least, 1e-9), min(max(most, 1e-9), 1e9)
	c.log, c.xMax = true, 5
	c.yMin, c.yMax = math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most)))
	if c.yMax <= c.yMin {
		c.yMax = 10 * c.yMin
	}
	for i, name := range []string{"p50", "p90", "p99", "p99.9", "max"} {
		c.XTicks = append(c.XTicks, tick{c.x(float64(i) + 0.5), name})
	}
	for v := c.yMin; v <= c.yMax*1.001 && len(c.YTicks) < 12; v *= 10 {
		c.YTicks = append(c.YTicks, tick{c.y(v), round(span(v))})
	}
}

package report

import (
	"fmt"
	"math"
	"strings"

	"shard_to_ssd/bench"
)

// The size of a chart and its margins for labels, in SVG units.
const (
	width, height            = 760, 300
	left, right, top, bottom = 76, 16, 26, 44
)

// chart is a picture of lines. Each line also has the limits of its axes, so that a
// program can compute the values from the picture.
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

// tick is a label at a position of an axis.
type tick struct {
	At    float64
	Label string
}

type line struct {
	Class, Label string
	Style        lineStyle
	Dots         bool
	Result       int
	From         string // JSON path of the points
	Points       []point
	chart        *chart
}

// lineStyle is the CSS class of a line.
type lineStyle string

const (
	solid  lineStyle = "solid"
	dashed lineStyle = "dashed"
)

type point struct{ x, y float64 }

// mark is a labelled position on the x axis.
type mark struct {
	Class string
	X, Y  float64 // position in the picture
	Left  bool    // put the label on the left side
	*Num
}

func (c *chart) xPosition(v float64) float64 { return left + v/c.xMax*(width-left-right) }

func (c *chart) yPosition(v float64) float64 {
	part := (v - c.yMin) / (c.yMax - c.yMin)
	if c.log {
		part = (math.Log(min(max(v, c.yMin), c.yMax)) - math.Log(c.yMin)) / (math.Log(c.yMax) - math.Log(c.yMin))
	}
	return height - bottom - part*(height-top-bottom)
}

// XMax, YMin, YMax and Log let a program compute values from coordinates.
func (l line) XMax() float64 { return l.chart.xMax }
func (l line) YMin() float64 { return l.chart.yMin }
func (l line) YMax() float64 { return l.chart.yMax }
func (l line) Log() bool     { return l.chart.log }

// Path returns the points of the line in the syntax of SVG.
func (l line) Path() string {
	var b strings.Builder
	for i, p := range l.Points {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%.2f,%.2f", l.chart.xPosition(p.x), l.chart.yPosition(p.y))
	}
	return b.String()
}

// Spots returns the points of a line that shows them as dots.
func (l line) Spots() (list []tick) {
	if !l.Dots {
		return nil
	}
	for _, p := range l.Points {
		list = append(list, tick{l.chart.xPosition(p.x), fmt.Sprintf("%.2f", l.chart.yPosition(p.y))})
	}
	return list
}

// niceStep returns a step for an axis with about six steps: 1, 2 or 5 times a power of
// ten.
func niceStep(most float64) float64 {
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

// trimZeros removes zeros at the end of the fraction of a label.
func trimZeros(label string) string {
	n, unit, _ := strings.Cut(label, " ")
	if strings.Contains(n, ".") {
		n = strings.TrimRight(strings.TrimRight(n, "0"), ".")
	}
	return n + " " + unit
}

// scaleLinear makes both axes from 0 to the largest values of the lines.
func (c *chart) scaleLinear(x, y func(v float64) string) {
	mostX, mostY := 0.0, 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			mostX, mostY = max(mostX, p.x), max(mostY, p.y)
		}
	}
	stepX, stepY := niceStep(mostX), niceStep(mostY)
	c.xMax, c.yMax = max(mostX, stepX), math.Ceil(mostY*1.02/stepY)*stepY
	c.yMax = max(c.yMax, stepY)
	for _, v := range axisSteps(stepX, c.xMax) {
		c.XTicks = append(c.XTicks, tick{c.xPosition(v), trimZeros(x(v))})
	}
	for _, v := range axisSteps(stepY, c.yMax) {
		c.YTicks = append(c.YTicks, tick{c.yPosition(v), trimZeros(y(v))})
	}
}

// axisSteps returns the multiples of step up to most, but not more than ten, even if a
// file has implausible numbers.
func axisSteps(step, most float64) (list []float64) {
	for i := range 10 {
		if v := float64(i) * step; v <= most*1.001 {
			list = append(list, v)
		}
	}
	return list
}

// addLine adds a line to the chart.
func (c *chart) addLine(l line) {
	l.chart = c
	c.Lines = append(c.Lines, l)
}

// sustainedCharts returns the chart of the first long write with its cliff, and the chart
// of the writes after the pauses.
func sustainedCharts(all []source) (list []*chart) {
	first := &chart{Title: "Throughput of a long write", Help: "The rate of each half second of one write. A dashed line marks the cliff: from there on the drive stays slower."}
	again := &chart{Title: "Throughput after a pause", Help: "A second write after a pause, and a third one after another pause, with a reader beside it (dashed)."}
	for _, s := range all {
		if l := s.Sustained; l != nil {
			first.addWrite(s, "/sustained/points", solid, l.Points)
			again.addWrite(s, "/sustained/after_it", solid, l.AfterPause)
			again.addWrite(s, "/sustained/beside", dashed, l.BesideReader)
		}
	}
	for _, c := range []*chart{first, again} {
		if len(c.Lines) > 0 {
			c.XLabel, c.YLabel = "time", "rate"
			c.scaleLinear(func(v float64) string { return threeDigits(v) + " s" }, func(v float64) string { return scaledText(v, "B/s") })
			list = append(list, c)
		}
	}
	for _, s := range all {
		if s.Sustained != nil && s.Sustained.Cliff != nil && len(first.Lines) > 0 {
			x := first.xPosition(s.Sustained.Cliff.Second)
			first.Marks = append(first.Marks, mark{cssClass(s.index), x, top + 12 + 16*float64(s.index), x > width*0.75, s.driveCard("").Cliff})
		}
	}
	return list
}

// addWrite adds the rate of a write over time, if the write was measured.
func (c *chart) addWrite(s source, from string, style lineStyle, points []bench.Point) {
	if len(points) == 0 {
		return
	}
	l := line{Class: cssClass(s.index), Style: style, Result: s.index, From: from + " second rate"}
	for _, p := range points {
		l.Points = append(l.Points, point{p.Second, p.Rate})
	}
	c.addLine(l)
}

// temperatureChart returns nil if no temperature is known.
func temperatureChart(all []source) *chart {
	c := &chart{Title: "Temperature", Help: "The temperature of the drive during the run.", XLabel: "time", YLabel: "°C"}
	for _, s := range all {
		if len(s.Facts.Temperatures) == 0 {
			continue
		}
		l := line{Class: cssClass(s.index), Style: solid, Result: s.index, From: "/facts/heat second celsius"}
		for _, h := range s.Facts.Temperatures {
			l.Points = append(l.Points, point{h.Second, h.Celsius})
		}
		c.addLine(l)
	}
	if len(c.Lines) == 0 {
		return nil
	}
	c.scaleLinear(func(v float64) string { return threeDigits(v) + " s" }, func(v float64) string { return threeDigits(v) + " °C" })
	return c
}

// latencyCharts returns the charts of the readers and of the best copies.
func latencyCharts(all []source) (list []*chart) {
	readers := &chart{Title: "Latency of a reader", Help: "Random reads of 4 KiB: alone (dashed), and beside a copy."}
	blocks := &chart{Title: "Latency of a block", Help: "The time to read, hash and write a block, in the best copy of the first workload. Medians of its samples."}
	for _, s := range all {
		if s.Readers != nil {
			readers.addPercentiles(s, "/readers/alone", dashed, s.Readers.Alone)
			readers.addPercentiles(s, "/readers/beside", solid, s.Readers.Beside)
		}
		if i := s.mainCase(); i >= 0 {
			blocks.addPercentiles(s, fmt.Sprintf("median /cases/%d/samples/*/block_latency", i), solid, medianLatency(s.Cases[i].Samples))
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

// medianLatency returns the median of each percentile.
func medianLatency(samples []bench.Sample) (l bench.Latency) {
	medianOf := func(get func(l *bench.Latency) float64) float64 {
		var values []float64
		for i := range samples {
			values = append(values, get(&samples[i].Block))
		}
		v, _ := median(values)
		return v
	}
	l.P50 = medianOf(func(l *bench.Latency) float64 { return l.P50 })
	l.P90 = medianOf(func(l *bench.Latency) float64 { return l.P90 })
	l.P99 = medianOf(func(l *bench.Latency) float64 { return l.P99 })
	l.P999 = medianOf(func(l *bench.Latency) float64 { return l.P999 })
	l.Max = medianOf(func(l *bench.Latency) float64 { return l.Max })
	return l
}

// addPercentiles adds a line of percentiles, if they were measured.
func (c *chart) addPercentiles(s source, from string, style lineStyle, l bench.Latency) {
	if l.P50 <= 0 {
		return
	}
	out := line{Class: cssClass(s.index), Style: style, Dots: true, Result: s.index, From: from + " percentiles"}
	for i, v := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
		out.Points = append(out.Points, point{float64(i) + 0.5, v})
	}
	c.addLine(out)
}

// scaleLog makes an x axis of percentiles and a y axis of powers of ten.
func (c *chart) scaleLog() {
	least, most := math.Inf(1), 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			least, most = min(least, p.y), max(most, p.y)
		}
	}
	// No time is below a nanosecond or above 30 years.
	least, most = max(least, 1e-9), min(max(most, 1e-9), 1e9)
	c.log, c.xMax = true, 5
	c.yMin, c.yMax = math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most)))
	if c.yMax <= c.yMin {
		c.yMax = 10 * c.yMin
	}
	for i, name := range []string{"p50", "p90", "p99", "p99.9", "max"} {
		c.XTicks = append(c.XTicks, tick{c.xPosition(float64(i) + 0.5), name})
	}
	for v := c.yMin; v <= c.yMax*1.001 && len(c.YTicks) < 12; v *= 10 {
		c.YTicks = append(c.YTicks, tick{c.yPosition(v), trimZeros(durationText(v))})
	}
}

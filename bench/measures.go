package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Units are those of benchstat: base units, after the name of the quantity.
const (
	unitRate  = "B/s"
	unitShare = "%ceiling"
)

// Measure is one quantity of a result, with all its samples, in base units.
type Measure struct {
	// Name is stable and has no blanks, as the name of a Go benchmark.
	Name string
	// Unit names the quantity, for example B/s or p99-block-sec.
	Unit   string
	Values []float64
}

// HigherIsBetter reports whether the measure is a rate, a share, or the offset of a
// cliff. For times and memory, lower is better.
func (m *Measure) HigherIsBetter() bool { return higherIsBetter(m.Unit) }

func higherIsBetter(unit string) bool {
	return unit == unitRate || unit == unitShare || unit == "cliff-B"
}

// Measures returns all quantities of a result that can be compared with another result,
// in the order of the result.
func (r *Result) Measures() []Measure {
	var list []Measure
	at := map[[2]string]int{}
	for _, s := range r.sampleLines() {
		for _, v := range s.values {
			key := [2]string{s.name, v.unit}
			i, known := at[key]
			if !known {
				i = len(list)
				at[key] = i
				list = append(list, Measure{Name: s.name, Unit: v.unit})
			}
			list[i].Values = append(list[i].Values, v.value)
		}
	}
	return list
}

// sampleLine is one sample of several quantities: a line of the Go benchmark format.
type sampleLine struct {
	name   string
	count  int64
	values []value
}

type value struct {
	value float64
	unit  string
}

func (r *Result) sampleLines() (list []sampleLine) {
	for i := range r.Ceilings {
		list = append(list, r.Ceilings[i].sampleLines()...)
	}
	for i := range r.Cases {
		list = append(list, r.Cases[i].sampleLines()...)
	}
	return append(append(list, r.Sustained.sampleLines()...), r.Readers.sampleLines("Reader", "copy")...)
}

func (c *Ceiling) sampleLines() (list []sampleLine) {
	name := fmt.Sprintf("Ceiling/way=%s/block=%s/depth=%d", namePart(string(c.Way)), FormatBytes(c.Block), c.Depth)
	for i, rate := range c.Rates {
		s := sampleLine{name, 1, []value{{rate, unitRate}}}
		if i < len(c.Latency) {
			s.count = max(1, c.Latency[i].Count)
			s.values = append(s.values, c.Latency[i].percentileValues("")...)
		}
		list = append(list, s)
	}
	return list
}

// Name returns the stable name of the case.
func (c *Case) Name() string {
	return fmt.Sprintf("Copy/workload=%s/engine=%s/block=%s/jobs=%d", namePart(c.Workload), namePart(c.Engine), FormatBytes(c.Block), c.Jobs)
}

// Rate returns bytes a second until the last file was read back.
func (c *Case) Rate(s *Sample) float64 { return float64(c.Bytes) / s.LastDone }

func (c *Case) sampleLines() (list []sampleLine) {
	for i := range c.Samples {
		// 0 means that the time or the memory was not measured.
		measured := slices.DeleteFunc(c.sampleValues(&c.Samples[i]), func(v value) bool { return v.value == 0 })
		list = append(list, sampleLine{c.Name(), 1, measured})
	}
	return list
}

func (c *Case) sampleValues(s *Sample) []value {
	rate := c.Rate(s)
	list := []value{{rate, unitRate}}
	if c.Ceiling > 0 {
		list = append(list, value{100 * rate / c.Ceiling, unitShare})
	}
	list = append(list,
		value{s.FirstDone, "first-done-sec"}, value{s.Copied, "copied-sec"}, value{s.LastDone, "last-done-sec"},
		value{s.Durable, "durable-sec"}, value{s.Verified, "verified-sec"})
	if c.Bytes > 0 {
		list = append(list, value{s.CPU / float64(c.Bytes) * (1 << 30), "CPU-sec/GiB"})
	}
	list = append(list, value{float64(s.Memory), "peak-B"})
	for _, l := range []struct {
		prefix  string
		latency Latency
	}{{"block-", s.Block}, {"file-", s.File}, {"sync-", s.Sync}} {
		list = append(list, l.latency.percentileValues(l.prefix)...)
	}
	return list
}

// percentileValues leaves out a percentile of too few measurements: it would be their
// maximum.
func (l *Latency) percentileValues(prefix string) (list []value) {
	for _, p := range []struct {
		value float64
		name  string
		least int64 // measurements
	}{{l.P50, "p50", 1}, {l.P90, "p90", 10}, {l.P99, "p99", 100}, {l.P999, "p99.9", 1000}, {l.Max, "max", 1}} {
		if l.Count >= p.least {
			list = append(list, value{p.value, p.name + "-" + prefix + "sec"})
		}
	}
	return list
}

// sampleLines returns one sample of each quantity, since a run has one sustained write.
func (s *Sustained) sampleLines() (list []sampleLine) {
	if s == nil {
		return nil
	}
	add := func(phase string, values ...value) {
		name := fmt.Sprintf("Sustained/block=%s/depth=%d/phase=%s", FormatBytes(s.Block), s.Depth, phase)
		list = append(list, sampleLine{name, 1, values})
	}
	if s.Cliff != nil {
		add("before-cliff", value{s.Cliff.Before, unitRate}, value{float64(s.Cliff.Offset), "cliff-B"})
		add("after-cliff", value{s.Cliff.After, unitRate})
	}
	if s.WorstSecond != nil {
		add("worst-second", value{*s.WorstSecond, unitRate})
	}
	return append(list, s.Readers.sampleLines("SustainedReader", "write")...)
}

// sampleLines returns the samples of a reader alone and beside other I/O.
func (r *Readers) sampleLines(name, beside string) []sampleLine {
	if r == nil {
		return nil
	}
	return []sampleLine{
		{name + "/beside=nothing", max(1, r.Alone.Count), r.Alone.percentileValues("")},
		{name + "/beside=" + beside, max(1, r.Beside.Count), append(r.Beside.percentileValues(""), value{r.Rate, unitRate})},
	}
}

// namePart replaces the characters of s that the name of a benchmark must not have.
func namePart(s string) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c == '/' || c == '=' || c == 0x7f || c > 0x7f && strings.TrimSpace(string(c)) == "" {
			return '_'
		}
		return c
	}, s)
	if s == "" {
		return "none"
	}
	return s
}

// FormatBytes formats a number of bytes exactly, in the largest unit that fits: 4MiB,
// 1000B.
func FormatBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%d%s", n, units[i])
}

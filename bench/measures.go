package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Units are those of benchstat: base units, with what is measured before them.
const (
	unitRate  = "B/s"
	unitShare = "%ceiling"
)

// Measure is one number of a result, with all its samples, in base units.
type Measure struct {
	// Name is what was done, as Go's benchmarks are named: stable, without blanks.
	Name string
	// Unit is what of it, for example B/s or p99-block-sec.
	Unit   string
	Values []float64
}

// HigherIsBetter tells rates and shares from times and memory.
func (m *Measure) HigherIsBetter() bool { return higherIsBetter(m.Unit) }

func higherIsBetter(unit string) bool {
	return unit == unitRate || unit == unitShare || unit == "cliff-B"
}

// Measures are all the numbers of a result that can be compared with another's, in the
// order of the result.
func (r *Result) Measures() []Measure {
	var list []Measure
	at := map[[2]string]int{}
	for _, s := range r.shots() {
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

// shot is one sample of something: a line of Go's benchmark format.
type shot struct {
	name   string
	count  int64
	values []value
}

type value struct {
	value float64
	unit  string
}

func (r *Result) shots() (list []shot) {
	for i := range r.Ceilings {
		list = append(list, r.Ceilings[i].shots()...)
	}
	for i := range r.Cases {
		list = append(list, r.Cases[i].shots()...)
	}
	return append(append(list, r.Sustained.shots()...), r.Readers.shots("Reader", "copy")...)
}

func (c *Ceiling) shots() (list []shot) {
	name := fmt.Sprintf("Ceiling/way=%s/block=%s/depth=%d", word(string(c.Way)), Bytes(c.Block), c.Depth)
	for i, rate := range c.Rates {
		s := shot{name, 1, []value{{rate, unitRate}}}
		if i < len(c.Latency) {
			s.count = max(1, c.Latency[i].Count)
			s.values = append(s.values, c.Latency[i].values("")...)
		}
		list = append(list, s)
	}
	return list
}

// Name is what a case is called wherever it is named.
func (c *Case) Name() string {
	return fmt.Sprintf("Copy/workload=%s/engine=%s/block=%s/jobs=%d", word(c.Workload), word(c.Engine), Bytes(c.Block), c.Jobs)
}

// Rate is how fast a sample was, bytes a second, until the last file had been read back.
func (c *Case) Rate(s *Sample) float64 { return float64(c.Bytes) / s.LastDone }

func (c *Case) shots() (list []shot) {
	for i := range c.Samples {
		// No time, no memory: not measured.
		measured := slices.DeleteFunc(c.values(&c.Samples[i]), func(v value) bool { return v.value == 0 })
		list = append(list, shot{c.Name(), 1, measured})
	}
	return list
}

func (c *Case) values(s *Sample) []value {
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
		what string
		of   Latency
	}{{"block-", s.Block}, {"file-", s.File}, {"sync-", s.Sync}} {
		list = append(list, l.of.values(l.what)...)
	}
	return list
}

// values leaves out what was not measured, and percentiles of so few measurements that
// they are only the greatest of them.
func (l *Latency) values(what string) (list []value) {
	for _, p := range []struct {
		value float64
		name  string
		least int64 // measurements
	}{{l.P50, "p50", 1}, {l.P90, "p90", 10}, {l.P99, "p99", 100}, {l.P999, "p99.9", 1000}, {l.Max, "max", 1}} {
		if l.Count >= p.least {
			list = append(list, value{p.value, p.name + "-" + what + "sec"})
		}
	}
	return list
}

// A long write is done once: one sample of each.
func (s *Sustained) shots() (list []shot) {
	if s == nil {
		return nil
	}
	add := func(phase string, values ...value) {
		name := fmt.Sprintf("Sustained/block=%s/depth=%d/phase=%s", Bytes(s.Block), s.Depth, phase)
		list = append(list, shot{name, 1, values})
	}
	if s.Cliff != nil {
		add("before-cliff", value{s.Cliff.Before, unitRate}, value{float64(s.Cliff.Offset), "cliff-B"})
		add("after-cliff", value{s.Cliff.After, unitRate})
	}
	if s.WorstSecond != nil {
		add("worst-second", value{*s.WorstSecond, unitRate})
	}
	return append(list, s.Readers.shots("SustainedReader", "write")...)
}

// shots are of a reader beside something, and alone before that.
func (r *Readers) shots(name, beside string) []shot {
	if r == nil {
		return nil
	}
	return []shot{
		{name + "/beside=nothing", max(1, r.Alone.Count), r.Alone.values("")},
		{name + "/beside=" + beside, max(1, r.Beside.Count), append(r.Beside.values(""), value{r.Rate, unitRate})},
	}
}

// word is s as a part of a name of a benchmark.
func word(s string) string {
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

// Bytes is a number of bytes as people say it, without losing any: 4MiB, 1000B.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%d%s", n, units[i])
}

package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"shard_to_ssd/bench"
)

// Num is a number on the page: how it is read, what it is exactly, and what it was made
// from: "/sustained/cliff/offset", "median /cases/3/samples/*/block_latency/p99".
type Num struct {
	Result int // which of the results
	Value  float64
	Text   string
	From   string
}

// Exact is the value, without losing any of it.
func (n *Num) Exact() string { return strconv.FormatFloat(n.Value, 'g', -1, 64) }

// scaled writes a value with a unit of 1000s and three digits.
func scaled(v float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P"}
	i := 0
	for math.Abs(v) >= 999.5 && i < len(prefixes)-1 {
		v /= 1000
		i++
	}
	return digits(v) + " " + prefixes[i] + unit
}

// digits is v with three significant ones, or all before the point.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || a == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// span is a time, in the unit that fits.
func span(seconds float64) string {
	switch {
	case seconds == 0 || seconds >= 0.9995:
		return digits(seconds) + " s"
	case seconds >= 0.9995e-3:
		return digits(seconds*1e3) + " ms"
	}
	return digits(seconds*1e6) + " µs"
}

// source makes numbers of one result.
type source struct {
	*bench.Result
	index int
}

func (s source) rate(v float64, from string) *Num {
	return &Num{s.index, v, scaled(v, "B/s"), from}
}

func (s source) bytes(v float64, from string) *Num {
	return &Num{s.index, v, scaled(v, "B"), from}
}

func (s source) time(v float64, from string) *Num {
	return &Num{s.index, v, span(v), from}
}

func (s source) percent(v float64, from string) *Num {
	return &Num{s.index, v, digits(v) + " %", from}
}

// median of no samples is nil.
func median(values []float64) (float64, bool) {
	if len(values) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half], true
	}
	return (sorted[half-1] + sorted[half]) / 2, true
}

func rates(c *bench.Case) (list []float64) {
	for i := range c.Samples {
		list = append(list, c.Rate(&c.Samples[i]))
	}
	return list
}

// caseRate is the median rate of a case, and caseShare how much of the ceiling that is.
func (s source) caseRate(i int) *Num {
	if v, ok := median(rates(&s.Cases[i])); ok && s.Cases[i].Refused == "" {
		return s.rate(v, fmt.Sprintf("rate /cases/%d", i))
	}
	return nil
}

func (s source) caseShare(i int) *Num {
	rate := s.caseRate(i)
	if rate == nil || s.Cases[i].Ceiling <= 0 {
		return nil
	}
	return s.percent(100*rate.Value/s.Cases[i].Ceiling, fmt.Sprintf("share /cases/%d", i))
}

// cpuForGiB is the median CPU time of a case for each GiB of it, in seconds.
func (s source) cpuForGiB(i int) *Num {
	c := &s.Cases[i]
	var used []float64
	for k := range c.Samples {
		used = append(used, c.Samples[k].CPU)
	}
	v, ok := median(used)
	if !ok || c.Bytes <= 0 {
		return nil
	}
	return s.time(v/float64(c.Bytes)*(1<<30), fmt.Sprintf("cpu /cases/%d", i))
}

// best is the fastest case of a workload, -1 without one.
func (s source) best(workload string) int {
	found, most := -1, 0.0
	for i := range s.Cases {
		if s.Cases[i].Workload != workload {
			continue
		}
		if rate := s.caseRate(i); rate != nil && rate.Value > most {
			found, most = i, rate.Value
		}
	}
	return found
}

// ceiling is the highest median of a way, nil if it was not measured.
func (s source) ceiling(way bench.Way) (best *Num) {
	for i, c := range s.Ceilings {
		if v, ok := median(c.Rates); ok && c.Way == way && (best == nil || v > best.Value) {
			best = s.rate(v, fmt.Sprintf("median /ceilings/%d/rates", i))
		}
	}
	return best
}

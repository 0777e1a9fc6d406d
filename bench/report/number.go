package report

import (
	"fmt"
	"math"
	"strconv"

	"shard_to_ssd/bench"
)

// Num is a number on the page: its text, its exact value, and its origin in the file of
// the result, for example "/sustained/cliff/offset" or "median
// /cases/3/samples/*/block_latency/p99".
type Num struct {
	Result int // index of the result
	Value  float64
	Text   string
	From   string
}

// Exact returns all digits of the value.
func (n *Num) Exact() string { return strconv.FormatFloat(n.Value, 'g', -1, 64) }

// scaledText formats a value with three digits and a decimal prefix of its unit.
func scaledText(v float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P"}
	i := 0
	for math.Abs(v) >= 999.5 && i < len(prefixes)-1 {
		v /= 1000
		i++
	}
	return threeDigits(v) + " " + prefixes[i] + unit
}

// threeDigits formats v with three significant digits, or with all digits before the
// point.
func threeDigits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || a == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// durationText formats a time in the unit that fits.
func durationText(seconds float64) string {
	switch {
	case seconds == 0 || seconds >= 0.9995:
		return threeDigits(seconds) + " s"
	case seconds >= 0.9995e-3:
		return threeDigits(seconds*1e3) + " ms"
	}
	return threeDigits(seconds*1e6) + " µs"
}

// source makes the numbers of one result.
type source struct {
	*bench.Result
	index int
}

func (s source) rateNum(v float64, from string) *Num {
	return &Num{s.index, v, scaledText(v, "B/s"), from}
}

func (s source) bytesNum(v float64, from string) *Num {
	return &Num{s.index, v, scaledText(v, "B"), from}
}

func (s source) timeNum(v float64, from string) *Num {
	return &Num{s.index, v, durationText(v), from}
}

func (s source) percentNum(v float64, from string) *Num {
	return &Num{s.index, v, threeDigits(v) + " %", from}
}

// median returns the median of values. It reports false if values is empty.
func median(values []float64) (float64, bool) {
	if len(values) == 0 {
		return 0, false
	}
	return bench.Median(values), true
}

// caseRates returns the rate of each sample.
func caseRates(c *bench.Case) (list []float64) {
	for i := range c.Samples {
		list = append(list, c.Rate(&c.Samples[i]))
	}
	return list
}

// caseRate returns the median rate of a case, or nil without a valid sample.
func (s source) caseRate(i int) *Num {
	if v, ok := median(caseRates(&s.Cases[i])); ok && s.Cases[i].Refused == "" {
		return s.rateNum(v, fmt.Sprintf("rate /cases/%d", i))
	}
	return nil
}

// caseShare returns the rate as a percentage of the ceiling, or nil.
func (s source) caseShare(i int) *Num {
	rate := s.caseRate(i)
	if rate == nil || s.Cases[i].Ceiling <= 0 {
		return nil
	}
	return s.percentNum(100*rate.Value/s.Cases[i].Ceiling, fmt.Sprintf("share /cases/%d", i))
}

// cpuForGiB returns the median CPU time for each GiB of a case, in seconds.
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
	return s.timeNum(v/float64(c.Bytes)*(1<<30), fmt.Sprintf("cpu /cases/%d", i))
}

// bestCase returns the index of the fastest case of a workload, or -1.
func (s source) bestCase(workload string) int {
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

// bestCeiling returns the highest median rate of a way, or nil if it was not measured.
func (s source) bestCeiling(way bench.Way) (best *Num) {
	for i, c := range s.Ceilings {
		if v, ok := median(c.Rates); ok && c.Way == way && (best == nil || v > best.Value) {
			best = s.rateNum(v, fmt.Sprintf("median /ceilings/%d/rates", i))
		}
	}
	return best
}

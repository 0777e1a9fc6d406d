package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// sample is one measurement. Times are seconds, sizes bytes.
type sample struct {
	Wall   float64            `json:"wall"`
	CPU    float64            `json:"cpu"`              // user + system, of all processes waited for
	RSS    int64              `json:"rss"`              // the most of one process
	Values map[string]float64 `json:"values,omitempty"` // what only some measure
	Chose  string             `json:"chose,omitempty"`  // what shard_to_ssd says of itself
}

func (s *sample) set(name string, value float64) {
	if s.Values == nil {
		s.Values = map[string]float64{}
	}
	s.Values[name] = value
}

// quantity is what a table shows of a sample.
type quantity struct {
	name, unit string
	digits     int
	of         func(workload, sample) float64
}

func (q quantity) text(v float64) string { return fmt.Sprintf("%.*f", q.digits, v) }

func value(name string, factor float64) func(workload, sample) float64 {
	return func(_ workload, s sample) float64 {
		v, ok := s.Values[name]
		if !ok {
			return math.NaN()
		}
		return v * factor
	}
}

// What rows show. None of these is ever changed.
var (
	seconds      = quantity{"time", "s", 2, func(_ workload, s sample) float64 { return s.Wall }}
	milliseconds = quantity{"time", "ms", 2, func(_ workload, s sample) float64 { return s.Wall * 1000 }}
	cpu          = quantity{"CPU", "CPU-s/GiB", 3, func(w workload, s sample) float64 { return s.CPU * float64(gib) / float64(w.bytes()) }}
	perFile      = quantity{"time for a file", "µs", 1, func(w workload, s sample) float64 { return s.Wall * 1e6 / float64(w.files()) }}
	perGiB       = quantity{"time for a GiB", "s", 3, func(w workload, s sample) float64 { return s.Wall * float64(gib) / float64(w.bytes()) }}
	peak         = quantity{"peak of memory", "MiB", 1, value("peak", 1/float64(mib))}
	cacheKept    = quantity{"still cached of what was before", "%", 1, value("cache kept", 100)}
	gone         = quantity{"name gone after", "ms", 1, value("gone", 1000)}
	copyPhase    = quantity{"copy phase of --json", "ms", 1, func(_ workload, s sample) float64 { return phasesOfCopy(s) * 1000 }}
	cacheLeft    = quantity{"cached afterwards that was not before", "% of the bytes", 2, func(w workload, s sample) float64 {
		return value("cache left", 100)(w, s) / float64(w.bytes())
	}}
)

// phasesOfCopy is the phase that clones, if it has a name of its own, else those
// that copy.
func phasesOfCopy(s sample) float64 {
	if v, ok := s.Values["phase clone"]; ok {
		return v
	}
	sum, found := 0.0, false
	for name, v := range s.Values {
		if strings.HasPrefix(name, "phase copy") {
			sum, found = sum+v, true
		}
	}
	if !found {
		return math.NaN()
	}
	return sum
}

// median of an even number is the mean of the two in the middle; of none NaN.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// target is a promise about the medians of a table, by label.
type target struct {
	want string
	got  func(medians map[string]float64) float64 // NaN: something was not measured
	met  func(got float64) bool
	text func(got float64) string
}

// fastest is the smallest median; NaN if one of them is missing, since that could
// have been it.
func fastest(medians map[string]float64, labels []string) float64 {
	least := math.Inf(1)
	for _, label := range labels {
		least = min(least, get(medians, label))
	}
	return least
}

func get(medians map[string]float64, label string) float64 {
	if v, ok := medians[label]; ok {
		return v
	}
	return math.NaN()
}

func times(got float64) string { return fmt.Sprintf("%.2f ×", got) }

// atMost wants of to take no longer than so many times the reference.
func atMost(most float64, of, reference string) target {
	return target{
		want: fmt.Sprintf("%s at most %.2f × %s", of, most, reference),
		got:  func(m map[string]float64) float64 { return get(m, of) / get(m, reference) },
		met:  func(got float64) bool { return got <= most },
		text: times,
	}
}

// fasterBy wants the fastest of the others to take at least so many times as long.
func fasterBy(least float64, of, than string, others ...string) target {
	return target{
		want: fmt.Sprintf("at least %.1f × faster %s", least, than),
		got:  func(m map[string]float64) float64 { return fastest(m, others) / get(m, of) },
		met:  func(got float64) bool { return got >= least },
		text: times,
	}
}

// below wants the median itself to be no more.
func below(most float64, of string, q quantity) target {
	return target{
		want: fmt.Sprintf("%s at most %g %s", of, most, q.unit),
		got:  func(m map[string]float64) float64 { return get(m, of) },
		met:  func(got float64) bool { return got <= most },
		text: func(got float64) string { return q.text(got) + " " + q.unit },
	}
}

// above wants it to be no less.
func above(least float64, of string, q quantity) target {
	t := below(0, of, q)
	t.want = fmt.Sprintf("%s at least %g %s", of, least, q.unit)
	t.met = func(got float64) bool { return got >= least }
	return t
}

// flat wants the largest of the medians to be no more than so many times the
// smallest.
func flat(most float64, labels ...string) target {
	return target{
		want: fmt.Sprintf("largest at most %.2f × smallest", most),
		got: func(m map[string]float64) float64 {
			largest := math.Inf(-1)
			for _, label := range labels {
				largest = max(largest, get(m, label))
			}
			return largest / fastest(m, labels)
		},
		met:  func(got float64) bool { return got <= most },
		text: times,
	}
}

// verdict is a target held against what was measured.
type verdict struct {
	want, got string
	state     string // met, missed, not measured
}

func (t target) judge(medians map[string]float64) verdict {
	got := t.got(medians)
	switch {
	case math.IsNaN(got):
		return verdict{t.want, "–", "not measured"}
	case t.met(got):
		return verdict{t.want, t.text(got), "met"}
	}
	return verdict{t.want, t.text(got), "missed"}
}

package peers

import (
	"fmt"
	"math"
)

// target is a limit for the medians of a table, which are found by label.
type target struct {
	want string
	got  func(medians map[string]float64) float64 // NaN: a median is missing
	met  func(got float64) bool
	text func(got float64) string
}

// fastestMedian returns the smallest of the medians. It returns NaN if one is missing,
// since that could be the smallest.
func fastestMedian(medians map[string]float64, labels []string) float64 {
	least := math.Inf(1)
	for _, label := range labels {
		least = min(least, medianOf(medians, label))
	}
	return least
}

func medianOf(medians map[string]float64, label string) float64 {
	if v, ok := medians[label]; ok {
		return v
	}
	return math.NaN()
}

func formatTimes(got float64) string { return fmt.Sprintf("%.2f ×", got) }

// atMost requires that of takes at most so many times as long as the reference.
func atMost(most float64, of, reference string) target {
	return target{
		want: fmt.Sprintf("%s at most %.2f × %s", of, most, reference),
		got:  func(m map[string]float64) float64 { return medianOf(m, of) / medianOf(m, reference) },
		met:  func(got float64) bool { return got <= most },
		text: formatTimes,
	}
}

// fasterBy requires that the fastest of the others takes at least so many times as long.
func fasterBy(least float64, of, than string, others ...string) target {
	return target{
		want: fmt.Sprintf("at least %.1f × faster %s", least, than),
		got:  func(m map[string]float64) float64 { return fastestMedian(m, others) / medianOf(m, of) },
		met:  func(got float64) bool { return got >= least },
		text: formatTimes,
	}
}

// medianAtMost requires that the median itself is at most so much.
func medianAtMost(most float64, of string, q quantity) target {
	return target{
		want: fmt.Sprintf("%s at most %g %s", of, most, q.unit),
		got:  func(m map[string]float64) float64 { return medianOf(m, of) },
		met:  func(got float64) bool { return got <= most },
		text: func(got float64) string { return q.formatValue(got) + " " + q.unit },
	}
}

// medianAtLeast requires that the median itself is at least so much.
func medianAtLeast(least float64, of string, q quantity) target {
	t := medianAtMost(0, of, q)
	t.want = fmt.Sprintf("%s at least %g %s", of, least, q.unit)
	t.met = func(got float64) bool { return got >= least }
	return t
}

// spreadAtMost requires that the largest median is at most so many times the smallest.
func spreadAtMost(most float64, labels ...string) target {
	return target{
		want: fmt.Sprintf("largest at most %.2f × smallest", most),
		got: func(m map[string]float64) float64 {
			largest := math.Inf(-1)
			for _, label := range labels {
				largest = max(largest, medianOf(m, label))
			}
			return largest / fastestMedian(m, labels)
		},
		met:  func(got float64) bool { return got <= most },
		text: formatTimes,
	}
}

// verdict is a target and the value that it was compared with.
type verdict struct {
	want, got string
	state     string // met, missed, not measured
}

// compareWith compares the target with the medians of its table.
func (t target) compareWith(medians map[string]float64) verdict {
	got := t.got(medians)
	switch {
	case math.IsNaN(got):
		return verdict{t.want, "–", "not measured"}
	case t.met(got):
		return verdict{t.want, t.text(got), "met"}
	}
	return verdict{t.want, t.text(got), "missed"}
}

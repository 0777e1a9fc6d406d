package bench

import (
	"cmp"
	"math"
	"slices"
)

// What makes a fall of the rate a cliff.
const (
	// cliffFall is the most that is left of the rate after one.
	cliffFall = 0.75
	// shortestLevel is how many points a rate must hold to be one: 3 seconds, longer
	// than the journal of a file system, or the collector of a drive, holds writes up.
	shortestLevel = 6
	// cliffSurety is how far the squared difference of two levels must be from what
	// noise makes of one: with points that do not depend on each other, some 8 of its
	// standard deviations.
	cliffSurety = 60
	// leastNoise keeps a series without noise from having levels that are all but the
	// same: 2 % of a rate.
	leastNoise = 0.02
)

// A level is a run of points, [from, to), around one rate.
type level struct {
	from, to int
	rate     float64 // median
}

func (l level) points() int { return l.to - l.from }

// mean is what was written in a second, hiccups and bursts and all.
func (l level) mean(points []Point) float64 {
	begun := Point{}
	if l.from > 0 {
		begun = points[l.from-1]
	}
	last := points[l.to-1]
	return float64(last.Offset-begun.Offset) / (last.Second - begun.Second)
}

// FindCliffs finds where writing became slower for good, in order: at least a quarter
// less than before, and never again as fast.
//
//  1. Rates become logarithms, smoothed by a running median, so that a hiccup of a
//     second is none, and twice as fast weighs as much as half as fast.
//  2. They are split where that explains most of their variance, and the halves again,
//     as long as noise does not explain it as well (binary segmentation). The noise is
//     what smoothing took away, which no cliff changes.
//  3. Levels that are about the same become one.
//  4. A fall from one level to the next is a cliff if all that follows stays below what
//     was before, and lasts longer than it was as slow before: a drive that tidies up
//     now and then has none.
//
// A rate that sinks slowly, as of a drive that gets hot, has none either.
func FindCliffs(points []Point) []Cliff {
	levels := findLevels(points)
	var cliffs []Cliff
	for i := 1; i < len(levels); i++ {
		before, after := levels[i-1], levels[i]
		if !forGood(levels, i) {
			continue
		}
		at := points[before.to-1]
		cliffs = append(cliffs, Cliff{Offset: at.Offset, Second: at.Second, Before: before.mean(points), After: after.mean(points)})
	}
	return cliffs
}

// Telling reports whether it went on to its end, and for so long that a cliff would have
// been found: for two rates that each held.
func (s *Sustained) Telling() bool { return s.Complete && len(s.Points) >= 2*shortestLevel }

// forGood reports whether from level i on it is slower than the one before, for longer
// than anything before it was.
func forGood(levels []level, i int) bool {
	limit := levels[i-1].rate * cliffFall
	lasts, slowBefore := 0, 0
	for k, l := range levels {
		switch {
		case k >= i && l.rate > limit:
			return false
		case k >= i:
			lasts += l.points()
		case l.rate <= limit:
			slowBefore += l.points()
		}
	}
	return lasts > slowBefore
}

// findLevels cuts the points into levels.
func findLevels(points []Point) []level {
	if len(points) == 0 {
		return nil
	}
	rates := make([]float64, len(points))
	for i, p := range points {
		rates[i] = math.Log(max(p.Rate, 1))
	}
	s := splitter{smooth: runningMedian(rates, 5)}
	s.noise = noiseOf(rates, s.smooth)
	s.sum = make([]float64, len(points)+1)
	for i, v := range s.smooth {
		s.sum[i+1] = s.sum[i] + v
	}
	ends := append(s.split(0, len(points), nil), len(points))
	return mergeLevels(points, ends)
}

// runningMedian replaces each value by the median of so many around it, fewer at the
// ends: a step stays where it is.
func runningMedian(values []float64, width int) []float64 {
	smooth := make([]float64, len(values))
	for i := range values {
		half := min(width/2, i, len(values)-1-i)
		smooth[i] = median(values[i-half : i+half+1])
	}
	return smooth
}

// noiseOf is the standard deviation of values around what they are smoothed to, from
// the median distance: if they are normal, the running median of five has half of them
// within 1/2.05 of it. What is far out does not count: a device that is slow takes
// requests in bursts.
func noiseOf(values, smooth []float64) float64 {
	far := make([]float64, len(values))
	for i := range values {
		far[i] = math.Abs(values[i] - smooth[i])
	}
	return max(2.05*median(far), leastNoise)
}

type splitter struct {
	smooth []float64
	sum    []float64 // of smooth before each index
	noise  float64
}

// split adds to ends where levels in [from, to) end, but the last.
func (s *splitter) split(from, to int, ends []int) []int {
	at, gain := 0, 0.0
	for k := from + shortestLevel; k <= to-shortestLevel; k++ {
		left, right := float64(k-from), float64(to-k)
		step := (s.sum[k]-s.sum[from])/left - (s.sum[to]-s.sum[k])/right
		if g := step * step * left * right / (left + right); g > gain {
			at, gain = k, g
		}
	}
	if gain < cliffSurety*s.noise*s.noise {
		return ends
	}
	ends = append(s.split(from, at, ends), at)
	return s.split(at, to, ends)
}

// mergeLevels makes levels that end there, of those beside each other that are about
// the same one: the two that are most so first.
func mergeLevels(points []Point, ends []int) []level {
	var levels []level
	from := 0
	for _, to := range ends {
		levels = append(levels, level{from, to, rateOf(points[from:to])})
		from = to
	}
	for len(levels) > 1 {
		i := nearest(levels)
		if step(levels[i], levels[i+1]) <= cliffFall {
			break
		}
		levels[i].to = levels[i+1].to
		levels[i].rate = rateOf(points[levels[i].from:levels[i].to])
		levels = slices.Delete(levels, i+1, i+2)
	}
	return levels
}

// step is how like two rates are: 1 if they are the same.
func step(a, b level) float64 {
	low, high := min(a.rate, b.rate), max(a.rate, b.rate)
	if high == 0 {
		return 1
	}
	return low / high
}

// nearest is the level that is most like the next.
func nearest(levels []level) int {
	best := 0
	for i := 1; i+1 < len(levels); i++ {
		if cmp.Compare(step(levels[i], levels[i+1]), step(levels[best], levels[best+1])) > 0 {
			best = i
		}
	}
	return best
}

// rateOf is the median rate of some points.
func rateOf(points []Point) float64 {
	rates := make([]float64, len(points))
	for i, p := range points {
		rates[i] = p.Rate
	}
	return median(rates)
}

// worstSecond is the least rate of any second: of points beside each other that are a
// second or more together. Nil if all of them are shorter.
func worstSecond(points []Point) *float64 {
	worst := math.Inf(1)
	from, begun := 0, Point{}
	for i, p := range points {
		for from < i && p.Second-points[from].Second >= 1-tickSlack {
			begun = points[from]
			from++
		}
		if p.Second-begun.Second >= 1-tickSlack {
			worst = min(worst, float64(p.Offset-begun.Offset)/(p.Second-begun.Second))
		}
	}
	if math.IsInf(worst, 1) {
		return nil
	}
	return &worst
}

// tickSlack is how much too early, in seconds, a tick may be.
const tickSlack = 0.01

// recovered is how many bytes were written as fast as before the cliff: until the rate
// is nearer to that after it, in their ratio, for good or for 3 seconds.
func recovered(points []Point, c Cliff) int64 {
	between := math.Sqrt(max(c.Before, 1) * max(c.After, 1))
	slow := 0
	for i, p := range points {
		if p.Rate >= between {
			slow = 0
			continue
		}
		slow++
		if slow == shortestLevel || i == len(points)-1 {
			return before(points, i+1-slow)
		}
	}
	return before(points, len(points))
}

// before is how much was written before point i.
func before(points []Point, i int) int64 {
	if i == 0 {
		return 0
	}
	return points[i-1].Offset
}

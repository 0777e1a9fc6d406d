package bench

import (
	"cmp"
	"math"
	"slices"
)

// The limits that separate a cliff from noise.
const (
	// cliffFall is the largest part of the rate that is left after a cliff.
	cliffFall = 0.75
	// minLevelPoints is the shortest level: 3 seconds. The journal of a file system and
	// the garbage collector of a drive hold writes up for less time.
	minLevelPoints = 6
	// splitThreshold is the smallest squared difference of two levels, as a multiple of
	// the variance of noise. If the points are independent, it is about 8 standard
	// deviations of such a difference.
	splitThreshold = 60
	// minNoise is 2 % of a rate. Without it, a series that has no noise would be split
	// into levels that are nearly equal.
	minNoise = 0.02
)

// A level is a series of points, [from, to), with about the same rate.
type level struct {
	from, to int
	rate     float64 // median
}

func (l level) pointCount() int { return l.to - l.from }

// meanRate returns bytes a second over the whole level, with all hiccups and bursts.
func (l level) meanRate(points []Point) float64 {
	start := Point{}
	if l.from > 0 {
		start = points[l.from-1]
	}
	last := points[l.to-1]
	return float64(last.Offset-start.Offset) / (last.Second - start.Second)
}

// FindCliffs returns, in order, the points from which writing was slower until the end:
// the rate fell by at least a quarter and did not return.
//
//  1. It takes the logarithm of each rate, so that twice as fast weighs as much as half as
//     fast, and smooths the series with a running median, so that a hiccup of one second
//     disappears.
//  2. It splits the series at the point that explains most of the variance, and splits the
//     halves again, until noise explains the rest as well (binary segmentation). The noise
//     is the part that smoothing removed. A cliff does not change it.
//  3. It merges adjacent levels that are about the same.
//  4. A fall from one level to the next is a cliff if two things hold: all later levels are
//     below the level before it, and they last longer than all earlier levels that were
//     as slow. A drive that reorganizes its cache from time to time has no cliff.
//
// A rate that falls slowly, such as that of a drive that gets hot, is not a cliff.
func FindCliffs(points []Point) []Cliff {
	levels := findLevels(points)
	var cliffs []Cliff
	for i := 1; i < len(levels); i++ {
		before, after := levels[i-1], levels[i]
		if !isPermanent(levels, i) {
			continue
		}
		at := points[before.to-1]
		cliffs = append(cliffs, Cliff{Offset: at.Offset, Second: at.Second, Before: before.meanRate(points), After: after.meanRate(points)})
	}
	return cliffs
}

// IsConclusive reports whether the write reached its end and lasted long enough to find a
// cliff: long enough for two levels.
func (s *Sustained) IsConclusive() bool { return s.Complete && len(s.Points) >= 2*minLevelPoints }

// isPermanent reports whether all levels from i on are slower than the level before i,
// and together last longer than all earlier levels that were as slow.
func isPermanent(levels []level, i int) bool {
	limit := levels[i-1].rate * cliffFall
	lasts, slowBefore := 0, 0
	for k, l := range levels {
		switch {
		case k >= i && l.rate > limit:
			return false
		case k >= i:
			lasts += l.pointCount()
		case l.rate <= limit:
			slowBefore += l.pointCount()
		}
	}
	return lasts > slowBefore
}

// findLevels divides the points into levels.
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
	ends := append(s.splitRange(0, len(points), nil), len(points))
	return mergeLevels(points, ends)
}

// runningMedian replaces each value with the median of the width values around it, fewer
// at the ends. A step stays at its place.
func runningMedian(values []float64, width int) []float64 {
	smooth := make([]float64, len(values))
	for i := range values {
		half := min(width/2, i, len(values)-1-i)
		smooth[i] = Median(values[i-half : i+half+1])
	}
	return smooth
}

// noiseOf estimates the standard deviation of values around their smoothed series from
// the median distance. For normal values and a running median of five, half of the
// distances are below 1/2.05 of the deviation. Outliers do not count: a slow drive
// completes requests in bursts.
func noiseOf(values, smooth []float64) float64 {
	distances := make([]float64, len(values))
	for i := range values {
		distances[i] = math.Abs(values[i] - smooth[i])
	}
	return max(2.05*Median(distances), minNoise)
}

// splitter does the binary segmentation of FindCliffs.
type splitter struct {
	smooth []float64
	sum    []float64 // sum[i] is the sum of smooth[:i]
	noise  float64
}

// splitRange appends the ends of all levels in [from, to) to ends, except the last end.
func (s *splitter) splitRange(from, to int, ends []int) []int {
	at, gain := 0, 0.0
	for k := from + minLevelPoints; k <= to-minLevelPoints; k++ {
		left, right := float64(k-from), float64(to-k)
		step := (s.sum[k]-s.sum[from])/left - (s.sum[to]-s.sum[k])/right
		if g := step * step * left * right / (left + right); g > gain {
			at, gain = k, g
		}
	}
	if gain < splitThreshold*s.noise*s.noise {
		return ends
	}
	ends = append(s.splitRange(from, at, ends), at)
	return s.splitRange(at, to, ends)
}

// mergeLevels makes the levels with these ends and merges neighbours whose rates are
// about the same, beginning with the most similar pair.
func mergeLevels(points []Point, ends []int) []level {
	var levels []level
	from := 0
	for _, to := range ends {
		levels = append(levels, level{from, to, medianRate(points[from:to])})
		from = to
	}
	for len(levels) > 1 {
		i := mostSimilar(levels)
		if similarity(levels[i], levels[i+1]) <= cliffFall {
			break
		}
		levels[i].to = levels[i+1].to
		levels[i].rate = medianRate(points[levels[i].from:levels[i].to])
		levels = slices.Delete(levels, i+1, i+2)
	}
	return levels
}

// similarity returns the ratio of the lower rate to the higher one: 1 if they are equal.
func similarity(a, b level) float64 {
	low, high := min(a.rate, b.rate), max(a.rate, b.rate)
	if high == 0 {
		return 1
	}
	return low / high
}

// mostSimilar returns the index of the level that is most similar to the next one.
func mostSimilar(levels []level) int {
	best := 0
	for i := 1; i+1 < len(levels); i++ {
		if cmp.Compare(similarity(levels[i], levels[i+1]), similarity(levels[best], levels[best+1])) > 0 {
			best = i
		}
	}
	return best
}

// medianRate returns the median rate of the points.
func medianRate(points []Point) float64 {
	rates := make([]float64, len(points))
	for i, p := range points {
		rates[i] = p.Rate
	}
	return Median(rates)
}

// worstSecond returns the lowest rate of any second, from consecutive points that cover
// at least a second. It returns nil if all points together cover less.
func worstSecond(points []Point) *float64 {
	worst := math.Inf(1)
	from, start := 0, Point{}
	for i, p := range points {
		for from < i && p.Second-points[from].Second >= 1-tickSlack {
			start = points[from]
			from++
		}
		if p.Second-start.Second >= 1-tickSlack {
			worst = min(worst, float64(p.Offset-start.Offset)/(p.Second-start.Second))
		}
	}
	if math.IsInf(worst, 1) {
		return nil
	}
	return &worst
}

// tickSlack is the most that a tick may be early, in seconds.
const tickSlack = 0.01

// recoveredBytes returns the bytes that were written as fast as before the cliff. They
// end where the rate is closer, as a ratio, to the rate after the cliff, for at least 3
// seconds or until the end.
func recoveredBytes(points []Point, c Cliff) int64 {
	between := math.Sqrt(max(c.Before, 1) * max(c.After, 1))
	slow := 0
	for i, p := range points {
		if p.Rate >= between {
			slow = 0
			continue
		}
		slow++
		if slow == minLevelPoints || i == len(points)-1 {
			return offsetBefore(points, i+1-slow)
		}
	}
	return offsetBefore(points, len(points))
}

// offsetBefore returns the bytes that were written before point i.
func offsetBefore(points []Point, i int) int64 {
	if i == 0 {
		return 0
	}
	return points[i-1].Offset
}

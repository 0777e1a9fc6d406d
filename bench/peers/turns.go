package main

import (
	"cmp"
	"slices"
)

// turn is a number of lanes that are run in turn.
type turn struct {
	name    string
	lanes   []lane
	samples int
}

// turnsOf gathers the lanes of all rows, each once. The order is that of the rows.
func turnsOf(rows []row, samples int) (turns []turn) {
	index, seen := map[string]int{}, map[string]bool{}
	for _, r := range rows {
		for _, t := range r.tables {
			for _, l := range t.lanes {
				if seen[l.key()] {
					continue
				}
				seen[l.key()] = true
				i, ok := index[l.turn()]
				if !ok {
					i = len(turns)
					index[l.turn()] = i
					turns = append(turns, turn{name: l.turn(), samples: l.setting.count(samples)})
				}
				turns[i].lanes = append(turns[i].lanes, l)
			}
		}
	}
	return turns
}

// count is how many samples a setting takes; of what is slow no more than of the
// rest.
func (s setting) count(samples int) int {
	switch {
	case s.samples == 0:
		return samples
	case s.warm: // milliseconds
		return s.samples
	}
	return min(s.samples, samples)
}

// disk is how large a disk must be that takes what one of the lanes copies: twice,
// if the source is on it as well. It is rounded, so that the next turn can use it.
func (t turn) disk(s sizes) int64 {
	var need int64
	for _, l := range t.lanes {
		n := l.workload.space()
		if l.setting.ready != "" {
			n *= 2
		}
		need = max(need, n)
	}
	return roundUp(need+need/10+s.SlackMiB*mib, 256*mib)
}

// sourceDisk is how large the disk of a source must be.
func sourceDisk(w workload) int64 {
	return roundUp(w.space()+w.space()/10+int64(w.files())*512+64*mib, mib)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// peakOf is the most disk space that the turns take at once, and which of them.
func peakOf(turns []turn, s sizes) (need int64, name string) {
	for i, t := range turns {
		n := t.disk(s)
		for _, w := range sourcesOf(turns[i:]) {
			if neededBefore(turns[:i+1], w) {
				n += sourceDisk(w)
			}
		}
		if n > need {
			need, name = n, t.name
		}
	}
	return need, name
}

// sourcesOf are the workloads that are on a disk, in order, each once.
func sourcesOf(turns []turn) (all []workload) {
	for _, t := range turns {
		for _, l := range t.lanes {
			if !l.setting.slow {
				all = append(all, l.workload)
			}
		}
	}
	byName := func(a, b workload) int { return cmp.Compare(a.name, b.name) }
	slices.SortFunc(all, byName)
	return slices.CompactFunc(all, func(a, b workload) bool { return a.name == b.name })
}

func neededBefore(turns []turn, w workload) bool {
	return slices.ContainsFunc(sourcesOf(turns), func(x workload) bool { return x.name == w.name })
}

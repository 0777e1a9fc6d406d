package peers

import (
	"cmp"
	"slices"
)

// turn is a group of lanes that alternate: each takes one sample, then each the next.
type turn struct {
	name    string
	lanes   []lane
	samples int
}

// turnsOf gathers the lanes of all rows, each once, in the order of the rows.
func turnsOf(rows []row, samples int) (turns []turn) {
	index, seen := map[string]int{}, map[string]bool{}
	for _, r := range rows {
		for _, t := range r.tables {
			for _, l := range t.lanes {
				if seen[l.resultKey()] {
					continue
				}
				seen[l.resultKey()] = true
				i, ok := index[l.turnName()]
				if !ok {
					i = len(turns)
					index[l.turnName()] = i
					turns = append(turns, turn{name: l.turnName(), samples: l.setting.sampleCount(samples)})
				}
				turns[i].lanes = append(turns[i].lanes, l)
			}
		}
	}
	return turns
}

// sampleCount returns how many samples a setting takes. A slow setting takes at most as
// many as the others.
func (s setting) sampleCount(samples int) int {
	switch {
	case s.samples == 0:
		return samples
	case s.warm: // these take milliseconds
		return s.samples
	}
	return min(s.samples, samples)
}

// diskSize returns the size of a disk that has room for the copy of any lane: for two,
// if the SSD has the source as well. It is rounded up, so that the next turn can use the
// same disk.
func (t turn) diskSize(s sizes) int64 {
	var need int64
	for _, l := range t.lanes {
		n := l.workload.diskSpace()
		if l.setting.ready != "" {
			n *= 2
		}
		need = max(need, n)
	}
	return roundUp(need+need/10+s.SlackMiB*mib, 256*mib)
}

// sourceDiskSize returns the size of the disk for a source.
func sourceDiskSize(w workload) int64 {
	return roundUp(w.diskSpace()+w.diskSpace()/10+int64(w.fileCount())*512+64*mib, mib)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// peakDiskSpace returns the most disk space that is used at one time, and the name of
// the turn that uses it.
func peakDiskSpace(turns []turn, s sizes) (need int64, name string) {
	for i, t := range turns {
		n := t.diskSize(s)
		for _, w := range workloadsOnDisk(turns[i:]) {
			if isOnDisk(turns[:i+1], w) {
				n += sourceDiskSize(w)
			}
		}
		if n > need {
			need, name = n, t.name
		}
	}
	return need, name
}

// workloadsOnDisk returns the workloads that need a disk, each once, sorted by name.
func workloadsOnDisk(turns []turn) (all []workload) {
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

func isOnDisk(turns []turn, w workload) bool {
	return slices.ContainsFunc(workloadsOnDisk(turns), func(x workload) bool { return x.name == w.name })
}

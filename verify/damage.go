package verify

import (
	"slices"

	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/tree"
)

// maxSpans is the largest number of damaged places of one file that are named. A file
// may have more of them than fit in memory.
const maxSpans = 10_000

// damage collects the damaged blocks of one file, in their order. Adjacent blocks are
// one span. Beyond maxSpans, the blocks at the end are only counted.
type damage struct {
	spans []Difference // each with one range, or none
	more  int64        // blocks that are only counted
}

// addBlock adds the differences of one block. Blocks may be added in any order.
func (g *damage) addBlock(found []Difference) {
	for i := range found {
		g.addDifference(&found[i])
	}
}

func (g *damage) addDifference(d *Difference) {
	i, _ := slices.BinarySearchFunc(g.spans, startOffset(d), func(s Difference, from int64) int {
		return int(min(max(startOffset(&s)-from, -1), 1))
	})
	g.spans = slices.Insert(g.spans, i, *d)
	g.joinWithNext(i)
	g.joinWithNext(i - 1)
	if last := len(g.spans) - 1; last >= maxSpans {
		g.more += blockCount(&g.spans[last])
		g.spans = g.spans[:last]
	}
}

// joinWithNext joins spans i and i+1 if they are adjacent and of one kind.
func (g *damage) joinWithNext(i int) {
	if i < 0 || i+1 >= len(g.spans) {
		return
	}
	a, b := &g.spans[i], &g.spans[i+1]
	if a.Kind != b.Kind || len(a.Ranges) == 0 || len(b.Ranges) == 0 || a.Ranges[0].To != b.Ranges[0].From {
		return
	}
	a.Ranges[0].To = b.Ranges[0].To
	g.spans = slices.Delete(g.spans, i+1, i+2)
}

// differences returns the spans. Consecutive spans of one kind are one difference with
// several ranges.
func (g *damage) differences() (merged []Difference) {
	for _, d := range g.spans {
		if n := len(merged); n > 0 && merged[n-1].Kind == d.Kind {
			merged[n-1].Ranges = append(merged[n-1].Ranges, d.Ranges...)
			continue
		}
		merged = append(merged, d)
	}
	if g.more > 0 {
		last := &merged[len(merged)-1]
		if last.Detail != "" {
			last.Detail += ", "
		}
		last.Detail += "and " + humanize.Count(g.more, "more block") + " after these"
	}
	return merged
}

func blockCount(d *Difference) int64 {
	if len(d.Ranges) == 0 {
		return 1
	}
	return tree.BlockCount(d.Ranges[0].To - d.Ranges[0].From)
}

func startOffset(d *Difference) int64 {
	if len(d.Ranges) == 0 {
		return 0
	}
	return d.Ranges[0].From
}

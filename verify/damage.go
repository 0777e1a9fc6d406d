package verify

import (
	"fmt"
	"slices"

	"shard_to_ssd/internal/tree"
)

// maxSpans is how many places of one file are named. A file may have more than there
// is memory for.
const maxSpans = 10_000

// damage is what is wrong with blocks of one file, in their order. Blocks beside each
// other are one span; where there are too many, those at the end are only counted.
type damage struct {
	spans []Difference // each with one range, or none
	more  int64        // blocks
}

// add takes what is wrong with one block; blocks come in any order.
func (g *damage) add(found []Difference) {
	for i := range found {
		g.addOne(&found[i])
	}
}

func (g *damage) addOne(d *Difference) {
	i, _ := slices.BinarySearchFunc(g.spans, start(d), func(s Difference, from int64) int {
		return int(min(max(start(&s)-from, -1), 1))
	})
	g.spans = slices.Insert(g.spans, i, *d)
	g.join(i)
	g.join(i - 1)
	if last := len(g.spans) - 1; last >= maxSpans {
		g.more += blocks(&g.spans[last])
		g.spans = g.spans[:last]
	}
}

// join makes spans i and i+1 one if they are beside each other and of one kind.
func (g *damage) join(i int) {
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

// differences are the spans, those of one kind that follow each other as one.
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
		last.Detail += fmt.Sprintf("and %d more blocks after these", g.more)
	}
	return merged
}

func blocks(d *Difference) int64 {
	if len(d.Ranges) == 0 {
		return 1
	}
	return tree.Blocks(d.Ranges[0].To - d.Ranges[0].From)
}

func start(d *Difference) int64 {
	if len(d.Ranges) == 0 {
		return 0
	}
	return d.Ranges[0].From
}

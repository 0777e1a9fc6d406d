package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/humanize"
)

// bars shows the best copy of each workload as a percentage of its ceiling.
type bars struct{ Groups []group }

type group struct {
	Name string
	Bars []bar
}

type bar struct {
	Class, Drive, Setting string
	*Num
	Width float64 // percent of the full bar
	Share *Num    // percent of the ceiling
}

// shareBars returns nil if no copy has a ceiling.
func shareBars(all []source) *bars {
	b := &bars{}
	names := driveNames(all)
	for _, w := range workloadNames(all) {
		g := group{Name: w}
		for _, s := range all {
			i := s.bestCase(w)
			if i < 0 {
				continue
			}
			if n := s.caseShare(i); n != nil {
				g.Bars = append(g.Bars, bar{cssClass(s.index), names[s.index], settingText(&s.Cases[i]), n, min(n.Value, 100), nil})
			}
		}
		if len(g.Bars) > 0 {
			b.Groups = append(b.Groups, g)
		}
	}
	if len(b.Groups) == 0 {
		return nil
	}
	return b
}

// settingText describes the engine, the block size and the workers of a case.
func settingText(c *bench.Case) string {
	return c.Engine + ", " + blockText(c.Block) + ", " + humanize.Count(c.Jobs, "worker")
}

// blockText formats a block size with a blank before its unit: 4 MiB.
func blockText(n int64) string {
	s := bench.FormatBytes(n)
	unit := strings.IndexFunc(s, unicode.IsLetter)
	return s[:unit] + " " + s[unit:]
}

// cellTable is a table of rates by block size, for one result.
type cellTable struct {
	Class, Drive, Workload string
	Blocks                 []string
	Rows                   []cellRow
}

type cellRow struct {
	Name  string
	Cells []bar
}

// ceilingTables returns a table of depths and block sizes for each way and result.
func ceilingTables(all []source, drives []drive) (list []cellTable) {
	for _, way := range []bench.Way{bench.Read, bench.Write, bench.Both} {
		for _, s := range all {
			if m := s.ceilingTable(way); len(m.Rows) > 0 {
				m.Class, m.Drive, m.Workload = cssClass(s.index), drives[s.index].Name, "ceiling: "+string(way)
				list = append(list, m)
			}
		}
	}
	return list
}

func (s source) ceilingTable(way bench.Way) (m cellTable) {
	var blocks []int64
	var depths []int
	for _, c := range s.Ceilings {
		if c.Way == way && len(c.Rates) > 0 {
			blocks, depths = append(blocks, c.Block), append(depths, c.Depth)
		}
	}
	slices.Sort(blocks)
	slices.Sort(depths)
	blocks, depths = slices.Compact(blocks), slices.Compact(depths)
	for _, b := range blocks {
		m.Blocks = append(m.Blocks, blockText(b))
	}
	for _, d := range depths {
		r := cellRow{Name: fmt.Sprintf("%d at a time", d), Cells: make([]bar, len(blocks))}
		for i, c := range s.Ceilings {
			if v, ok := median(c.Rates); ok && c.Way == way && c.Depth == d {
				r.Cells[slices.Index(blocks, c.Block)] = bar{Class: cssClass(s.index), Num: s.rateNum(v, fmt.Sprintf("median /ceilings/%d/rates", i)),
					Width: 100 * v / s.bestCeiling(way).Value}
			}
		}
		m.Rows = append(m.Rows, r)
	}
	return m
}

// caseTables returns a table of engines, workers and block sizes for each workload and
// result.
func caseTables(all []source, drives []drive) (list []cellTable) {
	for _, w := range workloadNames(all) {
		for _, s := range all {
			if s.bestCase(w) >= 0 {
				m := s.caseTable(w)
				m.Class, m.Drive = cssClass(s.index), drives[s.index].Name
				list = append(list, m)
			}
		}
	}
	return list
}

func (s source) caseTable(workload string) cellTable {
	m := cellTable{Workload: workload}
	type setting struct {
		engine string
		jobs   int
	}
	var settings []setting
	var blocks []int64
	at := map[setting]map[int64]int{}
	for i, c := range s.Cases {
		if c.Workload != workload || s.caseRate(i) == nil {
			continue
		}
		k := setting{c.Engine, c.Jobs}
		if at[k] == nil {
			at[k] = map[int64]int{}
			settings = append(settings, k)
		}
		at[k][c.Block] = i
		blocks = append(blocks, c.Block)
	}
	slices.Sort(blocks)
	blocks = slices.Compact(blocks)
	slices.SortFunc(settings, func(a, b setting) int {
		return cmp.Or(cmp.Compare(a.engine, b.engine), cmp.Compare(a.jobs, b.jobs))
	})
	for _, b := range blocks {
		m.Blocks = append(m.Blocks, blockText(b))
	}
	fastest := s.caseRate(s.bestCase(workload)).Value
	for _, k := range settings {
		r := cellRow{Name: k.engine + ", " + humanize.Count(k.jobs, "worker"), Cells: make([]bar, len(blocks))}
		for j, b := range blocks {
			if i, measured := at[k][b]; measured {
				rate := s.caseRate(i)
				r.Cells[j] = bar{Class: cssClass(s.index), Num: rate, Width: 100 * rate.Value / fastest, Share: s.caseShare(i)}
			}
		}
		m.Rows = append(m.Rows, r)
	}
	return m
}

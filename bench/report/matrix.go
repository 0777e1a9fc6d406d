package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"shard_to_ssd/bench"
)

// bars are how near the best copy of each workload comes to the ceiling.
type bars struct{ Groups []group }

type group struct {
	Name string
	Bars []bar
}

type bar struct {
	Class, Drive, Setting string
	*Num
	Width float64 // of the bar, percent
	Share *Num    // of the ceiling
}

func shares(all []source) *bars {
	b := &bars{}
	names := driveNames(all)
	for _, w := range workloads(all) {
		g := group{Name: w}
		for _, s := range all {
			i := s.best(w)
			if i < 0 {
				continue
			}
			if n := s.caseShare(i); n != nil {
				g.Bars = append(g.Bars, bar{class(s.index), names[s.index], setting(&s.Cases[i]), n, min(n.Value, 100), nil})
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

func setting(c *bench.Case) string {
	return c.Engine + ", " + blockName(c.Block) + ", " + jobs(c.Jobs)
}

func jobs(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

// blockName has a blank before its unit: 4 MiB.
func blockName(n int64) string {
	s := bench.Bytes(n)
	unit := strings.IndexFunc(s, unicode.IsLetter)
	return s[:unit] + " " + s[unit:]
}

// matrix is engines and workers by block sizes, of one workload and one result.
type matrix struct {
	Class, Drive, Workload string
	Blocks                 []string
	Rows                   []matrixRow
}

type matrixRow struct {
	Name  string
	Cells []bar
}

// limits are ceilings by depths and block sizes, of each way and result.
func limits(all []source, drives []drive) (list []matrix) {
	for _, way := range []bench.Way{bench.Read, bench.Write, bench.Both} {
		for _, s := range all {
			if m := s.limits(way); len(m.Rows) > 0 {
				m.Class, m.Drive, m.Workload = class(s.index), drives[s.index].Name, "ceiling: "+string(way)
				list = append(list, m)
			}
		}
	}
	return list
}

func (s source) limits(way bench.Way) (m matrix) {
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
		m.Blocks = append(m.Blocks, blockName(b))
	}
	for _, d := range depths {
		r := matrixRow{Name: fmt.Sprintf("%d at once", d), Cells: make([]bar, len(blocks))}
		for i, c := range s.Ceilings {
			if v, ok := median(c.Rates); ok && c.Way == way && c.Depth == d {
				r.Cells[slices.Index(blocks, c.Block)] = bar{Class: class(s.index), Num: s.rate(v, fmt.Sprintf("median /ceilings/%d/rates", i)),
					Width: 100 * v / s.ceiling(way).Value}
			}
		}
		m.Rows = append(m.Rows, r)
	}
	return m
}

func matrices(all []source, drives []drive) (list []matrix) {
	for _, w := range workloads(all) {
		for _, s := range all {
			if s.best(w) >= 0 {
				m := s.matrix(w)
				m.Class, m.Drive = class(s.index), drives[s.index].Name
				list = append(list, m)
			}
		}
	}
	return list
}

func (s source) matrix(workload string) matrix {
	m := matrix{Workload: workload}
	type way struct {
		engine string
		jobs   int
	}
	var ways []way
	var blocks []int64
	at := map[way]map[int64]int{}
	for i, c := range s.Cases {
		if c.Workload != workload || s.caseRate(i) == nil {
			continue
		}
		k := way{c.Engine, c.Jobs}
		if at[k] == nil {
			at[k] = map[int64]int{}
			ways = append(ways, k)
		}
		at[k][c.Block] = i
		blocks = append(blocks, c.Block)
	}
	slices.Sort(blocks)
	blocks = slices.Compact(blocks)
	slices.SortFunc(ways, func(a, b way) int {
		return cmp.Or(cmp.Compare(a.engine, b.engine), cmp.Compare(a.jobs, b.jobs))
	})
	for _, b := range blocks {
		m.Blocks = append(m.Blocks, blockName(b))
	}
	fastest := s.caseRate(s.best(workload)).Value
	for _, k := range ways {
		r := matrixRow{Name: k.engine + ", " + jobs(k.jobs), Cells: make([]bar, len(blocks))}
		for j, b := range blocks {
			if i, measured := at[k][b]; measured {
				rate := s.caseRate(i)
				r.Cells[j] = bar{Class: class(s.index), Num: rate, Width: 100 * rate.Value / fastest, Share: s.caseShare(i)}
			}
		}
		m.Rows = append(m.Rows, r)
	}
	return m
}

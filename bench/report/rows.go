package report

import (
	"fmt"
	"strings"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/humanize"
)

// row is a row of a table, with a cell for each result.
type row struct {
	Name, Help string
	Cells      []cell
}

// cell is a number or a text.
type cell struct {
	*Num
	Words string
}

// numberRow makes a row with a number of each result, or no row if all numbers are nil.
func numberRow(all []source, name, help string, number func(s source) *Num) []row {
	r, any := row{Name: name, Help: help}, false
	for _, s := range all {
		n := number(s)
		any = any || n != nil
		r.Cells = append(r.Cells, cell{Num: n})
	}
	if !any {
		return nil
	}
	return []row{r}
}

// summaryRows returns the key numbers.
func summaryRows(all []source) (rows []row) {
	for _, w := range workloadNames(all) {
		rows = append(rows, numberRow(all, "copy: "+w, "best setting, median, until everything is read back", func(s source) *Num {
			if i := s.bestCase(w); i >= 0 {
				return s.caseRate(i)
			}
			return nil
		})...)
	}
	for _, way := range []bench.Way{bench.Read, bench.Write, bench.Both} {
		rows = append(rows, numberRow(all, "ceiling: "+string(way), "the drive without any other load", func(s source) *Num { return s.bestCeiling(way) })...)
	}
	rows = append(rows, cliffRows(all)...)
	rows = append(rows, longWriteRows(all)...)
	rows = append(rows, readerRows(all, "a copy", "its rate, until everything is read back and verified", "/readers", func(s source) *bench.Readers { return s.Readers })...)
	return append(rows, readerRows(all, "a long write", "its rate, without the final flush", "/sustained/readers", func(s source) *bench.Readers {
		if s.Sustained == nil {
			return nil
		}
		return s.Sustained.Readers
	})...)
}

// longWriteRows returns the rates of the long writes that have begun.
func longWriteRows(all []source) (rows []row) {
	add := func(name, help, field string, rate func(l *bench.Sustained) *float64) {
		rows = append(rows, numberRow(all, name, help, func(s source) *Num {
			if s.Sustained == nil || rate(s.Sustained) == nil {
				return nil
			}
			return s.rateNum(*rate(s.Sustained), "/sustained/"+field)
		})...)
	}
	add("a long write", "mean rate, without the final flush", "rate", func(l *bench.Sustained) *float64 {
		if len(l.Points) == 0 {
			return nil
		}
		return &l.Rate
	})
	add("worst second", "of the long write", "worst_second", func(l *bench.Sustained) *float64 { return l.WorstSecond })
	add("a long write after a pause", "mean rate without a reader, for comparison", "after_it_rate", func(l *bench.Sustained) *float64 {
		if len(l.AfterPause) == 0 {
			return nil
		}
		return &l.AfterPauseRate
	})
	return rows
}

// readerRows returns the rows of a reader beside a copy or a write.
func readerRows(all []source, beside, rate, from string, of func(s source) *bench.Readers) (rows []row) {
	add := func(name, help string, number func(s source, r *bench.Readers) *Num) {
		rows = append(rows, numberRow(all, name, help, func(s source) *Num {
			if r := of(s); r != nil {
				return number(s, r)
			}
			return nil
		})...)
	}
	add("reader before "+beside+", p99", "alone; random reads of 4 KiB", func(s source, r *bench.Readers) *Num {
		return s.timeNum(r.Alone.P99, from+"/alone/p99")
	})
	add("reader beside "+beside+", p99", "random reads of 4 KiB", func(s source, r *bench.Readers) *Num {
		return s.timeNum(r.Beside.P99, from+"/beside/p99")
	})
	add(beside+" beside a reader", rate, func(s source, r *bench.Readers) *Num {
		return s.rateNum(r.Rate, from+"/rate")
	})
	return rows
}

// cliffRows returns the rows of the cliff. They distinguish a drive without a cliff from
// a write that was too short to find one.
func cliffRows(all []source) (rows []row) {
	add := func(name, help string, number func(s source, c *bench.Cliff) *Num) {
		added := numberRow(all, name, help, func(s source) *Num {
			if s.Sustained == nil || s.Sustained.Cliff == nil {
				return nil
			}
			return number(s, s.Sustained.Cliff)
		})
		for _, r := range added {
			for i, s := range all {
				r.Cells[i].Words = noCliffText(s.Sustained)
			}
		}
		rows = append(rows, added...)
	}
	add("cliff at", "bytes written until the drive stays slower", func(s source, c *bench.Cliff) *Num {
		return s.bytesNum(float64(c.Offset), "/sustained/cliff/offset")
	})
	add("before the cliff", "long write", func(s source, c *bench.Cliff) *Num {
		return s.rateNum(c.Before, "/sustained/cliff/before")
	})
	add("after the cliff", "long write", func(s source, c *bench.Cliff) *Num {
		return s.rateNum(c.After, "/sustained/cliff/after")
	})
	add("fast again after a pause", "bytes until the next cliff, or until the end of the write", func(s source, c *bench.Cliff) *Num {
		if s.Sustained.Recovery == nil {
			return nil
		}
		return s.bytesNum(*s.Sustained.Recovery, "/sustained/recovery")
	})
	add("pause for a full recovery", "an estimate for a cache that empties at a constant rate; an upper bound if the write was fast to its end", func(s source, c *bench.Cliff) *Num {
		if s.Sustained.RecoverySeconds == nil {
			return nil
		}
		return s.timeNum(*s.Sustained.RecoverySeconds, "/sustained/recovery_seconds")
	})
	return rows
}

// noCliffText explains why there is no cliff. It is empty if there is one, and if the
// write is not complete.
func noCliffText(l *bench.Sustained) string {
	switch {
	case l == nil || !l.Complete || l.Cliff != nil:
		return ""
	case l.IsConclusive():
		return "no cliff"
	}
	return "too short to tell"
}

// moment is a number of a copy that comes from one field of its samples.
type moment struct {
	name, help, field string
	value             func(*bench.Sample) float64
	makeNum           func(source, float64, string) *Num
	// enough reports whether a sample has enough measurements for the number; nil means
	// always.
	enough func(*bench.Sample) bool
}

// minForP99 is the smallest number of measurements with a 99th percentile. With fewer, it
// would be their maximum.
const minForP99 = 100

var copyMoments = []moment{
	{"first file", "it is read back and equal", "first_done", func(s *bench.Sample) float64 { return s.FirstDone }, source.timeNum, nil},
	{"copied", "the last byte is written", "copied", func(s *bench.Sample) float64 { return s.Copied }, source.timeNum, nil},
	{"read back", "the last byte is read back and equal; rates count until then", "last_done", func(s *bench.Sample) float64 { return s.LastDone }, source.timeNum, nil},
	{"durable", "everything is on stable storage", "durable", func(s *bench.Sample) float64 { return s.Durable }, source.timeNum, nil},
	{"verified", "the copy equals its manifest; production waits until then", "verified", func(s *bench.Sample) float64 { return s.Verified }, source.timeNum, nil},
	{"memory", "peak of resident memory", "memory", func(s *bench.Sample) float64 { return float64(s.Memory) }, source.bytesNum, nil},
	{"a file, p50", "from opening it until it is read back", "file_latency/p50", func(s *bench.Sample) float64 { return s.File.P50 }, source.timeNum, nil},
	{"a file, p99", "the same", "file_latency/p99", func(s *bench.Sample) float64 { return s.File.P99 }, source.timeNum,
		func(s *bench.Sample) bool { return s.File.Count >= minForP99 }},
	{"a sync, p50", "a flush to stable storage", "sync_latency/p50", func(s *bench.Sample) float64 { return s.Sync.P50 }, source.timeNum, nil},
	{"a sync, p99", "the same", "sync_latency/p99", func(s *bench.Sample) float64 { return s.Sync.P99 }, source.timeNum,
		func(s *bench.Sample) bool { return s.Sync.Count >= minForP99 }},
}

// momentRows returns the times and the memory of the best copy of each workload, as
// medians.
func momentRows(all []source) (rows []row) {
	for _, w := range workloadNames(all) {
		for _, m := range copyMoments {
			rows = append(rows, numberRow(all, w+": "+m.name, m.help, func(s source) *Num { return s.momentNum(w, &m) })...)
		}
		rows = append(rows, numberRow(all, w+": CPU time per GiB", "user and system", func(s source) *Num {
			if i := s.bestCase(w); i >= 0 {
				return s.cpuForGiB(i)
			}
			return nil
		})...)
	}
	return rows
}

// momentNum returns nil if the best copy of the workload has no such number.
func (s source) momentNum(workload string, m *moment) *Num {
	i := s.bestCase(workload)
	if i < 0 {
		return nil
	}
	var values []float64
	for k := range s.Cases[i].Samples {
		sample := &s.Cases[i].Samples[k]
		if m.enough != nil && !m.enough(sample) {
			return nil
		}
		values = append(values, m.value(sample))
	}
	v, ok := median(values)
	if !ok {
		return nil
	}
	return m.makeNum(s, v, fmt.Sprintf("median /cases/%d/samples/*/%s", i, m.field))
}

// factRows returns a row for each fact that is known of a drive.
func factRows(all []source) (rows []row) {
	at := map[string]int{}
	for _, s := range all {
		for _, f := range s.Facts.ListKnown() {
			if _, known := at[f.Key]; !known {
				at[f.Key] = len(rows)
				rows = append(rows, row{Name: strings.ReplaceAll(f.Key, "_", " "), Cells: make([]cell, len(all))})
			}
			rows[at[f.Key]].Cells[s.index] = s.factCell(f)
		}
	}
	return rows
}

// factCell returns the text of a fact, or a scaled number for a size.
func (s source) factCell(f bench.Fact) cell {
	var size *int64
	switch f.Key {
	case "capacity":
		size = s.Facts.Capacity
	case "fs_size":
		size = s.Facts.Size
	case "fs_free":
		size = s.Facts.Free
	case "memory":
		size = s.Facts.Memory
	default:
		return cell{Words: f.Text}
	}
	return cell{Num: s.bytesNum(float64(*size), "/facts/"+f.Key)}
}

// setupRows returns the settings and the cost of each run.
func setupRows(all []source) (rows []row) {
	text := func(name string, of func(s source) string) {
		r := row{Name: name}
		for _, s := range all {
			r.Cells = append(r.Cells, cell{Words: of(s)})
		}
		rows = append(rows, r)
	}
	text("measured", func(s source) string { return humanize.Time(s.Started) })
	text("profile", func(s source) string { return s.Profile })
	text("version", func(s source) string { return s.Tool })
	text("caches emptied by", func(s source) string { return s.CacheMethod })
	text("command", func(s source) string { return strings.Join(s.Command, " ") })
	rows = append(rows, numberRow(all, "took", "", func(s source) *Num { return s.timeNum(s.Seconds, "/seconds") })...)
	return append(rows, numberRow(all, "written in total", "", func(s source) *Num { return s.bytesNum(float64(s.Written), "/written") })...)
}

package report

import (
	"fmt"
	"strings"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/humanize"
)

// view has the contents of the page.
type view struct {
	Drives    []drive
	Summary   []row
	Notes     []string
	Verdicts  []verdict
	Sustained []*chart
	Ceilings  *bars
	Limits    []cellTable // ceilings
	Matrices  []cellTable
	Moments   []row
	Latencies []*chart
	Heat      *chart
	Facts     []row
	Setup     []row
}

// drive is the card of a drive at the top of the page.
type drive struct {
	Class, Name string
	Workload    string
	Copy        *Num // rate of the workload
	Share       *Num // percent of the ceiling
	Cliff       *Num // offset
	After       *Num // rate after the cliff
	Steady      *Num // bytes of a long write without a cliff
	Worst       *Num // rate of its worst second
}

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

func newView(results []*bench.Result) *view {
	v := &view{}
	var all []source
	for i, r := range results {
		all = append(all, source{r, i})
	}
	for i, name := range driveNames(all) {
		v.Drives = append(v.Drives, all[i].driveCard(name))
		v.Notes = append(v.Notes, all[i].listNotes(name)...)
	}
	v.Summary = summaryRows(all)
	v.Verdicts = driveVerdicts(all, v.Drives)
	v.Sustained, v.Heat = sustainedCharts(all), temperatureChart(all)
	v.Ceilings, v.Limits, v.Matrices = shareBars(all), ceilingTables(all, v.Drives), caseTables(all, v.Drives)
	v.Moments = momentRows(all)
	v.Latencies = latencyCharts(all)
	v.Facts, v.Setup = factRows(all), setupRows(all)
	return v
}

// driveNames returns a name for each result. Results of the same model get a number.
func driveNames(all []source) (names []string) {
	seen := map[string]int{}
	for i, s := range all {
		name := fmt.Sprintf("drive %d", i+1)
		if s.Facts.Model != nil {
			name = *s.Facts.Model
		} else if s.Facts.Device != nil {
			name = *s.Facts.Device
		}
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s (%d)", name, seen[name])
		}
		names = append(names, name)
	}
	return names
}

// cssClass selects the colour of a result.
func cssClass(i int) string { return fmt.Sprintf("s%d", i+1) }

// mainCase returns the index of the best case of the first workload, which stands for the
// drive, or -1.
func (s source) mainCase() int {
	for _, c := range s.Cases {
		if i := s.bestCase(c.Workload); i >= 0 {
			return i
		}
	}
	return -1
}

// driveCard returns the card of the drive.
func (s source) driveCard(name string) drive {
	d := drive{Class: cssClass(s.index), Name: name}
	if i := s.mainCase(); i >= 0 {
		d.Workload, d.Copy, d.Share = s.Cases[i].Workload, s.caseRate(i), s.caseShare(i)
	}
	l := s.Sustained
	switch {
	case l == nil:
	case l.Cliff != nil:
		d.Cliff = s.bytesNum(float64(l.Cliff.Offset), "/sustained/cliff/offset")
		d.After = s.rateNum(l.Cliff.After, "/sustained/cliff/after")
	case l.IsConclusive():
		last := len(l.Points) - 1
		d.Steady = s.bytesNum(float64(l.Points[last].Offset), fmt.Sprintf("/sustained/points/%d/offset", last))
		if l.WorstSecond != nil {
			d.Worst = s.rateNum(*l.WorstSecond, "/sustained/worst_second")
		}
	}
	return d
}

// listNotes returns the warnings about the result.
func (s source) listNotes(name string) (list []string) {
	if !s.Complete {
		list = append(list, name+": the run ended early; the page has its measurements until then")
	}
	if l := s.Sustained; l != nil && !l.Complete {
		list = append(list, name+": the long write ended early, perhaps before a cliff")
	}
	for _, w := range s.Warnings {
		list = append(list, name+": "+w)
	}
	if hot := s.firstAlarm(); hot != nil {
		list = append(list, fmt.Sprintf("%s: after %.0f s%s the sensor reported that %.0f °C is outside the limits of the drive, which may have throttled", name, hot.Second, s.longWriteText(hot.Second), hot.Celsius))
	}
	for _, c := range s.Cases {
		if c.Refused != "" {
			list = append(list, fmt.Sprintf("%s: workload %s, %s, has no result: %s", name, c.Workload, settingText(&c), c.Refused))
		}
	}
	return list
}

// longWriteText returns the position of a second in the long write, or "" outside it.
// Heat in the long write can look like a full cache.
func (s source) longWriteText(second float64) string {
	if l := s.Sustained; l != nil && len(l.Points) > 0 && second >= l.Began && second <= l.Began+l.Points[len(l.Points)-1].Second {
		return fmt.Sprintf(" (%.0f s into the long write)", second-l.Began)
	}
	return ""
}

// firstAlarm returns the first temperature outside the limits, or nil.
func (s source) firstAlarm() *bench.Heat {
	for i, h := range s.Facts.Heat {
		if h.Alarm != nil && *h.Alarm {
			return &s.Facts.Heat[i]
		}
	}
	return nil
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
	add := func(name, help string, of func(s source) *Num) {
		rows = append(rows, numberRow(all, name, help, of)...)
	}
	for _, w := range workloadNames(all) {
		add("copy: "+w, "best setting, median, until everything is read back", func(s source) *Num {
			if i := s.bestCase(w); i >= 0 {
				return s.caseRate(i)
			}
			return nil
		})
	}
	for _, way := range []bench.Way{bench.Read, bench.Write, bench.Both} {
		add("ceiling: "+string(way), "the drive without any other load", func(s source) *Num { return s.bestCeiling(way) })
	}
	rows = append(rows, cliffRows(all)...)
	long := func(name, help, from string, of func(l *bench.Sustained) *float64) {
		add(name, help, func(s source) *Num {
			if s.Sustained == nil || of(s.Sustained) == nil {
				return nil
			}
			return s.rateNum(*of(s.Sustained), from)
		})
	}
	of := func(points []bench.Point, rate *float64) *float64 {
		if len(points) == 0 {
			return nil
		}
		return rate
	}
	long("a long write", "mean rate, without the final flush", "/sustained/rate", func(l *bench.Sustained) *float64 { return of(l.Points, &l.Rate) })
	long("worst second", "of the long write", "/sustained/worst_second", func(l *bench.Sustained) *float64 { return l.WorstSecond })
	long("a long write after a pause", "mean rate without a reader, for comparison", "/sustained/after_it_rate", func(l *bench.Sustained) *float64 { return of(l.AfterIt, &l.AfterItRate) })
	rows = append(rows, readerRows(all, "a copy", "its rate, until everything is read back and verified", "/readers", func(s source) *bench.Readers { return s.Readers })...)
	rows = append(rows, readerRows(all, "a long write", "its rate, without the final flush", "/sustained/readers", func(s source) *bench.Readers {
		if s.Sustained == nil {
			return nil
		}
		return s.Sustained.Readers
	})...)
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
	add := func(name, help string, of func(s source, c *bench.Cliff) *Num) {
		lines := numberRow(all, name, help, func(s source) *Num {
			if s.Sustained == nil || s.Sustained.Cliff == nil {
				return nil
			}
			return of(s, s.Sustained.Cliff)
		})
		for _, l := range lines {
			for i, s := range all {
				switch l := &l.Cells[i]; {
				case s.Sustained == nil || !s.Sustained.Complete || s.Sustained.Cliff != nil:
				case s.Sustained.IsConclusive():
					l.Words = "no cliff"
				default:
					l.Words = "too short to tell"
				}
			}
		}
		rows = append(rows, lines...)
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
		rows = append(rows, numberRow(all, w+": CPU for a GiB", "user and system", func(s source) *Num {
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

// workloadNames returns the workloads of all results, in order.
func workloadNames(all []source) (list []string) {
	seen := map[string]bool{}
	for _, s := range all {
		for _, c := range s.Cases {
			if !seen[c.Workload] {
				seen[c.Workload] = true
				list = append(list, c.Workload)
			}
		}
	}
	return list
}

// verdict is the comparison of a drive with the first one.
type verdict struct {
	Class, Name                  string
	Better, Worse, Same, Unknown int
	Chance                       string // largest number of measures that chance would make different
	Notes                        []string
}

// driveVerdicts compares each drive with the first one.
func driveVerdicts(all []source, drives []drive) (list []verdict) {
	for i := 1; i < len(all); i++ {
		c := bench.Compare(all[0].Result, all[i].Result)
		list = append(list, verdict{cssClass(i), drives[i].Name, c.CountVerdict(bench.Better), c.CountVerdict(bench.Worse),
			c.CountVerdict(bench.Same), c.CountVerdict(bench.Unknown), fmt.Sprintf("%.0f", c.ExpectedByChance()), c.Notes})
	}
	return list
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
	text("caches emptied by", func(s source) string { return s.Cold })
	text("command", func(s source) string { return strings.Join(s.Command, " ") })
	rows = append(rows, numberRow(all, "took", "", func(s source) *Num { return s.timeNum(s.Seconds, "/seconds") })...)
	return append(rows, numberRow(all, "written in all", "", func(s source) *Num { return s.bytesNum(float64(s.Written), "/written") })...)
}

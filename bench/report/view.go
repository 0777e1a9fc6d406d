package report

import (
	"fmt"
	"strings"

	"shard_to_ssd/bench"
)

// view is what the page shows.
type view struct {
	Drives    []drive
	Summary   []row
	Notes     []string
	Verdicts  []verdict
	Sustained []*chart
	Ceilings  *bars
	Limits    []matrix // of ceilings
	Matrices  []matrix
	Moments   []row
	Latencies []*chart
	Heat      *chart
	Facts     []row
	Setup     []row
}

type drive struct {
	Class, Name string
	Workload    string
	Copy        *Num // of the workload, and how much of the ceiling
	Share       *Num
	Cliff       *Num // offset, and the rate behind it
	After       *Num
	Steady      *Num // bytes of a long write that found no cliff
	Worst       *Num // second of it
}

// row is one line of a table: a cell for each result.
type row struct {
	Name, Help string
	Cells      []cell
}

// cell is a number, or words.
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
		v.Drives = append(v.Drives, all[i].drive(name))
		v.Notes = append(v.Notes, all[i].notes(name)...)
	}
	v.Summary = summary(all)
	v.Verdicts = verdicts(all, v.Drives)
	v.Sustained, v.Heat = sustained(all), heat(all)
	v.Ceilings, v.Limits, v.Matrices = shares(all), limits(all, v.Drives), matrices(all, v.Drives)
	v.Moments = moments(all)
	v.Latencies = latencies(all)
	v.Facts, v.Setup = facts(all), setup(all)
	return v
}

// driveNames tells two results of one model apart.
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

func class(i int) string { return fmt.Sprintf("s%d", i+1) }

// large is the workload that a drive is judged by: the first that there is.
func (s source) large() int {
	for _, c := range s.Cases {
		if i := s.best(c.Workload); i >= 0 {
			return i
		}
	}
	return -1
}

func (s source) drive(name string) drive {
	d := drive{Class: class(s.index), Name: name}
	if i := s.large(); i >= 0 {
		d.Workload, d.Copy, d.Share = s.Cases[i].Workload, s.caseRate(i), s.caseShare(i)
	}
	if s.Sustained != nil {
		if c := s.Sustained.Cliff; c != nil {
			d.Cliff = s.bytes(float64(c.Offset), "/sustained/cliff/offset")
			d.After = s.rate(c.After, "/sustained/cliff/after")
		}
		if last := len(s.Sustained.Points) - 1; s.Sustained.Telling() && s.Sustained.Cliff == nil {
			d.Steady = s.bytes(float64(s.Sustained.Points[last].Offset), fmt.Sprintf("/sustained/points/%d/offset", last))
			if w := s.Sustained.WorstSecond; w != nil {
				d.Worst = s.rate(*w, "/sustained/worst_second")
			}
		}
	}
	return d
}

func (s source) notes(name string) (list []string) {
	if !s.Complete {
		list = append(list, name+": the run was ended early, what is here was measured")
	}
	if l := s.Sustained; l != nil && !l.Complete {
		list = append(list, name+": the long write was ended early: there may be a cliff that it did not come to")
	}
	for _, w := range s.Warnings {
		list = append(list, name+": "+w)
	}
	if hot := s.alarm(); hot != nil {
		list = append(list, fmt.Sprintf("%s: after %.0f s%s, at %.0f °C, its sensor said that this is out of the range it may have: it may have throttled", name, hot.Second, s.during(hot.Second), hot.Celsius))
	}
	for _, c := range s.Cases {
		if c.Refused != "" {
			list = append(list, fmt.Sprintf("%s: workload %s, %s, is no result: %s", name, c.Workload, setting(&c), c.Refused))
		}
	}
	return list
}

// during says whether a second of the run was one of the long write: then what looks like
// a full cache may be heat.
func (s source) during(second float64) string {
	if l := s.Sustained; l != nil && len(l.Points) > 0 && second >= l.Began && second <= l.Began+l.Points[len(l.Points)-1].Second {
		return fmt.Sprintf(" (%.0f s into the long write)", second-l.Began)
	}
	return ""
}

// alarm is when the sensor first gave one, nil if it did not.
func (s source) alarm() *bench.Heat {
	for i, h := range s.Facts.Heat {
		if h.Alarm != nil && *h.Alarm {
			return &s.Facts.Heat[i]
		}
	}
	return nil
}

// rowOf makes a line of a number of each result; none of it without any.
func rowOf(all []source, name, help string, of func(s source) *Num) []row {
	r, any := row{Name: name, Help: help}, false
	for _, s := range all {
		n := of(s)
		any = any || n != nil
		r.Cells = append(r.Cells, cell{Num: n})
	}
	if !any {
		return nil
	}
	return []row{r}
}

func summary(all []source) (rows []row) {
	add := func(name, help string, of func(s source) *Num) { rows = append(rows, rowOf(all, name, help, of)...) }
	for _, w := range workloads(all) {
		add("copy: "+w, "best setting, median, until all is read back", func(s source) *Num {
			if i := s.best(w); i >= 0 {
				return s.caseRate(i)
			}
			return nil
		})
	}
	for _, way := range []bench.Way{bench.Read, bench.Write, bench.Both} {
		add("ceiling: "+string(way), "what the drive does with nothing else to do", func(s source) *Num { return s.ceiling(way) })
	}
	rows = append(rows, cliff(all)...)
	long := func(name, help, from string, of func(l *bench.Sustained) *float64) {
		add(name, help, func(s source) *Num {
			if s.Sustained == nil || of(s.Sustained) == nil {
				return nil
			}
			return s.rate(*of(s.Sustained), from)
		})
	}
	of := func(points []bench.Point, rate *float64) *float64 {
		if len(points) == 0 {
			return nil
		}
		return rate
	}
	long("a long write", "all of it, without the last flush", "/sustained/rate", func(l *bench.Sustained) *float64 { return of(l.Points, &l.Rate) })
	long("worst second", "of the long write", "/sustained/worst_second", func(l *bench.Sustained) *float64 { return l.WorstSecond })
	long("a long write after a pause", "without a reader, for comparison", "/sustained/after_it_rate", func(l *bench.Sustained) *float64 { return of(l.AfterIt, &l.AfterItRate) })
	rows = append(rows, readers(all, "a copy", "its rate, until all is read back and proven", "/readers", func(s source) *bench.Readers { return s.Readers })...)
	rows = append(rows, readers(all, "a long write", "its rate, without the last flush", "/sustained/readers", func(s source) *bench.Readers {
		if s.Sustained == nil {
			return nil
		}
		return s.Sustained.Readers
	})...)
	return rows
}

// readers are the rows of a reader beside something.
func readers(all []source, beside, rate, from string, of func(s source) *bench.Readers) (rows []row) {
	add := func(name, help string, number func(s source, r *bench.Readers) *Num) {
		rows = append(rows, rowOf(all, name, help, func(s source) *Num {
			if r := of(s); r != nil {
				return number(s, r)
			}
			return nil
		})...)
	}
	add("reader before "+beside+", p99", "alone; a random read of 4 KiB", func(s source, r *bench.Readers) *Num {
		return s.time(r.Alone.P99, from+"/alone/p99")
	})
	add("reader beside "+beside+", p99", "a random read of 4 KiB", func(s source, r *bench.Readers) *Num {
		return s.time(r.Beside.P99, from+"/beside/p99")
	})
	add(beside+" beside a reader", rate, func(s source, r *bench.Readers) *Num {
		return s.rate(r.Rate, from+"/rate")
	})
	return rows
}

// cliff are the rows of a long write. That there is no cliff is known, too, if it was
// long enough.
func cliff(all []source) (rows []row) {
	add := func(name, help string, of func(s source, c *bench.Cliff) *Num) {
		lines := rowOf(all, name, help, func(s source) *Num {
			if s.Sustained == nil || s.Sustained.Cliff == nil {
				return nil
			}
			return of(s, s.Sustained.Cliff)
		})
		for _, l := range lines {
			for i, s := range all {
				switch l := &l.Cells[i]; {
				case s.Sustained == nil || !s.Sustained.Complete || s.Sustained.Cliff != nil:
				case s.Sustained.Telling():
					l.Words = "no cliff"
				default:
					l.Words = "too short to tell"
				}
			}
		}
		rows = append(rows, lines...)
	}
	add("cliff at", "bytes written until it is slower for good", func(s source, c *bench.Cliff) *Num {
		return s.bytes(float64(c.Offset), "/sustained/cliff/offset")
	})
	add("before the cliff", "long write", func(s source, c *bench.Cliff) *Num {
		return s.rate(c.Before, "/sustained/cliff/before")
	})
	add("after the cliff", "long write", func(s source, c *bench.Cliff) *Num {
		return s.rate(c.After, "/sustained/cliff/after")
	})
	add("fast again after a pause", "bytes until the cliff comes back, or all that was written then", func(s source, c *bench.Cliff) *Num {
		if s.Sustained.Recovery == nil {
			return nil
		}
		return s.bytes(*s.Sustained.Recovery, "/sustained/recovery")
	})
	add("pause until all is fast again", "about, if the cache empties evenly; at most, if it was fast to the end", func(s source, c *bench.Cliff) *Num {
		if s.Sustained.RecoverySeconds == nil {
			return nil
		}
		return s.time(*s.Sustained.RecoverySeconds, "/sustained/recovery_seconds")
	})
	return rows
}

// moment is a number of a copy, all of them from one field of its samples.
type moment struct {
	name, help, field string
	of                func(*bench.Sample) float64
	num               func(source, float64, string) *Num
	// enough reports whether a sample has measurements enough for it; nil: always.
	enough func(*bench.Sample) bool
}

// inAHundred is how many measurements a 99th percentile takes: of fewer it is the
// greatest of them.
const inAHundred = 100

var allMoments = []moment{
	{"first file", "it is read back and equal", "first_done", func(s *bench.Sample) float64 { return s.FirstDone }, source.time, nil},
	{"copied", "the last byte is written", "copied", func(s *bench.Sample) float64 { return s.Copied }, source.time, nil},
	{"read back", "the last byte is read back and equal: what rates are of", "last_done", func(s *bench.Sample) float64 { return s.LastDone }, source.time, nil},
	{"durable", "all is on stable storage", "durable", func(s *bench.Sample) float64 { return s.Durable }, source.time, nil},
	{"verified", "proven by its manifest: what production waits for", "verified", func(s *bench.Sample) float64 { return s.Verified }, source.time, nil},
	{"memory", "the most that was resident", "memory", func(s *bench.Sample) float64 { return float64(s.Memory) }, source.bytes, nil},
	{"a file, p50", "from opening it to its being read back", "file_latency/p50", func(s *bench.Sample) float64 { return s.File.P50 }, source.time, nil},
	{"a file, p99", "the same", "file_latency/p99", func(s *bench.Sample) float64 { return s.File.P99 }, source.time,
		func(s *bench.Sample) bool { return s.File.Count >= inAHundred }},
	{"a sync, p50", "a flush to stable storage", "sync_latency/p50", func(s *bench.Sample) float64 { return s.Sync.P50 }, source.time, nil},
	{"a sync, p99", "the same", "sync_latency/p99", func(s *bench.Sample) float64 { return s.Sync.P99 }, source.time,
		func(s *bench.Sample) bool { return s.Sync.Count >= inAHundred }},
}

// moments are what the best copy of each workload took, medians.
func moments(all []source) (rows []row) {
	for _, w := range workloads(all) {
		for _, m := range allMoments {
			rows = append(rows, rowOf(all, w+": "+m.name, m.help, func(s source) *Num { return s.moment(w, &m) })...)
		}
		rows = append(rows, rowOf(all, w+": CPU for a GiB", "user and system", func(s source) *Num {
			if i := s.best(w); i >= 0 {
				return s.cpuForGiB(i)
			}
			return nil
		})...)
	}
	return rows
}

func (s source) moment(workload string, m *moment) *Num {
	i := s.best(workload)
	if i < 0 {
		return nil
	}
	var values []float64
	for k := range s.Cases[i].Samples {
		sample := &s.Cases[i].Samples[k]
		if m.enough != nil && !m.enough(sample) {
			return nil
		}
		values = append(values, m.of(sample))
	}
	v, ok := median(values)
	if !ok {
		return nil
	}
	return m.num(s, v, fmt.Sprintf("median /cases/%d/samples/*/%s", i, m.field))
}

// workloads of all results, in order.
func workloads(all []source) (list []string) {
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

// verdict is what statistics say of a drive, against the first.
type verdict struct {
	Class, Name                  string
	Better, Worse, Same, Unknown int
	Chance                       string // how many of them would differ by chance, at the most
	Notes                        []string
}

func verdicts(all []source, drives []drive) (list []verdict) {
	for i := 1; i < len(all); i++ {
		c := bench.Compare(all[0].Result, all[i].Result)
		list = append(list, verdict{class(i), drives[i].Name, c.Count(bench.Better), c.Count(bench.Worse),
			c.Count(bench.Same), c.Count(bench.Unknown), fmt.Sprintf("%.0f", c.Chance()), c.Notes})
	}
	return list
}

func facts(all []source) (rows []row) {
	at := map[string]int{}
	for _, s := range all {
		for _, f := range s.Facts.List() {
			if _, known := at[f.Key]; !known {
				at[f.Key] = len(rows)
				rows = append(rows, row{Name: strings.ReplaceAll(f.Key, "_", " "), Cells: make([]cell, len(all))})
			}
			rows[at[f.Key]].Cells[s.index] = s.fact(f)
		}
	}
	return rows
}

// fact is in words, but for sizes, which nobody reads in bytes.
func (s source) fact(f bench.Fact) cell {
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
	return cell{Num: s.bytes(float64(*size), "/facts/"+f.Key)}
}

func setup(all []source) (rows []row) {
	words := func(name string, of func(s source) string) {
		r := row{Name: name}
		for _, s := range all {
			r.Cells = append(r.Cells, cell{Words: of(s)})
		}
		rows = append(rows, r)
	}
	words("measured", func(s source) string { return s.Started.UTC().Format("2006-01-02 15:04 UTC") })
	words("profile", func(s source) string { return s.Profile })
	words("version", func(s source) string { return s.Tool })
	words("caches emptied by", func(s source) string { return s.Cold })
	words("command", func(s source) string { return strings.Join(s.Command, " ") })
	rows = append(rows, rowOf(all, "took", "", func(s source) *Num { return s.time(s.Seconds, "/seconds") })...)
	return append(rows, rowOf(all, "written in all", "", func(s source) *Num { return s.bytes(float64(s.Written), "/written") })...)
}

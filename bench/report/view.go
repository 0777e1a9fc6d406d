package report

import (
	"fmt"

	"shard_to_ssd/bench"
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
func (s source) firstAlarm() *bench.Temperature {
	for i, h := range s.Facts.Temperatures {
		if h.Alarm != nil && *h.Alarm {
			return &s.Facts.Temperatures[i]
		}
	}
	return nil
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

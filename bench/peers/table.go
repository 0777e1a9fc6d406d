package main

import (
	"fmt"
	"slices"
	"strings"
)

// line is a lane in a table: what was measured of it.
type line struct {
	label       string
	median      float64
	least, most float64
	samples     int
	failed      string
	chose       string
}

// linesOf are the lines of a table, in its order.
func linesOf(t table, results map[string]*series) (lines []line) {
	for _, l := range t.lanes {
		x := line{label: t.label(l)}
		if s := results[l.key()]; s != nil {
			x.failed = s.Failed
			var values []float64
			for _, sample := range s.Samples {
				values = append(values, t.quantity.of(l.workload, sample))
				x.chose = sample.Chose
			}
			if x.samples = len(values); x.samples > 0 {
				x.median, x.least, x.most = median(values), slices.Min(values), slices.Max(values)
			}
		}
		lines = append(lines, x)
	}
	return lines
}

// mediansOf are those of lines that were measured and did not fail.
func mediansOf(lines []line) map[string]float64 {
	medians := map[string]float64{}
	for _, x := range lines {
		if x.samples > 0 && x.failed == "" {
			medians[x.label] = x.median
		}
	}
	return medians
}

// text is a table in Markdown. Ratios are to its first line.
func (t table) text(lines []line) string {
	var out strings.Builder
	fmt.Fprintf(&out, "| %s, %s | median | min – max | samples | ratio |\n|---|--:|--:|--:|--:|\n", t.quantity.name, t.quantity.unit)
	for _, x := range lines {
		fmt.Fprintln(&out, t.cells(x, lines[0], ""))
	}
	return out.String()
}

// cells are those of a line, the median with its unit.
func (t table) cells(x, first line, unit string) string {
	label, q := cell(x.label), t.quantity
	if unit != "" {
		unit = " " + unit
	}
	switch {
	case x.failed != "":
		return fmt.Sprintf("| %s | failed | | %d | |", label, x.samples)
	case x.samples == 0:
		return fmt.Sprintf("| %s | not measured | | | |", label)
	}
	return fmt.Sprintf("| %s | %s%s | %s – %s | %d | %s |", label, q.text(x.median), unit, q.text(x.least), q.text(x.most), x.samples, ratio(x, first))
}

// cell keeps a name such as tar | tar from ending the cell that it is in.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// ratio is what a line has for each one of the first, which may be nearly nothing.
func ratio(x, first line) string {
	if first.samples == 0 || first.failed != "" || first.median == 0 {
		return "–"
	}
	if x.median > 1000*first.median {
		return "> 1000"
	}
	return fmt.Sprintf("%.2f", x.median/first.median)
}

// everything is one table of all that was measured: a line for each lane of each row.
func everything(rows []row, results map[string]*series) string {
	var out strings.Builder
	out.WriteString("| row | work | contender | median | min – max | samples | ratio |\n|--:|---|---|--:|--:|--:|--:|\n")
	for _, r := range rows {
		for _, t := range r.tables {
			lines := linesOf(t, results)
			for _, x := range lines {
				fmt.Fprintf(&out, "| %d | %s, %s %s |\n", r.number, t.title, t.quantity.name, strings.TrimSuffix(t.cells(x, lines[0], t.quantity.unit), " |"))
			}
		}
	}
	return out.String()
}

// summary is one line for each target of all rows.
func summary(rows []row, results map[string]*series) string {
	var out strings.Builder
	out.WriteString("| row | work | target | measured | |\n|--:|---|---|--:|---|\n")
	for _, r := range rows {
		for _, t := range r.tables {
			medians := mediansOf(linesOf(t, results))
			for _, target := range t.targets {
				v := target.judge(medians)
				fmt.Fprintf(&out, "| %d | %s: %s | %s | %s | %s |\n", r.number, r.title, t.title, cell(v.want), v.got, v.emphasised())
			}
		}
	}
	return out.String()
}

// emphasised makes what was not met stand out.
func (v verdict) emphasised() string {
	if v.state == "met" {
		return v.state
	}
	return "**" + v.state + "**"
}

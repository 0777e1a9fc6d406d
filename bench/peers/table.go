package peers

import (
	"fmt"
	"slices"
	"strings"

	"shard_to_ssd/bench"
)

// line is a lane in a table, with its results.
type line struct {
	label       string
	median      float64
	least, most float64
	samples     int
	failed      string
	chose       string
}

// linesOf returns the lines of a table, in the order of its lanes.
func linesOf(t table, results map[string]*series) (lines []line) {
	for _, l := range t.lanes {
		x := line{label: t.labelOf(l)}
		if s := results[l.resultKey()]; s != nil {
			x.failed = s.Failed
			var values []float64
			for _, sample := range s.Samples {
				values = append(values, t.quantity.of(l.workload, sample))
				x.chose = sample.Chose
			}
			if x.samples = len(values); x.samples > 0 {
				x.median, x.least, x.most = bench.Median(values), slices.Min(values), slices.Max(values)
			}
		}
		lines = append(lines, x)
	}
	return lines
}

// mediansOf returns the medians of lines that were measured and did not fail, by label.
func mediansOf(lines []line) map[string]float64 {
	medians := map[string]float64{}
	for _, x := range lines {
		if x.samples > 0 && x.failed == "" {
			medians[x.label] = x.median
		}
	}
	return medians
}

// formatTable returns a table in Markdown. Ratios compare with its first line.
func (t table) formatTable(lines []line) string {
	var out strings.Builder
	fmt.Fprintf(&out, "| %s, %s | median | min – max | samples | ratio |\n|---|--:|--:|--:|--:|\n", t.quantity.name, t.quantity.unit)
	for _, x := range lines {
		fmt.Fprintln(&out, t.formatLine(x, lines[0], ""))
	}
	return out.String()
}

// formatLine returns a line as cells of Markdown. The median gets the unit, if any.
func (t table) formatLine(x, first line, unit string) string {
	label, q := escapeCell(x.label), t.quantity
	if unit != "" {
		unit = " " + unit
	}
	switch {
	case x.failed != "":
		return fmt.Sprintf("| %s | failed | | %d | |", label, x.samples)
	case x.samples == 0:
		return fmt.Sprintf("| %s | not measured | | | |", label)
	}
	return fmt.Sprintf("| %s | %s%s | %s – %s | %d | %s |", label, q.formatValue(x.median), unit,
		q.formatValue(x.least), q.formatValue(x.most), x.samples, formatRatio(x, first))
}

// escapeCell keeps a name such as tar | tar from ending its cell.
func escapeCell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// formatRatio compares the medians of a line and of the first line, which may be 0.
func formatRatio(x, first line) string {
	if first.samples == 0 || first.failed != "" || first.median == 0 {
		return "–"
	}
	if x.median > 1000*first.median {
		return "> 1000"
	}
	return fmt.Sprintf("%.2f", x.median/first.median)
}

// linesTable returns one table with the lines of all tables of all rows.
func linesTable(rows []row, results map[string]*series) string {
	var out strings.Builder
	out.WriteString("| row | work | contender | median | min – max | samples | ratio |\n|--:|---|---|--:|--:|--:|--:|\n")
	for _, r := range rows {
		for _, t := range r.tables {
			lines := linesOf(t, results)
			for _, x := range lines {
				fmt.Fprintf(&out, "| %d | %s, %s %s |\n", r.number, t.title, t.quantity.name, strings.TrimSuffix(t.formatLine(x, lines[0], t.quantity.unit), " |"))
			}
		}
	}
	return out.String()
}

// targetsTable returns one table with a line for each target of all rows.
func targetsTable(rows []row, results map[string]*series) string {
	var out strings.Builder
	out.WriteString("| row | work | target | measured | |\n|--:|---|---|--:|---|\n")
	for _, r := range rows {
		for _, t := range r.tables {
			medians := mediansOf(linesOf(t, results))
			for _, target := range t.targets {
				v := target.compareWith(medians)
				fmt.Fprintf(&out, "| %d | %s: %s | %s | %s | %s |\n", r.number, r.title, t.title, escapeCell(v.want), v.got, v.emphasisedState())
			}
		}
	}
	return out.String()
}

// emphasisedState makes a target that was not met stand out.
func (v verdict) emphasisedState() string {
	if v.state == "met" {
		return v.state
	}
	return "**" + v.state + "**"
}

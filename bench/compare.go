package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchunit"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
)

// The statistics are those of golang.org/x/perf, as in benchstat: medians with a
// confidence interval, and the Mann-Whitney U-test, which needs no assumption about the
// distribution of the samples.
const (
	alpha      = 0.05 // largest p of a difference that counts
	confidence = 0.95
)

// Verdict is the result of comparing two sets of samples.
type Verdict string

// The verdicts. Same means that there are enough samples to find a difference, and there
// is none. With too few samples the verdict is Unknown.
const (
	Better  Verdict = "better"
	Worse   Verdict = "worse"
	Same    Verdict = "no difference"
	Unknown Verdict = "too few samples"
)

// Summary is the median of samples, with its confidence interval from Lo to Hi.
type Summary struct {
	Center, Lo, Hi float64
	Confidence     float64 // of the interval, 0 to 1
}

// Row compares one measure of two results.
type Row struct {
	Name, Unit string
	Old, New   Summary
	Change     float64 // of the medians: 0.1 is 10 % more; NaN if both are 0
	P          float64 // probability of such a difference by chance alone
	NOld, NNew int     // samples
	Verdict    Verdict
}

// Comparison is the comparison of an old and a new result.
type Comparison struct {
	Rows             []Row
	OnlyOld, OnlyNew []string // names of measures that only one result has
	Notes            []string // differences of the setup, and early ends
}

// Compare compares a new result with an old one.
func Compare(old, new *Result) *Comparison {
	c := &Comparison{Notes: setupDifferences(old, new)}
	fresh := map[[2]string]Measure{}
	for _, m := range new.comparableMeasures() {
		fresh[[2]string{m.Name, m.Unit}] = m
	}
	for _, m := range old.comparableMeasures() {
		key := [2]string{m.Name, m.Unit}
		if with, both := fresh[key]; both {
			c.Rows = append(c.Rows, compareMeasure(m, with))
			delete(fresh, key)
		} else {
			c.OnlyOld = append(c.OnlyOld, m.Name)
		}
	}
	for key := range fresh {
		c.OnlyNew = append(c.OnlyNew, key[0])
	}
	c.OnlyOld, c.OnlyNew = sortedUnique(c.OnlyOld), sortedUnique(c.OnlyNew)
	return c
}

// comparableMeasures returns the measures without the shares of a ceiling. Each drive has
// its own ceiling, and a larger share of a lower ceiling is not better.
func (r *Result) comparableMeasures() []Measure {
	return slices.DeleteFunc(r.Measures(), func(m Measure) bool { return m.Unit == unitShare })
}

func sortedUnique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func compareMeasure(old, new Measure) Row {
	limits := benchmath.Thresholds{CompareAlpha: alpha}
	a := benchmath.NewSample(old.Values, &limits)
	b := benchmath.NewSample(new.Values, &limits)
	test := benchmath.AssumeNothing.Compare(a, b)
	r := Row{
		Name: old.Name, Unit: old.Unit, P: test.P, NOld: test.N1, NNew: test.N2,
		Old: summarize(a), New: summarize(b),
	}
	r.Change = r.New.Center/r.Old.Center - 1
	r.Verdict = verdictOf(&r)
	return r
}

func summarize(sample *benchmath.Sample) Summary {
	s := benchmath.AssumeNothing.Summary(sample, confidence)
	return Summary{Center: s.Center, Lo: s.Lo, Hi: s.Hi, Confidence: s.Confidence}
}

// verdictOf compares the medians only if the samples differ.
func verdictOf(r *Row) Verdict {
	differs := r.P <= alpha && r.New.Center != r.Old.Center
	isHigher := r.New.Center > r.Old.Center
	switch {
	case differs && isHigher == higherIsBetter(r.Unit):
		return Better
	case differs:
		return Worse
	case hasTooFewSamples(r):
		return Unknown
	}
	return Same
}

// hasTooFewSamples reports whether the test could not find any difference with so many
// samples. With 3 and 3, even samples that do not overlap prove nothing: one shuffle in
// ten is as extreme.
func hasTooFewSamples(r *Row) bool {
	if r.P <= alpha {
		return false
	}
	extreme := func(n int, from float64) *benchmath.Sample {
		values := make([]float64, n)
		for i := range values {
			values[i] = from + float64(i)
		}
		return benchmath.NewSample(values, &benchmath.Thresholds{CompareAlpha: alpha})
	}
	apart := benchmath.AssumeNothing.Compare(extreme(r.NOld, 0), extreme(r.NNew, float64(r.NOld)))
	return apart.P > alpha
}

// setupDifferences returns the differences of two runs other than the drive.
func setupDifferences(old, new *Result) (notes []string) {
	differ := func(name, a, b string) {
		note := fmt.Sprintf("%s differs: %s, then %s", name, a, b)
		if a != b && !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	differ("profile", old.Profile, new.Profile)
	differ("size", FormatBytes(old.Size), FormatBytes(new.Size))
	differ("version", old.Tool, new.Tool)
	differ("how caches were emptied", old.CacheMethod, new.CacheMethod)
	differ("kernel", factText(old.Facts.Kernel), factText(new.Facts.Kernel))
	differ("CPU", factText(old.Facts.CPU), factText(new.Facts.CPU))
	differ("governor", factText(old.Facts.Governor), factText(new.Facts.Governor))
	differ("transport", factText(old.Facts.Transport), factText(new.Facts.Transport))
	differ("link speed", factText(old.Facts.LinkSpeed), factText(new.Facts.LinkSpeed))
	differ("link width", factText(old.Facts.LinkWidth), factText(new.Facts.LinkWidth))
	differ("layers", strings.Join(old.Facts.Layers, " "), strings.Join(new.Facts.Layers, " "))
	differ("scheduler", factText(old.Facts.Scheduler), factText(new.Facts.Scheduler))
	differ("number of CPUs", fmt.Sprint(old.Facts.CPUs), fmt.Sprint(new.Facts.CPUs))
	differ("file system", factText(old.Facts.FileSystem), factText(new.Facts.FileSystem))
	differ("mount options", factText(old.Facts.Mount), factText(new.Facts.Mount))
	if a, b := old.Facts.fillLevel(), new.Facts.fillLevel(); math.Abs(a-b) > fillTolerance {
		differ("how full the file system was", fmt.Sprintf("%.0f %%", 100*a), fmt.Sprintf("%.0f %%", 100*b))
	}
	if a, b := old.Sustained, new.Sustained; a != nil && b != nil {
		differ("pause of the long write", fmt.Sprint(a.Pause, " s"), fmt.Sprint(b.Pause, " s"))
	}
	for _, c := range old.Cases {
		if i := slices.IndexFunc(new.Cases, func(n Case) bool { return n.Workload == c.Workload }); i >= 0 {
			differ("workload "+c.Workload, c.contentText(), new.Cases[i].contentText())
		}
	}
	for _, r := range []struct {
		which string
		of    *Result
	}{{"old", old}, {"new", new}} {
		if !r.of.Complete {
			notes = append(notes, "the "+r.which+" run was ended early")
		}
	}
	return notes
}

// factText returns the value of a fact as text.
func factText[T any](fact *T) string {
	if fact == nil {
		return "not known"
	}
	return fmt.Sprint(*fact)
}

// fillTolerance is the largest difference of two fill levels that does not matter. Many
// drives use free space as their fast cache, and are slower when there is little of it.
const fillTolerance = 0.1

// fillLevel returns the used part of the file system, or NaN if that is not known.
func (f *Facts) fillLevel() float64 {
	if f.Size == nil || f.Free == nil || *f.Size <= 0 {
		return math.NaN()
	}
	return 1 - float64(*f.Free)/float64(*f.Size)
}

// contentText describes the files of a case.
func (c *Case) contentText() string {
	return humanize.Count(c.Files, "file") + ", " + humanize.Count(c.Bytes, "byte")
}

// CountVerdict returns the number of measures with verdict v.
func (c *Comparison) CountVerdict(v Verdict) (n int) {
	for _, r := range c.Rows {
		if r.Verdict == v {
			n++
		}
	}
	return n
}

// ExpectedByChance returns the largest number of measures that chance alone would make
// different.
func (c *Comparison) ExpectedByChance() float64 {
	return alpha * float64(c.CountVerdict(Better)+c.CountVerdict(Worse)+c.CountVerdict(Same))
}

// WriteTo prints the comparison as tables, one for each unit, as benchstat does.
func (c *Comparison) WriteTo(to io.Writer) (int64, error) {
	var text strings.Builder
	for _, unit := range c.distinctUnits() {
		c.writeUnit(&text, unit)
	}
	c.writeTotals(&text)
	n, err := io.WriteString(to, text.String())
	return int64(n), err
}

func (c *Comparison) distinctUnits() (list []string) {
	for _, r := range c.Rows {
		if !slices.Contains(list, r.Unit) {
			list = append(list, r.Unit)
		}
	}
	return list
}

func (c *Comparison) writeUnit(text *strings.Builder, unit string) {
	better := "less is better"
	if higherIsBetter(unit) {
		better = "more is better"
	}
	fmt.Fprintf(text, "%s (%s)\n", unit, better)
	table := tabwriter.NewWriter(text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "  \told\tnew\tchange\tp\tn\tverdict")
	for _, r := range c.Rows {
		if r.Unit == unit {
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%.3f\t%d+%d\t%s\n", r.Name,
				intervalText(r.Old, unit), intervalText(r.New, unit), r.changeText(), r.P, r.NOld, r.NNew, r.Verdict)
		}
	}
	_ = table.Flush() // cannot fail: it writes into memory
	text.WriteByte('\n')
}

// changeText returns the change in percent, or ~ without a difference.
func (r *Row) changeText() string {
	if r.Verdict == Same || r.Verdict == Unknown {
		return "~"
	}
	if math.IsNaN(r.Change) || math.IsInf(r.Change, 0) {
		return "?"
	}
	return fmt.Sprintf("%+.1f%%", 100*r.Change)
}

// intervalText returns the median and its uncertainty: ± the wider side of the interval,
// in percent.
func intervalText(s Summary, unit string) string {
	interval := benchmath.Summary{Center: s.Center, Lo: s.Lo, Hi: s.Hi, Confidence: s.Confidence}
	// Rates and sizes are scaled by 1024, as in benchstat, and times by 1000.
	return benchunit.Scale(s.Center, benchunit.ClassOf(unit)) + " ± " + interval.PctRangeString()
}

func (c *Comparison) writeTotals(text *strings.Builder) {
	fmt.Fprintf(text, "%s: ", humanize.Count(len(c.Rows), "measure"))
	for _, v := range []Verdict{Better, Worse, Same} {
		fmt.Fprintf(text, "%d %s, ", c.CountVerdict(v), v)
	}
	fmt.Fprintf(text, "%d %s; by chance alone up to %.0f would differ\n", c.CountVerdict(Unknown), Unknown, c.ExpectedByChance())
	for _, list := range []struct {
		head  string
		names []string
	}{{"only in old", c.OnlyOld}, {"only in new", c.OnlyNew}, {"note", c.Notes}} {
		for _, name := range list.names {
			fmt.Fprintf(text, "%s: %s\n", list.head, name)
		}
	}
	fmt.Fprintf(text, "Medians with %.0f %% confidence intervals. A difference counts if p (Mann-Whitney U) is at most %.2f.\n", 100*confidence, alpha)
	fmt.Fprintln(text, "Each result is one run: a difference may come from the day, and one cause may change several measures.")
	fmt.Fprintln(text, "±∞ and 'too few samples': an interval needs 6 samples, a verdict 4 and 4. The long write and the readers have one sample in each run, so they never get a verdict.")
}

// CompareFiles loads two results and prints their comparison.
func CompareFiles(to io.Writer, old, new string) error {
	oldResult, oldErr := Load(old)
	newResult, newErr := Load(new)
	if err := errs.Join(oldErr, newErr); err != nil {
		return err
	}
	_, err := Compare(oldResult, newResult).WriteTo(to)
	return err
}

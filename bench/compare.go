package bench

import (
	"fmt"
	"io"
	"math"
	"shard_to_ssd/internal/errs"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchunit"
)

// Statistics are golang.org/x/perf's, as benchstat does them: medians with a confidence
// interval, and the Mann-Whitney U-test, which assumes nothing of how measurements are
// distributed.
const (
	alpha      = 0.05 // a difference is one if chance makes it less often than this
	confidence = 0.95
)

// Verdict is what can be said of two sets of samples.
type Verdict string

// The verdicts. Same is said only where a difference could have been seen; with so few
// samples that it could not, the verdict is Unknown.
const (
	Better  Verdict = "better"
	Worse   Verdict = "worse"
	Same    Verdict = "no difference"
	Unknown Verdict = "too few samples"
)

// Row compares one measure of two results.
type Row struct {
	Name, Unit string
	Old, New   benchmath.Summary // median and the bounds of its confidence interval
	Change     float64           // of the medians: 0.1 is 10 % more; NaN from nothing
	P          float64           // how often chance alone makes such a difference
	NOld, NNew int               // samples
	Verdict    Verdict
}

// Comparison is two results, held against each other.
type Comparison struct {
	Rows             []Row
	OnlyOld, OnlyNew []string // names of what only one has measured
	Notes            []string // why they may not be comparable
}

// Compare holds a new result against an old one.
func Compare(old, new *Result) *Comparison {
	c := &Comparison{Notes: incomparable(old, new)}
	fresh := map[[2]string]Measure{}
	for _, m := range new.comparable() {
		fresh[[2]string{m.Name, m.Unit}] = m
	}
	for _, m := range old.comparable() {
		key := [2]string{m.Name, m.Unit}
		if with, both := fresh[key]; both {
			c.Rows = append(c.Rows, row(m, with))
			delete(fresh, key)
		} else {
			c.OnlyOld = append(c.OnlyOld, m.Name)
		}
	}
	for key := range fresh {
		c.OnlyNew = append(c.OnlyNew, key[0])
	}
	c.OnlyOld, c.OnlyNew = distinct(c.OnlyOld), distinct(c.OnlyNew)
	return c
}

// comparable are the measures without parts of a ceiling: it is the own drive's, and more
// of a lower one is not better.
func (r *Result) comparable() []Measure {
	return slices.DeleteFunc(r.Measures(), func(m Measure) bool { return m.Unit == unitShare })
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func row(old, new Measure) Row {
	limits := benchmath.Thresholds{CompareAlpha: alpha}
	a := benchmath.NewSample(old.Values, &limits)
	b := benchmath.NewSample(new.Values, &limits)
	test := benchmath.AssumeNothing.Compare(a, b)
	r := Row{
		Name: old.Name, Unit: old.Unit, P: test.P, NOld: test.N1, NNew: test.N2,
		Old: benchmath.AssumeNothing.Summary(a, confidence), New: benchmath.AssumeNothing.Summary(b, confidence),
	}
	r.Change = r.New.Center/r.Old.Center - 1
	r.Verdict = judge(&r, old.HigherIsBetter())
	return r
}

// judge asks first whether there is a difference, and then which.
func judge(r *Row, higher bool) Verdict {
	switch {
	case r.P <= alpha && r.New.Center != r.Old.Center:
		if r.New.Center > r.Old.Center == higher {
			return Better
		}
		return Worse
	case tooFew(r):
		return Unknown
	}
	return Same
}

// tooFew is true where even samples that do not overlap at all would prove nothing: of
// 3 and 3, one in ten shuffles is as extreme.
func tooFew(r *Row) bool {
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

// incomparable says what of two runs was not the same, other than the drive.
func incomparable(old, new *Result) (notes []string) {
	differ := func(what, a, b string) {
		note := fmt.Sprintf("%s differs: %s, then %s", what, a, b)
		if a != b && !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	differ("profile", old.Profile, new.Profile)
	differ("size", Bytes(old.Size), Bytes(new.Size))
	differ("version", old.Tool, new.Tool)
	differ("how caches were emptied", old.Cold, new.Cold)
	differ("kernel", known(old.Facts.Kernel), known(new.Facts.Kernel))
	differ("CPU", known(old.Facts.CPU), known(new.Facts.CPU))
	differ("governor", known(old.Facts.Governor), known(new.Facts.Governor))
	differ("transport", known(old.Facts.Transport), known(new.Facts.Transport))
	differ("link speed", known(old.Facts.LinkSpeed), known(new.Facts.LinkSpeed))
	differ("link width", known(old.Facts.LinkWidth), known(new.Facts.LinkWidth))
	differ("layers", strings.Join(old.Facts.Layers, " "), strings.Join(new.Facts.Layers, " "))
	differ("scheduler", known(old.Facts.Scheduler), known(new.Facts.Scheduler))
	differ("number of CPUs", fmt.Sprint(old.Facts.CPUs), fmt.Sprint(new.Facts.CPUs))
	differ("file system", known(old.Facts.FileSystem), known(new.Facts.FileSystem))
	differ("mount options", known(old.Facts.Mount), known(new.Facts.Mount))
	if a, b := old.Facts.fill(), new.Facts.fill(); math.Abs(a-b) > fillAlike {
		differ("how full the file system was", fmt.Sprintf("%.0f %%", 100*a), fmt.Sprintf("%.0f %%", 100*b))
	}
	if a, b := old.Sustained, new.Sustained; a != nil && b != nil {
		differ("pause of the long write", fmt.Sprint(a.Pause, " s"), fmt.Sprint(b.Pause, " s"))
	}
	for _, c := range old.Cases {
		if i := slices.IndexFunc(new.Cases, func(n Case) bool { return n.Workload == c.Workload }); i >= 0 {
			differ("workload "+c.Workload, c.holds(), new.Cases[i].holds())
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

// known is a fact in words.
func known[T any](fact *T) string {
	if fact == nil {
		return "not known"
	}
	return fmt.Sprint(*fact)
}

// fillAlike is up to what difference two file systems are as full: a drive has its fast
// cache in what is free, and is slower when little is.
const fillAlike = 0.1

// fill is the used part of the file system, NaN if that is not known.
func (f *Facts) fill() float64 {
	if f.Size == nil || f.Free == nil || *f.Size <= 0 {
		return math.NaN()
	}
	return 1 - float64(*f.Free)/float64(*f.Size)
}

// holds is what is copied, in words.
func (c *Case) holds() string { return fmt.Sprintf("%d files, %d bytes", c.Files, c.Bytes) }

// Count is how many measures have this verdict.
func (c *Comparison) Count(v Verdict) (n int) {
	for _, r := range c.Rows {
		if r.Verdict == v {
			n++
		}
	}
	return n
}

// Chance is how many of the measures would differ at the most if nothing but chance made
// a difference.
func (c *Comparison) Chance() float64 {
	return alpha * float64(c.Count(Better)+c.Count(Worse)+c.Count(Same))
}

// WriteTo prints the comparison as a table: a block for each unit, as benchstat has it.
func (c *Comparison) WriteTo(to io.Writer) (int64, error) {
	var text strings.Builder
	for _, unit := range c.units() {
		c.writeUnit(&text, unit)
	}
	c.writeRest(&text)
	n, err := io.WriteString(to, text.String())
	return int64(n), err
}

func (c *Comparison) units() (list []string) {
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
				interval(r.Old, unit), interval(r.New, unit), r.change(), r.P, r.NOld, r.NNew, r.Verdict)
		}
	}
	table.Flush() // into a strings.Builder: it does not fail
	text.WriteByte('\n')
}

// change is the difference in percent, where there is one.
func (r *Row) change() string {
	if r.Verdict == Same || r.Verdict == Unknown {
		return "~"
	}
	if math.IsNaN(r.Change) || math.IsInf(r.Change, 0) {
		return "?"
	}
	return fmt.Sprintf("%+.1f%%", 100*r.Change)
}

// interval is a median with how sure it is: ± the wider side, in percent.
func interval(s benchmath.Summary, unit string) string {
	// Rates and sizes are scaled by 1024, as benchstat does, times by 1000.
	return benchunit.Scale(s.Center, benchunit.ClassOf(unit)) + " ± " + s.PctRangeString()
}

func (c *Comparison) writeRest(text *strings.Builder) {
	fmt.Fprintf(text, "%d measures: ", len(c.Rows))
	for _, v := range []Verdict{Better, Worse, Same} {
		fmt.Fprintf(text, "%d %s, ", c.Count(v), v)
	}
	fmt.Fprintf(text, "%d %s; by chance alone up to %.0f would differ\n", c.Count(Unknown), Unknown, c.Chance())
	for _, list := range []struct {
		head  string
		names []string
	}{{"only in old", c.OnlyOld}, {"only in new", c.OnlyNew}, {"note", c.Notes}} {
		for _, name := range list.names {
			fmt.Fprintf(text, "%s: %s\n", list.head, name)
		}
	}
	fmt.Fprintf(text, "medians with %.0f %% confidence intervals; a difference is one if p (Mann-Whitney U) is at most %.2f.\n", 100*confidence, alpha)
	fmt.Fprintln(text, "One run each: what differs may be the day, and one cause may show in several measures.")
	fmt.Fprintln(text, "±∞ and 'too few samples': 6 samples give an interval, 4 and 4 a verdict. The long write and the readers are measured once a run, and never have one.")
}

// CompareFiles prints how a new result differs from an old one.
func CompareFiles(to io.Writer, old, new string) error {
	a, err := Load(old)
	b, err2 := Load(new)
	if err := errs.Join(err, err2); err != nil {
		return err
	}
	_, err = Compare(a, b).WriteTo(to)
	return err
}

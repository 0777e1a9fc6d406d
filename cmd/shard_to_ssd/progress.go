package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
)

// How often progress is shown: a bar should move smoothly, and a log should not
// fill up.
const (
	barPeriod   = 200 * time.Millisecond
	plainPeriod = 10 * time.Second
	plainTick   = time.Second
	rateWindow  = 10 * time.Second // the rate is the mean of this time
)

// progressStyle is the value of --progress.
type progressStyle string

const (
	progressAuto  progressStyle = "auto" // bar on a terminal, else plain
	progressBar   progressStyle = "bar"
	progressPlain progressStyle = "plain"
	progressNone  progressStyle = "none"
)

// Set parses the name of a style.
func (p *progressStyle) Set(name string) error {
	switch m := progressStyle(name); m {
	case progressAuto, progressBar, progressPlain, progressNone:
		*p = m
		return nil
	}
	return fmt.Errorf("%q is not one of auto, bar, plain, none", name)
}

func (p *progressStyle) String() string { return string(*p) }

// Type returns the name of the value, for pflag.
func (p *progressStyle) Type() string { return "STYLE" }

// resolveAuto replaces auto by a bar on a terminal, else by plain.
func (p progressStyle) resolveAuto(columns int) progressStyle {
	if p != progressAuto {
		return p
	}
	if columns > 0 {
		return progressBar
	}
	return progressPlain
}

// counters implement copier.Observer. A copying goroutine only adds to an atomic.
type counters struct {
	planned                               atomic.Bool
	files, bytes                          atomic.Int64
	bytesCopied, bytesReadBack, filesDone atomic.Int64
}

func (c *counters) Planned(files, bytes int64) {
	c.files.Store(files)
	c.bytes.Store(bytes)
	c.planned.Store(true) // last, so that the numbers are set when it is true
}

func (c *counters) Copied(bytes int64)   { c.bytesCopied.Add(bytes) }
func (c *counters) ReadBack(bytes int64) { c.bytesReadBack.Add(bytes) }
func (c *counters) FileDone()            { c.filesDone.Add(1) }

// snapshot is the progress of the operation at one moment.
type snapshot struct {
	copies           bool // false: the operation only reads back
	files, filesDone int64
	bytes            int64 // of the shard
	copied, readBack int64
	work, done       int64         // bytes to move; a copy writes and reads back each byte
	rate             float64       // bytes of work per second
	left             time.Duration // negative: unknown
}

// takeSnapshot reads the counters. If the source grows, the progress stays at 100 %.
func (c *counters) takeSnapshot(m mode) snapshot {
	s := snapshot{
		files: c.files.Load(), filesDone: c.filesDone.Load(), bytes: c.bytes.Load(),
		copied: c.bytesCopied.Load(), readBack: c.bytesReadBack.Load(), copies: m == modeCopy,
	}
	s.work, s.done = s.bytes, min(s.readBack, s.bytes)
	if s.copies {
		s.work, s.done = 2*s.bytes, s.done+min(s.copied, s.bytes)
	}
	return s
}

// rateMeter measures the rate of the last rateWindow.
type rateMeter struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

// addSample adds a sample, and sets the rate and the time left.
func (m *rateMeter) addSample(now time.Time, s *snapshot) {
	m.samples = append(m.samples, sample{now, s.done})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
	s.left = -1
	first := m.samples[0]
	seconds := now.Sub(first.at).Seconds()
	if seconds <= 0 {
		return
	}
	s.rate = float64(s.done-first.done) / seconds
	if left := float64(s.work-s.done) / s.rate; left < 1e6 { // false for Inf and NaN
		s.left = time.Duration(left * float64(time.Second))
	}
}

// progress is the state of the one goroutine that draws.
type progress struct {
	counters counters
	mode     mode
	out      *output
	columns  func() int
	meter    rateMeter
	last     time.Time // of the last plain line, or of the plan
}

// startProgress starts to show progress. It returns the observer for the operation,
// and a function that stops the display.
func startProgress(h host, out *output, c command) (observer copier.Observer, stop func()) {
	shown := c.progress.resolveAuto(h.columns())
	if shown == progressNone || c.mode == modeRemove || c.mode == modeList {
		return copier.NopObserver{}, func() {}
	}
	p := &progress{mode: c.mode, out: out, columns: h.columns}
	draw, period := p.drawPlain, plainTick
	if shown == progressBar {
		draw, period = p.drawBar, barPeriod
	}
	ticker := time.NewTicker(period)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case now := <-ticker.C:
				draw(now)
			case <-done:
				return
			}
		}
	}()
	return &p.counters, func() {
		ticker.Stop()
		close(done)
		<-ended
		out.setBar("")
	}
}

// drawPlain logs a line when one is due. Until the copy is planned, while it waits
// for the lock or lists the source, there is no progress to log.
func (p *progress) drawPlain(now time.Time) {
	s, planned := p.measure(now)
	if !planned {
		return
	}
	if p.last.IsZero() {
		p.last = now
	}
	if now.Sub(p.last) < plainPeriod {
		return
	}
	p.last = now
	p.out.Log(shardtossd.Info, "root", plainLine(s))
}

// drawBar redraws the bar.
func (p *progress) drawBar(now time.Time) {
	if s, planned := p.measure(now); planned {
		p.out.setBar(barLine(s, p.columns()))
	}
}

// measure returns the progress with its rate, and reports whether there is a plan.
func (p *progress) measure(now time.Time) (s snapshot, planned bool) {
	if !p.counters.planned.Load() {
		return s, false
	}
	s = p.counters.takeSnapshot(p.mode)
	p.meter.addSample(now, &s)
	return s, true
}

// plainLine returns a line with all numbers.
func plainLine(s snapshot) string {
	bytes := fmt.Sprintf("%s of %s read back", humanize.Size(s.readBack), humanize.Size(s.bytes))
	if s.copies {
		bytes = fmt.Sprintf("%s of %s copied, %s read back", humanize.Size(s.copied), humanize.Size(s.bytes), humanize.Size(s.readBack))
	}
	return fmt.Sprintf("progress: %d%%, %s, %s, %s", percent(s.done, s.work), bytes, fileCount(s, " of "), rateAndTimeLeft(s))
}

// barLine returns a line that fits the terminal. It leaves the files out if they
// would leave no room for a bar. A copy moves each byte twice, so half of the
// bytes moved are shown as bytes of the shard.
func barLine(s snapshot, columns int) string {
	bytes := s.done
	if s.copies {
		bytes /= 2
	}
	if columns <= 0 {
		columns = 80 // --progress=bar without a terminal
	}
	columns-- // some terminals wrap in the last column
	moved := fmt.Sprintf("%s/%s, ", humanize.Size(bytes), humanize.Size(s.bytes))
	stats := moved + fileCount(s, "/") + ", " + rateAndTimeLeft(s)
	width := barWidth(columns, stats)
	if width < barMinimum {
		stats = moved + rateAndTimeLeft(s)
		width = barWidth(columns, stats)
	}
	line := fmt.Sprintf("%4d%% %s", percent(s.done, s.work), stats)
	if width >= barMinimum {
		line = renderBar(percent(s.done, s.work), width, stats)
	}
	return line[:min(len(line), columns)]
}

// Limits of the width of a bar, in columns.
const barMinimum, barMaximum = 10, 40

func barWidth(columns int, stats string) int {
	room := (len(stats) + 7) &^ 7 // in steps, so that the bar does not jitter with the numbers
	return min(columns-len(" 100% [] ")-room, barMaximum)
}

// renderBar lays out one bar with the package progressbar. That package gets neither
// the clock nor the terminal, so that log lines never mix with the bar.
func renderBar(percent, width int, stats string) string {
	var text strings.Builder
	bar := progressbar.NewOptions(100,
		progressbar.OptionSetWriter(&text),
		progressbar.OptionSetWidth(width),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetRenderBlankState(true),
	)
	_ = bar.Set(percent) // writes to a strings.Builder
	return strings.TrimRight(strings.TrimPrefix(bar.String(), "\r"), " ") + " " + stats
}

// fileCount returns the files done and in all. A verification may not count them.
func fileCount(s snapshot, of string) string {
	all := humanize.Count(s.files, "file")
	if !s.copies && s.filesDone == 0 {
		return all
	}
	return fmt.Sprintf("%d%s%s", s.filesDone, of, all)
}

// rateAndTimeLeft returns the rate of writing and reading back together, and the
// time left.
func rateAndTimeLeft(s snapshot) string {
	left := formatSpan(s.left) + " left"
	switch {
	case s.done >= s.work:
		left = "finishing" // only the sync is left, and its length is unknown
	case s.left < 0:
		left = "time left unknown"
	}
	return fmt.Sprintf("%s/s, %s", humanize.Size(int64(s.rate)), left)
}

// percent rounds down, so that 100 means all. All of no work is done.
func percent(done, work int64) int {
	if done >= work {
		return 100
	}
	return int(float64(done) / float64(work) * 100)
}

// formatSpan formats a time for people: 1h02m03s.
func formatSpan(d time.Duration) string {
	seconds := int64(d / time.Second)
	hours, minutes, seconds := seconds/3600, seconds/60%60, seconds%60
	switch {
	case hours > 0:
		return fmt.Sprintf("%dh%02dm%02ds", hours, minutes, seconds)
	case minutes > 0:
		return fmt.Sprintf("%dm%02ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

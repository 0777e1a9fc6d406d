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

// How often something is shown. The bar is drawn as often as it looks smooth; a
// log should not fill up.
const (
	barPeriod   = 200 * time.Millisecond
	plainPeriod = 10 * time.Second
	plainTick   = time.Second
	rateWindow  = 10 * time.Second // what the rate is the mean of
)

// progressMode is the value of --progress.
type progressMode string

const (
	progressAuto  progressMode = "auto" // bar on a terminal, else plain
	progressBar   progressMode = "bar"
	progressPlain progressMode = "plain"
	progressNone  progressMode = "none"
)

// Set takes the name of a mode.
func (p *progressMode) Set(name string) error {
	switch m := progressMode(name); m {
	case progressAuto, progressBar, progressPlain, progressNone:
		*p = m
		return nil
	}
	return fmt.Errorf("%q is not one of auto, bar, plain, none", name)
}

func (p *progressMode) String() string { return string(*p) }

// Type is the word for the value in a usage line.
func (p *progressMode) Type() string { return "PROGRESS" }

// resolve decides what auto means.
func (p progressMode) resolve(columns int) progressMode {
	if p != progressAuto {
		return p
	}
	if columns > 0 {
		return progressBar
	}
	return progressPlain
}

// counters are the copier.Observer: adding to an atomic is all that the copying
// goroutines pay for progress.
type counters struct {
	planned                               atomic.Bool
	files, bytes                          atomic.Int64
	bytesCopied, bytesReadBack, filesDone atomic.Int64
}

func (c *counters) Planned(files, bytes int64) {
	c.files.Store(files)
	c.bytes.Store(bytes)
	c.planned.Store(true) // last: whoever sees it sees the numbers
}

func (c *counters) Copied(bytes int64)   { c.bytesCopied.Add(bytes) }
func (c *counters) ReadBack(bytes int64) { c.bytesReadBack.Add(bytes) }
func (c *counters) FileDone()            { c.filesDone.Add(1) }

// snapshot is how far the operation is at one moment.
type snapshot struct {
	copies           bool // else it only reads back
	files, filesDone int64
	bytes            int64 // of the shard
	copied, readBack int64
	work, done       int64         // bytes to move: a copy writes and reads each
	rate             float64       // bytes of work per second
	left             time.Duration // negative: nobody knows
}

// snap reads the counters. A source that grows gets no more than 100 %.
func (c *counters) snap(m mode) snapshot {
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

// meter is the rate over the last while.
type meter struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

// measure adds a sample, and fills in the rate and the time left.
func (m *meter) measure(now time.Time, s *snapshot) {
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
	if left := float64(s.work-s.done) / s.rate; left < 1e6 { // neither Inf nor NaN is
		s.left = time.Duration(left * float64(time.Second))
	}
}

// progress is the one goroutine that draws.
type progress struct {
	counters counters
	mode     mode
	out      *output
	columns  func() int
	meter    meter
	last     time.Time // of the last plain line, or of the plan
}

// startProgress returns who listens to the operation, and what ends the showing.
func startProgress(h host, out *output, c command) (observer copier.Observer, stop func()) {
	shown := c.progress.resolve(h.columns())
	if shown == progressNone || c.mode == modeRemove || c.mode == modeList {
		return copier.Nobody{}, func() {}
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

// drawPlain logs a line when the time for one has come. Before there is a plan
// (waiting for the lock, walking) there is nothing to say.
func (p *progress) drawPlain(now time.Time) {
	if !p.counters.planned.Load() {
		return
	}
	s := p.counters.snap(p.mode)
	p.meter.measure(now, &s)
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
	if !p.counters.planned.Load() {
		return
	}
	s := p.counters.snap(p.mode)
	p.meter.measure(now, &s)
	p.out.setBar(barLine(s, p.columns()))
}

// plainLine says all there is to say.
func plainLine(s snapshot) string {
	bytes := fmt.Sprintf("%s of %s read back", humanize.Size(s.readBack), humanize.Size(s.bytes))
	if s.copies {
		bytes = fmt.Sprintf("%s of %s copied, %s read back", humanize.Size(s.copied), humanize.Size(s.bytes), humanize.Size(s.readBack))
	}
	return fmt.Sprintf("progress: %d%%, %s, %s, %s", percent(s.done, s.work), bytes, fileCount(s, " of "), speed(s))
}

// barLine fits a line of a terminal: files are left out where a bar would find no
// room beside them. Its bytes are those of the shard that the work done amounts to.
func barLine(s snapshot, columns int) string {
	bytes := s.done
	if s.copies {
		bytes /= 2
	}
	if columns <= 0 {
		columns = 80 // a bar was asked for, but there is no terminal to ask
	}
	columns-- // in the last column some terminals wrap
	moved := fmt.Sprintf("%s/%s, ", humanize.Size(bytes), humanize.Size(s.bytes))
	stats := moved + fileCount(s, "/") + ", " + speed(s)
	width := barWidth(columns, stats)
	if width < barMinimum {
		stats = moved + speed(s)
		width = barWidth(columns, stats)
	}
	line := fmt.Sprintf("%4d%% %s", percent(s.done, s.work), stats)
	if width >= barMinimum {
		line = renderBar(percent(s.done, s.work), width, stats)
	}
	return line[:min(len(line), columns)]
}

// A bar is no narrower than shows anything, and no wider than helps.
const barMinimum, barMaximum = 10, 40

func barWidth(columns int, stats string) int {
	room := (len(stats) + 7) &^ 7 // in steps, lest the bar jitters with the numbers
	return min(columns-len(" 100% [] ")-room, barMaximum)
}

// renderBar lets progressbar lay out one bar. It only renders: the numbers, the
// clock and the terminal stay with us, so that log lines never mix with it.
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

// fileCount is the files done and in all; a verification may not count them.
func fileCount(s snapshot, of string) string {
	if !s.copies && s.filesDone == 0 {
		return fmt.Sprintf("%d files", s.files)
	}
	return fmt.Sprintf("%d%s%d files", s.filesDone, of, s.files)
}

// speed is the rate, of writing and reading back together, and the time left.
func speed(s snapshot) string {
	left := span(s.left) + " left"
	switch {
	case s.done >= s.work:
		left = "finishing" // what is left is syncing, which has no measure
	case s.left < 0:
		left = "time left unknown"
	}
	return fmt.Sprintf("%s/s, %s", humanize.Size(int64(s.rate)), left)
}

// percent rounds down: 100 means all. Of nothing, all is done.
func percent(done, work int64) int {
	if done >= work {
		return 100
	}
	return int(float64(done) / float64(work) * 100)
}

// span is a time for people, such as 1h02m03s.
func span(d time.Duration) string {
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

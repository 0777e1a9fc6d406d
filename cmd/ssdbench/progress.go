package main

import (
	"fmt"
	"shard_to_ssd/internal/humanize"
	"sync"
	"sync/atomic"
	"time"
)

// redrawEvery is how often the line on a terminal is drawn.
const redrawEvery = 200 * time.Millisecond

// clearLine goes to the start of the line and erases it.
const clearLine = "\r\x1b[K"

// rateWindow is what a rate is of: long enough to be calm.
const rateWindow = 2 * time.Second

// progress shows how far a run is: a line that is redrawn on a terminal, otherwise a
// line for each step. It is a bench.Progress.
type progress struct {
	host host
	quit chan struct{}
	done chan struct{}

	bytes atomic.Int64

	mu          sync.Mutex
	step, steps int
	what, next  string
	left        time.Duration // below 0: nobody knows
	samples     []moved       // of the last while
}

// moved is how many bytes had been moved at a time.
type moved struct {
	at    time.Time
	bytes int64
}

func startProgress(h host) *progress {
	p := &progress{host: h, left: -1, quit: make(chan struct{}), done: make(chan struct{})}
	if h.columns == 0 {
		close(p.done)
		return p
	}
	go p.redraw()
	return p
}

// stop ends the showing.
func (p *progress) stop() {
	close(p.quit)
	<-p.done
}

// say says something beside the line that is redrawn.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.host.columns > 0 {
		fmt.Fprint(p.host.stderr, clearLine) //nolint:errcheck // nobody has to read it
	}
	p.host.say(format, args...)
}

// Begin shows the next step.
func (p *progress) Begin(step, steps int, what, next string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.steps, p.what, p.next = step, steps, what, next
	if p.host.columns == 0 {
		p.host.say("%d of %d: %s%s", step, steps, what, leftText(p.left))
	}
}

// Moved counts.
func (p *progress) Moved(bytes int64) { p.bytes.Add(bytes) }

// Rest is told how long all will take.
func (p *progress) Rest(left time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = left
}

func (p *progress) redraw() {
	defer close(p.done)
	ticker := time.NewTicker(redrawEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			fmt.Fprint(p.host.stderr, clearLine, p.line(now)) //nolint:errcheck // nobody has to read it
		case <-p.quit:
			fmt.Fprint(p.host.stderr, clearLine) //nolint:errcheck // as above
			return
		}
	}
}

// line is what fits a line of the terminal.
func (p *progress) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.steps == 0 {
		return ""
	}
	p.samples = append(p.samples, moved{now, p.bytes.Load()})
	for len(p.samples) > 2 && now.Sub(p.samples[1].at) >= rateWindow {
		p.samples = p.samples[1:]
	}
	line := fmt.Sprintf("[%d/%d] %s%s: %s", p.step, p.steps, rateText(p.samples), leftText(p.left), p.what)
	if p.next != "" {
		line += "; next: " + p.next
	}
	text := []rune(line)
	return string(text[:min(len(text), max(p.host.columns-1, 1))])
}

func rateText(samples []moved) string {
	first, last := samples[0], samples[len(samples)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 {
		return "…"
	}
	return humanize.Size(int64(float64(last.bytes-first.bytes)/seconds)) + "/s"
}

func leftText(left time.Duration) string {
	if left < 0 {
		return ""
	}
	return fmt.Sprintf(", about %v left", left.Round(time.Second))
}

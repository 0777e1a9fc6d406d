package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"shard_to_ssd/internal/humanize"
)

// redrawEvery is the interval at which the progress line of a terminal is drawn.
const redrawEvery = 200 * time.Millisecond

// clearLine moves to the start of the line and erases it.
const clearLine = "\r\x1b[K"

// rateWindow is the time over which the rate is measured. A shorter time makes it jump.
const rateWindow = 2 * time.Second

// progress shows the progress of a run. On a terminal it redraws one line, otherwise it
// prints a line for each step. It implements bench.Progress.
type progress struct {
	host host
	quit chan struct{}
	done chan struct{}

	bytes atomic.Int64

	mu          sync.Mutex
	step, steps int
	what, next  string
	left        time.Duration // negative: unknown
	samples     []moved       // within the rate window
}

// moved is the number of bytes that had been moved at a time.
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
	go p.redrawLoop()
	return p
}

// stop ends the progress line.
func (p *progress) stop() {
	close(p.quit)
	<-p.done
}

// printMessage prints a message above the progress line.
func (p *progress) printMessage(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.host.columns > 0 {
		_, _ = fmt.Fprint(p.host.stderr, clearLine)
	}
	p.host.printMessage(format, args...)
}

// BeginStep shows the step.
func (p *progress) BeginStep(step, steps int, what, next string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.steps, p.what, p.next = step, steps, what, next
	if p.host.columns == 0 {
		p.host.printMessage("%d of %d: %s%s", step, steps, what, leftText(p.left))
	}
}

// BytesMoved counts bytes.
func (p *progress) BytesMoved(bytes int64) { p.bytes.Add(bytes) }

// TimeLeft sets the estimated time until the end of the run.
func (p *progress) TimeLeft(left time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = left
}

func (p *progress) redrawLoop() {
	defer close(p.done)
	ticker := time.NewTicker(redrawEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			_, _ = fmt.Fprint(p.host.stderr, clearLine, p.statusLine(now))
		case <-p.quit:
			_, _ = fmt.Fprint(p.host.stderr, clearLine)
			return
		}
	}
}

// statusLine returns the progress line, cut to the width of the terminal.
func (p *progress) statusLine(now time.Time) string {
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

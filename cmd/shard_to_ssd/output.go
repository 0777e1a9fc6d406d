// The form of messages: one line on standard error, LEVEL:logger:message, as the
// older script wrote them. LEVEL is INFO, WARNING or ERROR; the logger is
// shard_to_ssd for the lock, root for everything else. Control characters and
// bytes that are not UTF-8 are escaped as in a Go string, so a message stays one
// line. A usage error adds the usage line and a hint. A progress bar is always the
// last line; messages are written above it.
//
// Nothing else in this program writes to standard error. The texts wait in a queue,
// and one goroutine writes them: a stopped reader stops neither the work nor a signal.
// If the queue is full, lines are lost. When the reader continues, a line says how
// many.

package main

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/humanize"
)

// clearLine moves the cursor to the start of the line and erases the line.
const clearLine = "\r\x1b[K"

// queueLimit is the size of the queue in bytes. A day of messages is smaller.
const queueLimit = 1 << 20

// stallLimit is how long the program waits for a stopped reader: before it writes to
// standard output, and before it exits.
const stallLimit = time.Second

// output writes to standard error. It is safe for concurrent use, and no call waits
// for the reader, except the methods that say so. It ignores a failed write: a copy does
// not depend on the reader of its log.
type output struct {
	stderr io.Writer

	mutex   sync.Mutex
	changed *sync.Cond // a text was written, or a time limit is over
	bar     string     // the last line of the terminal after all queued texts
	queue   []queuedText
	bytes   int       // in the queue
	lost    int       // lines since the queue was full
	writing bool      // a goroutine writes the queue
	began   time.Time // of the current write
}

// queuedText is one write.
type queuedText struct {
	text  string
	isBar bool // the next bar may replace it
}

func newOutput(stderr io.Writer) *output {
	o := &output{stderr: stderr}
	o.changed = sync.NewCond(&o.mutex)
	return o
}

// Log writes one message. It implements shardtossd.Logger.
func (o *output) Log(level shardtossd.Level, subsystem, message string) {
	o.printLines(formatMessage(level, subsystem, message))
}

func formatMessage(level shardtossd.Level, subsystem, message string) string {
	return oneLine(string(level)+":"+subsystem+":"+message) + "\n"
}

// usageError logs the mistake in the command line, the usage line and a hint.
func (o *output) usageError(err error) {
	o.Log(shardtossd.Error, "root", err.Error())
	o.printLines(usageLine + "\nsee --help\n")
}

// printLines queues whole lines. After a loss, the queue must become empty before it
// takes lines again, so that a slow reader gets long parts of the log.
func (o *output) printLines(lines string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	text := o.aboveBar(lines)
	if o.lost > 0 || len(o.queue) > 0 && o.bytes+len(text) > queueLimit {
		o.lost += strings.Count(lines, "\n")
		return
	}
	o.enqueue(queuedText{text: text})
}

// aboveBar returns the text that writes lines above the bar. It is one write, so that
// the lines of several processes in one log do not mix.
func (o *output) aboveBar(lines string) string {
	if o.bar == "" {
		return lines
	}
	return clearLine + lines + o.bar
}

// setBar draws the bar; "" removes it. A bar is never lost, but it replaces the
// previous one if that is last in the queue.
func (o *output) setBar(bar string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if bar == o.bar {
		return
	}
	o.bar = bar
	if last := len(o.queue) - 1; last >= 0 && o.queue[last].isBar {
		o.bytes -= len(o.queue[last].text)
		o.queue = o.queue[:last]
	}
	o.enqueue(queuedText{clearLine + bar, true})
}

// enqueue adds a text. The goroutine that writes it ends when the queue is empty.
func (o *output) enqueue(t queuedText) {
	o.queue = append(o.queue, t)
	o.bytes += len(t.text)
	if !o.writing {
		o.writing, o.began = true, time.Now()
		go o.writeQueue()
	}
}

// writeQueue writes until the queue is empty.
func (o *output) writeQueue() {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	for o.reportLost(); len(o.queue) > 0; o.reportLost() {
		next := o.queue[0]
		o.queue = o.queue[1:]
		o.bytes -= len(next.text)
		o.began = time.Now()
		o.mutex.Unlock()
		_, _ = io.WriteString(o.stderr, next.text)
		o.mutex.Lock()
	}
	o.writing = false
	o.changed.Broadcast()
}

// reportLost queues the number of lost lines in their place, which is after all
// queued texts.
func (o *output) reportLost() {
	if o.lost == 0 || len(o.queue) > 0 {
		return
	}
	message := humanize.Count(int64(o.lost), "line") + " lost here: the reader of standard error was too slow"
	o.lost = 0
	o.enqueue(queuedText{text: o.aboveBar(formatMessage(shardtossd.Warning, "root", message))})
}

// waitBeforeStdout waits until the queue is written, so that a terminal or a log that
// gets both outputs has them in order. It does not wait for a reader that has been
// stopped for stallLimit already: otherwise each result would wait again.
func (o *output) waitBeforeStdout() {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.waitUntil(o.began.Add(stallLimit))
}

// waitBeforeExit waits until the queue is written, at most for stallLimit.
func (o *output) waitBeforeExit() {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.waitUntil(time.Now().Add(stallLimit))
}

// waitUntil waits until the queue is written, or until the deadline.
func (o *output) waitUntil(deadline time.Time) {
	if !o.writing {
		return
	}
	timer := time.AfterFunc(time.Until(deadline), func() {
		o.mutex.Lock() // the waiter is in Wait then
		defer o.mutex.Unlock()
		o.changed.Broadcast()
	})
	defer timer.Stop()
	for o.writing && time.Now().Before(deadline) {
		o.changed.Wait()
	}
}

// oneLine makes text printable in one line. Quotes and backslashes stay as they
// are, so printable text is unchanged.
func oneLine(text string) string {
	var line strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if strconv.IsGraphic(r) && (r != utf8.RuneError || size > 1) {
			line.WriteRune(r)
		} else {
			quoted := strconv.Quote(text[:size])
			line.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return line.String()
}

// The form of messages: one line on standard error, LEVEL:logger:message, as the
// older script wrote them. LEVEL is INFO, WARNING or ERROR; the logger is
// shard_to_ssd for the lock, root for everything else. Control characters and
// bytes that are not UTF-8 are escaped as in a Go string, so a message stays one
// line. A usage error adds the usage line and a hint. A progress bar is always the
// last line; messages are written above it.
//
// Nothing else in this program writes to standard error.

package main

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	shardtossd "shard_to_ssd"
)

// clearLine moves the cursor to the start of the line and erases the line.
const clearLine = "\r\x1b[K"

// output writes to standard error. It is safe for concurrent use. It ignores a
// failed write: a copy does not depend on the reader of its log.
type output struct {
	mutex  sync.Mutex
	stderr io.Writer
	bar    string // the last line of the terminal
}

// Log writes one message. It implements shardtossd.Logger.
func (o *output) Log(level shardtossd.Level, subsystem, message string) {
	o.printLines(oneLine(string(level)+":"+subsystem+":"+message) + "\n")
}

// usageError logs the mistake in the command line, the usage line and a hint.
func (o *output) usageError(err error) {
	o.Log(shardtossd.Error, "root", err.Error())
	o.printLines(usageLine + "\nsee --help\n")
}

// printLines writes whole lines above the bar. It uses one write, so that the lines
// of several processes in one log do not mix.
func (o *output) printLines(lines string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.bar != "" {
		lines = clearLine + lines + o.bar
	}
	_, _ = io.WriteString(o.stderr, lines)
}

// setBar draws the bar; "" removes it.
func (o *output) setBar(bar string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if bar == o.bar {
		return
	}
	o.bar = bar
	_, _ = io.WriteString(o.stderr, clearLine+bar)
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

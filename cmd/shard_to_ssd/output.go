// How every message looks: one line on standard error, LEVEL:logger:message, as
// the older script's did. LEVEL is INFO, WARNING or ERROR; the logger is
// shard_to_ssd for the lock, root for everything else. What would break the line
// (control characters, bytes that are not UTF-8) is printed as in a Go string.
// A usage error adds the usage line and a hint. While a bar is shown it is the
// last line, and messages are put above it.
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

// clearLine goes to the start of the line and erases it.
const clearLine = "\r\x1b[K"

// output writes to standard error. It may be used by many goroutines at once. A
// write that fails is ignored: a copy does not depend on who watches it.
type output struct {
	mutex  sync.Mutex
	stderr io.Writer
	bar    string // what stands on the last line of the terminal
}

// Log writes one message. It implements shardtossd.Logger.
func (o *output) Log(level shardtossd.Level, subsystem, message string) {
	o.print(oneLine(string(level)+":"+subsystem+":"+message) + "\n")
}

// usage says what is wrong with the command line, and what would be right.
func (o *output) usage(err error) {
	o.Log(shardtossd.Error, "root", err.Error())
	o.print(usageLine + "\nsee --help\n")
}

// print writes whole lines above the bar, in one write so that the lines of
// several processes on one log stay apart.
func (o *output) print(lines string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.bar != "" {
		lines = clearLine + lines + o.bar
	}
	_, _ = io.WriteString(o.stderr, lines)
}

// setBar draws the bar, or with "" takes it away.
func (o *output) setBar(bar string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if bar == o.bar {
		return
	}
	o.bar = bar
	_, _ = io.WriteString(o.stderr, clearLine+bar)
}

// oneLine makes text printable in one line. It leaves quotes and backslashes
// alone, so text that is printable already comes out letter for letter.
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

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// The text of --help is at most as wide as a terminal of 80 columns. The
// explanations begin in one column; a longer heading has a line of its own.
const (
	helpWidth  = 79
	helpColumn = 24
)

// help returns the text of --help.
func help() string {
	var text strings.Builder
	text.WriteString(usageModes + "\n                    " + usageRest + "\n")
	for _, paragraph := range description() {
		text.WriteString("\n" + strings.Join(wrapWords(paragraph, helpWidth), "\n") + "\n")
	}
	text.WriteString("\nModes (exactly one is needed):\n")
	for _, row := range modeTable() {
		text.WriteString(helpEntry(row.short, row.heading(), row.explanation, ""))
	}
	text.WriteString("\nFlags:\n")
	for _, row := range flagTable() {
		text.WriteString(helpEntry(row.short, row.heading(), row.explanation, row.notes()))
	}
	text.WriteString("\nEnvironment:\n")
	for _, row := range flagTable() {
		if row.environment != "" {
			fmt.Fprintf(&text, "  %-21s used without --%s, if not empty\n", row.environment, row.long)
		}
	}
	text.WriteString("\nExit status:\n")
	for _, row := range statusTable() {
		fmt.Fprintf(&text, "  %-6s %s\n", row.status, row.meaning)
	}
	text.WriteString("\nExamples:\n")
	for _, example := range exampleTable() {
		text.WriteString("  " + example.text + "\n")
	}
	return text.String()
}

// helpEntry lays out a heading, its explanation, and the notes in parentheses. A
// flag without a letter is indented, so that the long names stand in one column.
func helpEntry(short, heading, explanation, notes string) string {
	if short == "" {
		heading = "    " + heading
	}
	heading = "  " + heading
	lines := wrapWords(explanation, helpWidth-helpColumn)
	if notes != "" {
		lines = append(lines, wrapWords("("+notes+")", helpWidth-helpColumn)...)
	}
	if len(heading)+2 <= helpColumn {
		lines[0] = heading + strings.Repeat(" ", helpColumn-len(heading)) + lines[0]
	} else {
		lines = append([]string{heading}, lines...)
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", helpColumn)) + "\n"
}

// wrapWords breaks text into lines of at most width bytes.
func wrapWords(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// version is set with -ldflags "-X main.version=...".
var version string

// versionLine returns the line of --version.
func versionLine() string {
	return fmt.Sprintf("shard_to_ssd %s (%s, %s/%s)", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// programVersion returns the version for --version and for manifests.
func programVersion() string {
	known := version
	if info, ok := debug.ReadBuildInfo(); ok && known == "" {
		known = info.Main.Version // of `go install module@version`, or of the checkout
	}
	return firstOf(known, "(devel)")
}

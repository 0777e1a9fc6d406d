// Command ssdbench measures how fast an SSD takes shards, with the copy engine of
// shard_to_ssd.
//
//  1. flags.go reads the command line. A wrong one gives a message of one line and status 2.
//     The subcommands are in run.go, report.go and list.go.
//  2. Package process turns SIGINT, SIGTERM and SIGHUP into the end of a context.
//  3. progress.go shows the progress of a run on standard error.
//  4. Package bench measures.
//  5. The result goes to a file or to standard output. status.go selects the exit status.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"shard_to_ssd/internal/process"
)

func main() {
	os.Exit(process.Run(func() int {
		return runProgram(os.Args, host{os.Stdout, os.Stderr, process.TerminalColumns(os.Stderr)})
	}))
}

// host is the environment of the program, so that a test can replace it.
type host struct {
	stdout, stderr io.Writer
	columns        int // width of the terminal on standard error; 0: not a terminal
}

// printMessage writes a line to standard error.
func (h host) printMessage(format string, args ...any) {
	start := ""
	if h.columns > 0 { // the line may show progress
		start = clearLine
	}
	_, _ = fmt.Fprintf(h.stderr, start+"ssdbench: "+format+"\n", args...)
}

// command is a subcommand. line is the complete command line, args are the arguments
// after the name.
type command struct {
	name    string
	summary string // in one line
	run     func(h host, line, args []string) error
}

func commandTable() []command {
	return []command{
		{"run", "measure a directory on an SSD", runCommand},
		{"report", "make an HTML page of one to four results", reportCommand},
		{"compare", "compare a result with an older one, and test the differences", compareCommand},
		{"list", "list workloads, engines and profiles", listCommand},
	}
}

// runProgram runs the command line and returns the exit status.
func runProgram(line []string, h host) int {
	args := line[1:]
	if len(args) == 0 {
		return h.reportError(&usageError{"a command is missing: ssdbench --help lists all"})
	}
	switch args[0] {
	case "-h", "--help", "help":
		return h.printText(helpText())
	case "--version":
		return h.printText("ssdbench " + programVersion() + "\n")
	}
	for _, c := range commandTable() {
		if c.name == args[0] {
			return h.reportError(c.run(h, line, args[1:]))
		}
	}
	return h.reportError(&usageError{fmt.Sprintf("unknown command %q: ssdbench --help lists all", args[0])})
}

// reportError prints an error, if there is one, and returns the exit status.
func (h host) reportError(err error) int {
	if err != nil {
		h.printMessage("%v", err)
	}
	return exitStatus(err)
}

func (h host) printText(text string) int {
	_, err := io.WriteString(h.stdout, text)
	return h.reportError(err)
}

// version is set with -ldflags "-X main.version=...".
var version string

// programVersion returns the version for the result.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

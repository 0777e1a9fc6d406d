// Command ssdbench says how fast an SSD takes shards, with the copy engine that
// shard_to_ssd uses.
//
//  1. flags.go reads the command line; what is wrong with it is said in one line,
//     status 2. The subcommands are in run.go, report.go, list.go.
//  2. Package process turns SIGINT, SIGTERM and SIGHUP into the end of a context.
//  3. progress.go shows how far a run is, on standard error.
//  4. Package bench does the work.
//  5. The result goes to a file, or to standard output; status.go finds the exit status.
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
		return run(os.Args, host{os.Stdout, os.Stderr, process.TerminalColumns(os.Stderr)})
	}))
}

// host is what run needs of the world around it, so that a test can be one.
type host struct {
	stdout, stderr io.Writer
	columns        int // width of the terminal on standard error, 0: it is none
}

// say writes a line for people.
func (h host) say(format string, args ...any) {
	start := ""
	if h.columns > 0 { // a line of progress may stand there
		start = clearLine
	}
	fmt.Fprintf(h.stderr, start+"ssdbench: "+format+"\n", args...) //nolint:errcheck // a measurement does not depend on who reads
}

// command is one of the subcommands; args are those after its name, line the whole.
type command struct {
	name string
	is   string // what it does, a line
	run  func(h host, line, args []string) error
}

func commands() []command {
	return []command{
		{"run", "measure a directory on an SSD", runCommand},
		{"report", "one page of one to four results, which opens from disk", reportCommand},
		{"compare", "how a result differs from an older one, and how sure that is", compareCommand},
		{"list", "workloads, engines and profiles, each with what it is for", listCommand},
	}
}

// run is the program without its process: it returns the exit status.
func run(line []string, h host) int {
	args := line[1:]
	if len(args) == 0 {
		return h.end(&usageError{"a command is missing: run --help shows them"})
	}
	switch args[0] {
	case "-h", "--help", "help":
		return h.print(help())
	case "--version":
		return h.print("ssdbench " + programVersion() + "\n")
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return h.end(c.run(h, line, args[1:]))
		}
	}
	return h.end(&usageError{fmt.Sprintf("unknown command %q: run --help shows all", args[0])})
}

// end says what went wrong, and returns the exit status.
func (h host) end(err error) int {
	if err != nil {
		h.say("%v", err)
	}
	return exitStatus(err)
}

func (h host) print(text string) int {
	_, err := io.WriteString(h.stdout, text)
	return h.end(err)
}

// version is set with -ldflags "-X main.version=...".
var version string

// programVersion is what a result records.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

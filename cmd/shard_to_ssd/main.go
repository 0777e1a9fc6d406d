// Command shard_to_ssd makes shards available on the SSD of this host.
//
//  1. flags.go reads the command line into Options. A mistake in it is one line
//     and status 2.
//  2. Package process turns SIGINT, SIGTERM and SIGHUP into the end of a context.
//  3. progress.go observes the operation and shows its progress.
//  4. The root package does the work.
//  5. list.go or json.go writes the result to standard output; output.go writes
//     everything else to standard error; status.go chooses the exit status.
//
// A message that cannot be written to standard error is lost, and the work goes on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/process"
)

func main() { os.Exit(runHere(operations())) }

// runHere runs the program in this process: its arguments, environment and files.
func runHere(operations map[mode]operation) int {
	return process.Run(func() int {
		return run(os.Args[1:], host{
			getenv:     os.Getenv,
			stdout:     os.Stdout,
			stderr:     os.Stderr,
			columns:    func() int { return process.TerminalColumns(os.Stderr) },
			operations: operations,
			prepare:    setProcessors,
		})
	})
}

// host is the environment of run. A test provides its own.
type host struct {
	getenv     func(string) string
	stdout     io.Writer
	stderr     io.Writer
	columns    func() int // width of the terminal on standard error; 0: not a terminal
	operations map[mode]operation
	prepare    func(settings) // sets the process up for an operation; nil: nothing to set
}

// setProcessors gives each worker a processor of Go's own. Workers are in system calls
// most of the time, and it takes Go's scheduler 20 µs and more to notice that and run
// another goroutine: with two CPUs and GOMAXPROCS 2, a copy of small files took half as
// long again.
func setProcessors(s settings) {
	jobs := s.Jobs
	if jobs == 0 {
		jobs = shardtossd.MaxDefaultJobs
	}
	runtime.GOMAXPROCS(max(jobs, runtime.GOMAXPROCS(0)))
}

// run is the program without its process. It returns the exit status.
func run(args []string, h host) int {
	out := &output{stderr: h.stderr}
	c, err := parse(args, h.getenv)
	switch {
	case err != nil:
		out.usageError(err)
		return report(h, out, c, nil, err, nil)
	case c.help:
		return write(h, out, help())
	case c.version:
		return write(h, out, versionLine()+"\n")
	}
	result, err, cause := perform(h, out, c)
	if err != nil {
		err = withCause(err, cause)
		out.Log(shardtossd.Error, "root", err.Error())
	}
	return report(h, out, c, result, err, cause)
}

// perform runs the operation. The cause is not nil if a signal arrived meanwhile,
// even if the operation was completed.
func perform(h host, out *output, c command) (result *jsonResult, err, cause error) {
	ctx, stopSignals := process.NotifyContext(func(why *process.Interrupted) {
		out.Log(shardtossd.Warning, "root", why.Error()+", stopping; a second signal kills at once")
	})
	observer, stopProgress := startProgress(h, out, c)
	o := c.settings
	o.Log, o.Observer, o.Stdin = out, observer, os.Stdin
	o.OnShard = func(r *jsonResult, err error) { reportShard(ctx, h, out, c, r, err) }
	if h.prepare != nil {
		h.prepare(o)
	}
	result, err = h.operations[c.mode](ctx, o)
	stopProgress()
	stopSignals()
	cause = process.Interruption(ctx)
	if err == nil && cause != nil {
		out.Log(shardtossd.Warning, "root", cause.Error()+" too late: the operation is complete")
	}
	return result, err, cause
}

// withCause names the signal in an error that only says "canceled".
func withCause(err, cause error) error {
	if cause == nil || errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, cause)
}

// report writes the result to standard output and returns the exit status.
func report(h host, out *output, c command, result *jsonResult, err, cause error) int {
	status := exitStatus(err, cause)
	text := ""
	switch {
	case c.json:
		text = jsonText(c, result, status, err)
	case result != nil && c.mode == modeList:
		text = listText(result.Shards)
	case result != nil && c.mode == modeRepair:
		text = repairsText(result.Repairs, result.RepairCount)
		if err != nil {
			text += differencesText("", result.Differences, result.DifferenceCount)
		}
	case result != nil && (c.mode == modeVerify || c.mode == modeAdopt):
		text = differencesText("", result.Differences, result.DifferenceCount)
	}
	if text == "" {
		return status
	}
	return max(status, write(h, out, text))
}

// reportShard reports one of many shards: its JSON object on a line, or its
// differences.
func reportShard(ctx context.Context, h host, out *output, c command, result *jsonResult, err error) {
	text := differencesText(result.Shard+"/", result.Differences, result.DifferenceCount)
	if c.json {
		text = jsonText(c, result, exitStatus(err, process.Interruption(ctx)), err)
	}
	if text != "" {
		write(h, out, text)
	}
}

// write writes text to standard output. The caller waits for it, so a failure is
// an error and a status.
func write(h host, out *output, text string) int {
	if _, err := io.WriteString(h.stdout, text); err != nil {
		out.Log(shardtossd.Error, "root", fmt.Sprintf("write to standard output: %v", err))
		return statusFailed
	}
	return statusDone
}

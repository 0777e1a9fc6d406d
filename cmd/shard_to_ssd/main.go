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
// A message that cannot be written to standard error is lost, and the work goes on. It
// does not wait for the reader of standard error either.
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
	p := program{host: h, out: newOutput(h.stderr)}
	defer p.out.waitBeforeExit()
	var err error
	p.command, err = parse(args, h.getenv)
	switch {
	case err != nil:
		p.out.usageError(err)
		return p.report(nil, err, nil)
	case p.help:
		return p.write(help())
	case p.version:
		return p.write(versionLine() + "\n")
	}
	result, err, cause := p.perform()
	if err != nil {
		err = withCause(err, cause)
		p.out.Log(shardtossd.Error, "root", err.Error())
	}
	return p.report(result, err, cause)
}

// program is one run of the program.
type program struct {
	host
	command
	out *output
}

// perform runs the operation. The cause is not nil if a signal arrived meanwhile,
// even if the operation was completed.
func (p *program) perform() (result *jsonResult, err, cause error) {
	ctx, stopSignals := process.NotifyContext(func(why *process.Interrupted) {
		p.out.Log(shardtossd.Warning, "root", why.Error()+", stopping; a second signal kills at once")
	})
	observer, stopProgress := startProgress(p.host, p.out, p.command)
	s := p.settings
	s.Log, s.Observer, s.Stdin = p.out, observer, os.Stdin
	s.OnShard = func(r *jsonResult, err error) { p.reportShard(ctx, r, err) }
	if p.prepare != nil {
		p.prepare(s)
	}
	result, err = p.operations[p.mode](ctx, s)
	stopProgress()
	stopSignals()
	cause = process.Interruption(ctx)
	if err == nil && cause != nil {
		p.out.Log(shardtossd.Warning, "root", cause.Error()+" too late: the operation is complete")
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
func (p *program) report(result *jsonResult, err, cause error) int {
	status := exitStatus(err, cause)
	text := ""
	switch {
	case p.json:
		text = jsonText(p.command, result, status, err)
	case result != nil && p.mode == modeList:
		text = listText(result.Shards)
	case result != nil && p.mode == modeRepair:
		text = repairsText(result.Repairs, result.RepairCount)
		if err != nil {
			text += differencesText("", result.Differences, result.DifferenceCount)
		}
	case result != nil && (p.mode == modeVerify || p.mode == modeAdopt):
		text = differencesText("", result.Differences, result.DifferenceCount)
	}
	if text == "" {
		return status
	}
	return max(status, p.write(text))
}

// reportShard reports one of many shards: its JSON object on a line, or its
// differences.
func (p *program) reportShard(ctx context.Context, result *jsonResult, err error) {
	text := differencesText(result.Shard+"/", result.Differences, result.DifferenceCount)
	if p.json {
		text = jsonText(p.command, result, exitStatus(err, process.Interruption(ctx)), err)
	}
	if text != "" {
		p.write(text)
	}
}

// write writes text to standard output. The caller waits for it, so a failure is
// an error and a status.
func (p *program) write(text string) int {
	p.out.waitBeforeStdout()
	if _, err := io.WriteString(p.stdout, text); err != nil {
		p.out.Log(shardtossd.Error, "root", fmt.Sprintf("write to standard output: %v", err))
		return statusFailed
	}
	return statusDone
}

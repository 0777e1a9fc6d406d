package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/facts"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/process"
)

// runCommand measures, and writes what came out.
func runCommand(h host, line, args []string) error {
	f, err := parseRun(args)
	if errors.Is(err, errHelp) {
		_, err := h.stdout.Write([]byte(help()))
		return err
	}
	if err != nil {
		return err
	}
	if err := f.checkOutput(); err != nil {
		return err
	}
	p := startProgress(h)
	ctx, stop := process.NotifyContext(func(why *process.Interrupted) {
		p.say("%v, cleaning up; a second signal kills at once and leaves its directory", why)
	})
	f.config.Version, f.config.Command, f.config.Progress = programVersion(), line, p
	f.config.Watch, f.config.SameDrive = facts.Watch, facts.SameDrive
	f.config.Tell = func(c bench.Cost) {
		h.say("this will write %s to %s in all, at most %s of them at once; %s are free, of which %s stay free",
			humanize.Size(c.Writes), f.config.Target, humanize.Size(c.Peak), humanize.Size(c.Free), humanize.Size(c.Keeps))
	}
	f.config.Warn = func(warning string) { p.say("warning: %s", warning) }
	result, err := bench.Run(ctx, f.config)
	p.stop()
	stop()
	cost := new(bench.CostError)
	if errors.As(err, &cost) {
		return fmt.Errorf("%w: --yes does", err)
	}
	return errs.Join(withSignal(ctx, err), f.write(h, result))
}

// withSignal names the signal that ended ctx in an error that does not.
func withSignal(ctx context.Context, err error) error {
	why := process.Interruption(ctx)
	if err == nil || why == nil || errors.Is(err, why) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, why)
}

// checkOutput finds out now what would be a pity to find out at the end.
func (f *runFlags) checkOutput() error {
	if f.output == "" {
		return nil
	}
	if err := bench.NoDrive(f.output); err != nil {
		return fmt.Errorf("write result %s: %w", f.output, err)
	}
	is, err := os.Lstat(f.output)
	if to, err := os.Stat(f.output); err == nil && to.IsDir() {
		return fmt.Errorf("write result %s: it is a directory", f.output)
	}
	switch {
	case err == nil && !is.Mode().IsRegular(): // is written to
		err = unix.Access(f.output, unix.W_OK)
	default: // is put in the place of what is there
		err = unix.Access(filepath.Dir(f.output), unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return fmt.Errorf("write result %s: %w", f.output, err)
	}
	return nil
}

// write writes what was measured, also of a run that did not come to its end.
func (f *runFlags) write(h host, r *bench.Result) error {
	if r == nil || r.Empty() {
		return nil
	}
	var text bytes.Buffer
	if err := f.encode(&text, r); err != nil {
		return err
	}
	var failed error
	if f.output != "" {
		if !r.Complete && holdsSomething(f.output) {
			h.say("the run was ended early: its result is %s%s, beside that of another", f.output, partial)
			f.output += partial
		}
		if failed = bench.WriteWhole(f.output, text.Bytes()); failed == nil {
			return nil
		}
		failed = fmt.Errorf("write result %s: %w; it is on standard output instead", f.output, failed)
	}
	_, err := h.stdout.Write(text.Bytes())
	return errs.Join(failed, err)
}

// partial ends the name of a result that is not to replace another.
const partial = ".partial"

func holdsSomething(path string) bool {
	is, err := os.Stat(path)
	return err == nil && is.Mode().IsRegular() && is.Size() > 0
}

func (f *runFlags) encode(to *bytes.Buffer, r *bench.Result) error {
	if f.format == formatBench {
		return bench.WriteGoBench(to, r)
	}
	return bench.Encode(to, r)
}

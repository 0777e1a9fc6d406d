package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/facts"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/process"
)

// runCommand measures a drive and writes the result.
func runCommand(h host, line, args []string) error {
	f, err := parseRun(args)
	if errors.Is(err, errHelp) {
		_, err := h.stdout.Write([]byte(helpText()))
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
		p.printMessage("%v, cleaning up; a second signal ends the program at once and leaves its directory", why)
	})
	f.config.Version, f.config.Command, f.config.Progress = programVersion(), line, p
	f.config.SameDrive = facts.SameDrive
	f.config.WatchFacts = func(target string) (func() bench.Facts, error) {
		return facts.Watch(target, facts.Options{HideSerial: f.hideSerial})
	}
	f.config.SetProcessors = func(n int) { runtime.GOMAXPROCS(n) }
	f.config.OnCost = func(c bench.Cost) {
		h.printMessage("this run will write %s to %s in total and occupy at most %s at a time; %s are free, and %s stay free",
			humanize.Size(c.Writes), f.config.Target, humanize.Size(c.Peak), humanize.Size(c.Free), humanize.Size(c.Reserve))
	}
	f.config.OnWarning = func(warning string) { p.printMessage("warning: %s", warning) }
	result, err := bench.Run(ctx, f.config)
	p.stop()
	stop()
	cost := new(bench.CostError)
	if errors.As(err, &cost) {
		return fmt.Errorf("%w: choose a smaller --size or --share, or allow it with --yes", err)
	}
	return errs.Join(withSignal(ctx, err), f.writeResult(h, result))
}

// withSignal adds the signal that ended ctx to an error that does not name it.
func withSignal(ctx context.Context, err error) error {
	why := process.Interruption(ctx)
	if err == nil || why == nil || errors.Is(err, why) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, why)
}

// checkOutput checks before the run that the result can be written after it.
func (f *runFlags) checkOutput() error {
	if f.output == "" {
		return nil
	}
	if err := bench.RefuseBlockDevice(f.output); err != nil {
		return fmt.Errorf("write result %s: %w", f.output, err)
	}
	info, err := os.Lstat(f.output)
	if to, err := os.Stat(f.output); err == nil && to.IsDir() {
		return fmt.Errorf("write result %s: it is a directory: name a file", f.output)
	}
	switch {
	case err == nil && !info.Mode().IsRegular(): // the result is written into it
		err = unix.Access(f.output, unix.W_OK)
	default: // the result replaces it
		err = unix.Access(filepath.Dir(f.output), unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return fmt.Errorf("write result %s: %w", f.output, err)
	}
	return nil
}

// writeResult writes the result, even that of a run that ended early. If the file cannot
// be written, it writes to standard output.
func (f *runFlags) writeResult(h host, r *bench.Result) error {
	if r == nil || r.IsEmpty() {
		return nil
	}
	var text bytes.Buffer
	if err := f.encodeResult(&text, r); err != nil {
		return err
	}
	if f.output == "" {
		_, err := h.stdout.Write(text.Bytes())
		return err
	}
	if !r.Complete && isNonEmptyFile(f.output) {
		h.printMessage("the run ended early: its result is in %s%s, and the older result stays", f.output, partialSuffix)
		f.output += partialSuffix
	}
	failed := bench.WriteAtomic(f.output, text.Bytes())
	if failed == nil {
		return nil
	}
	failed = fmt.Errorf("write result %s: %w; the result is on standard output instead", f.output, failed)
	_, err := h.stdout.Write(text.Bytes())
	return errs.Join(failed, err)
}

// partialSuffix ends the name of a result that must not replace a complete one.
const partialSuffix = ".partial"

func isNonEmptyFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

func (f *runFlags) encodeResult(to *bytes.Buffer, r *bench.Result) error {
	if f.format == formatBench {
		return bench.WriteGoBench(to, r)
	}
	return bench.Encode(to, r)
}

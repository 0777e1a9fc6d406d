package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"shard_to_ssd/bench"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
)

// usageError reports a wrong command line.
type usageError struct{ message string }

func (e *usageError) Error() string        { return e.message }
func (e *usageError) Is(target error) bool { return target == bench.ErrUsage }

// errHelp means that the user asked for help.
var errHelp = pflag.ErrHelp

// runFlags are the flags of run.
type runFlags struct {
	config bench.Config
	output string
	format format

	hideSerial bool
}

// parseRun reads the flags of run.
func parseRun(args []string) (*runFlags, error) {
	f := &runFlags{format: formatJSON, config: bench.Config{Profile: bench.Quick}}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	c := &f.config
	flags.StringVar(&c.Target, "target", "", "")
	flags.StringVar(&c.Source, "source", "", "")
	flags.StringVar((*string)(&c.Profile), "profile", string(c.Profile), "")
	flags.Var((*size)(&c.Size), "size", "")
	flags.Var((*engines)(&c.Engines), "engines", "")
	flags.Var((*sizes)(&c.Blocks), "blocks", "")
	flags.IntSliceVar(&c.Jobs, "jobs", nil, "")
	flags.IntVar(&c.Samples, "samples", 0, "")
	flags.Float64Var(&c.Share, "share", 0, "")
	flags.DurationVar(&c.Pause, "pause", 0, "")
	flags.Uint64Var(&c.Seed, "seed", 0, "")
	flags.BoolVar(&f.hideSerial, "hide-serial", false, "")
	flags.BoolVar(&c.AllowCostly, "yes", false, "")
	flags.StringVarP(&f.output, "output", "o", "", "")
	flags.Var(&oneOf{&f.format, []format{formatJSON, formatBench}}, "format", "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return nil, errHelp
	case err != nil:
		return nil, &usageError{err.Error()}
	case flags.NArg() > 0:
		return nil, &usageError{fmt.Sprintf("unexpected %q", flags.Args())}
	case flags.Changed("samples") && c.Samples == 0, flags.Changed("share") && c.Share == 0, flags.Changed("pause") && c.Pause == 0:
		return nil, &usageError{"--samples, --share and --pause must be more than 0: leave them out to use those of the profile"}
	case c.Target == "":
		return nil, &usageError{"--target is missing: name a directory on the SSD"}
	}
	return f, nil
}

// format is the format of an output file.
type format string

const (
	formatJSON  format = "json"
	formatBench format = "benchfmt"
	formatHTML  format = "html"
)

// oneOf is a flag for one of several formats.
type oneOf struct {
	chosen  *format
	allowed []format
}

func (o *oneOf) Set(name string) error {
	if !slices.Contains(o.allowed, format(name)) {
		return fmt.Errorf("%q is not one of %s, %s", name, o.allowed[0], o.allowed[1])
	}
	*o.chosen = format(name)
	return nil
}

func (o *oneOf) String() string {
	if o.chosen == nil {
		return ""
	}
	return string(*o.chosen)
}

// Type returns the placeholder of the value in a usage line.
func (o *oneOf) Type() string { return "FORMAT" }

// size is a number of bytes, at least one.
type size int64

// Set parses a size and refuses 0.
func (s *size) Set(text string) error {
	n, err := humanize.ParseSize(text)
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("a size must be more than 0")
	}
	*s = size(n)
	return nil
}

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

// Type returns the placeholder of the value in a usage line.
func (s *size) Type() string { return "BYTES" }

// sizes is a list of sizes, separated by commas.
type sizes []int64

// Set appends to the sizes of an earlier flag.
func (s *sizes) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		var n size
		if err := n.Set(one); err != nil {
			return err
		}
		*s = append(*s, int64(n))
	}
	return nil
}

func (s *sizes) String() string { return fmt.Sprint([]int64(*s)) }

// Type returns the placeholder of the value in a usage line.
func (s *sizes) Type() string { return "BYTES,…" }

// engines is a list of engine names, separated by commas.
type engines []string

// Set appends to the engines of an earlier flag.
func (e *engines) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		var one copier.Engine
		if err := one.Set(name); err != nil {
			return err
		}
		*e = append(*e, one.String())
	}
	return nil
}

func (e *engines) String() string { return fmt.Sprint([]string(*e)) }

// Type returns the placeholder of the value in a usage line.
func (e *engines) Type() string { return "ENGINE,…" }

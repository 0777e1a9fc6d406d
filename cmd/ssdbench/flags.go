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

// usageError is what is wrong with a command line.
type usageError struct{ message string }

func (e *usageError) Error() string        { return e.message }
func (e *usageError) Is(target error) bool { return target == bench.ErrUsage }

// errHelp is no error: help was asked for.
var errHelp = pflag.ErrHelp

// runFlags are the command line of run, understood.
type runFlags struct {
	config bench.Config
	output string
	format format
}

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
	flags.BoolVar(&c.HideSerial, "hide-serial", false, "")
	flags.BoolVar(&c.Yes, "yes", false, "")
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
		return nil, &usageError{"--samples, --share, --pause: wanted more than 0; without them the profile says"}
	case c.Target == "":
		return nil, &usageError{"--target is missing: a directory on the SSD"}
	}
	return f, nil
}

// format is how a result is written.
type format string

const (
	formatJSON  format = "json"
	formatBench format = "benchfmt"
	formatHTML  format = "html"
)

// oneOf is a format of some.
type oneOf struct {
	chosen *format
	of     []format
}

func (o *oneOf) Set(name string) error {
	if !slices.Contains(o.of, format(name)) {
		return fmt.Errorf("%q is not one of %s, %s", name, o.of[0], o.of[1])
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

// Type is the word for the value in a usage line.
func (o *oneOf) Type() string { return "FORMAT" }

// size is a number of bytes, at least one.
type size int64

// Set is humanize.ParseSize, of a size that is one.
func (s *size) Set(text string) error {
	n, err := humanize.ParseSize(text)
	if err == nil && n == 0 {
		err = errors.New("nothing is no size")
	}
	*s = size(n)
	return err
}

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

// Type is the word for the value in a usage line.
func (s *size) Type() string { return "BYTES" }

// sizes are some of them, with commas between.
type sizes []int64

// Set reads them; a second flag adds to the first.
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

// Type is the word for the value in a usage line.
func (s *sizes) Type() string { return "BYTES,…" }

// engines are some of the copier's, with commas between.
type engines []copier.Engine

// Set reads them; a second flag adds to the first.
func (e *engines) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		var one copier.Engine
		if err := one.Set(name); err != nil {
			return err
		}
		*e = append(*e, one)
	}
	return nil
}

func (e *engines) String() string { return fmt.Sprint([]copier.Engine(*e)) }

// Type is the word for the value in a usage line.
func (e *engines) Type() string { return "ENGINE,…" }

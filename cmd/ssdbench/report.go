package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/report"
)

// reportCommand makes an HTML page of results, or converts them to benchfmt.
func reportCommand(h host, _, args []string) error {
	var file string
	form := formatHTML
	flags := pflag.NewFlagSet("report", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVarP(&file, "output", "o", "", "")
	flags.Var(&oneOf{&form, []format{formatHTML, formatBench}}, "format", "")
	err := flags.Parse(args)
	switch n := flags.NArg(); {
	case errors.Is(err, errHelp):
		_, err := io.WriteString(h.stdout, helpText())
		return err
	case err != nil:
		return &usageError{"report: " + err.Error()}
	case n == 0:
		return &usageError{"report: a result is missing: name a file that run -o has written"}
	case form == formatBench:
		return writeGoBench(h, file, flags.Args())
	case n > report.MaxResults:
		return &usageError{fmt.Sprintf("report: a page shows at most %d results, got %d", report.MaxResults, n)}
	}
	return report.WriteFromFiles(h.stdout, file, flags.Args())
}

// writeGoBench writes the results in the format of Go benchmarks, one after another.
func writeGoBench(h host, file string, paths []string) error {
	results, err := bench.LoadAll(paths)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := bench.WriteGoBench(&text, results...); err != nil {
		return err
	}
	return bench.WriteOutput(h.stdout, file, text.Bytes())
}

// compareCommand compares a result with an older one.
func compareCommand(h host, _, args []string) error {
	flags := pflag.NewFlagSet("compare", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, errHelp):
		_, err := io.WriteString(h.stdout, helpText())
		return err
	case err != nil:
		return &usageError{"compare: " + err.Error()}
	case flags.NArg() != 2:
		return &usageError{fmt.Sprintf("compare: wanted two results, the older and the newer, got %d", flags.NArg())}
	}
	return bench.CompareFiles(h.stdout, flags.Arg(0), flags.Arg(1))
}

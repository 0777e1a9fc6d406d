package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"shard_to_ssd/bench/peers"
)

// flags is the command line.
type flags struct {
	config peers.Config
	from   string // the samples to write a report of; "": measure
}

func parseFlags(args []string) (f flags, err error) {
	c := &f.config
	c.Summary, c.Progress = os.Stdout, os.Stderr
	var bin string
	var also []string
	set := pflag.NewFlagSet("bench-peers", pflag.ContinueOnError)
	set.StringVar(&c.Size, "size", "quick", "amount of data: quick (minutes), standard (half an hour), full (hours), a factor of full such as 0.1, or tiny (for tests)")
	set.IntVar(&c.Samples, "samples", 0, "samples of each contender; 0: the number that belongs to the size")
	set.IntSliceVar(&c.Rows, "rows", nil, "numbers of the rows to measure (default: all rows)")
	set.StringVar(&c.Dir, "dir", os.TempDir(), "`directory` for the images of disks")
	set.StringVarP(&c.Output, "output", "o", "docs/performance.md", "`file` for the report")
	set.StringVar(&c.Raw, "raw", "", "`file` for all samples, in JSON; written after each turn")
	set.StringVar(&f.from, "from", "", "write the report of the samples in this `file`, without measuring")
	set.StringVar(&bin, "bin", "bin/shard_to_ssd", "the shard_to_ssd that the targets are about")
	set.StringArrayVar(&also, "also", nil, "`label=path` of another build to measure in turn with it; can be repeated")
	set.StringVar(&c.Fio.Block, "fio-block", "4M", "fio's block `size`; should be that of shard_to_ssd")
	set.IntVar(&c.Fio.Depth, "fio-depth", 16, "fio's I/O depth, for reading and for writing each")
	set.StringVar(&c.NotesFile, "notes", "bench/peers/notes.md", "`file` with notes on rows; may be absent")
	set.StringArrayVar(&c.ExtraNotes, "note", nil, "`row=text` to add to the notes of a row; can be repeated")
	set.StringVar(&c.Repeat, "repeat", "", "`command` for measuring again, which the report shows")
	set.BoolVar(&c.KeepCaches, "keep-caches", false, "do not drop the host's caches, for tests beside other tests; the numbers are meaningless")
	set.SortFlags = false
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("got argument %q, want only flags", set.Arg(0))
	}
	if c.Repeat == "" {
		c.Repeat = "go run ./cmd/bench-peers " + strings.Join(args, " ")
	}
	c.Builds, err = parseBuilds(bin, also)
	return f, err
}

// parseBuilds returns the builds with absolute paths.
func parseBuilds(bin string, also []string) ([]peers.Build, error) {
	path, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	all := []peers.Build{{Path: path}}
	for _, text := range also {
		label, path, ok := strings.Cut(text, "=")
		if !ok || label == "" {
			return nil, fmt.Errorf("got --also %q, want label=path", text)
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		all = append(all, peers.Build{Label: label, Path: path})
	}
	return all, nil
}

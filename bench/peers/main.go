package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"shard_to_ssd/internal/errs"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(2)
	}
	if err := o.start(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		if errors.Is(err, context.Canceled) {
			os.Exit(130)
		}
		os.Exit(1)
	}
}

// start measures, or writes a report of what was measured before.
func (o options) start() error {
	if o.from != "" {
		r, err := load(o.from)
		if err != nil {
			return err
		}
		return o.write(r)
	}
	if os.Geteuid() != 0 {
		return errors.New("mounting file systems and dropping caches need root")
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	if err := ownNamespace(dir); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r, err := o.measure(ctx)
	if err != nil {
		return err
	}
	return errs.Join(o.write(r), r.failed())
}

// options are the command line.
type options struct {
	size        string
	samples     int
	rows        []int
	dir, output string
	raw, from   string
	bin         string
	also        []string
	fio         fioSettings
	notes       string
	note        []string
	repeat      string
	keepCaches  bool
}

func parse(args []string) (o options, err error) {
	f := pflag.NewFlagSet("peers", pflag.ContinueOnError)
	f.StringVar(&o.size, "size", "quick", "how much data: quick (minutes), standard (half an hour), full (hours), a factor of full such as 0.1, or tiny")
	f.IntVar(&o.samples, "samples", 0, "samples of each contender; 0: as many as the size has")
	f.IntSliceVar(&o.rows, "rows", nil, "numbers of the rows to measure; all, if there are none")
	f.StringVar(&o.dir, "dir", os.TempDir(), "`directory` for the images of disks")
	f.StringVarP(&o.output, "output", "o", "docs/performance.md", "`file` for the report")
	f.StringVar(&o.raw, "raw", "", "`file` for all samples, as JSON; written after each turn")
	f.StringVar(&o.from, "from", "", "write the report of the samples in this `file`, and measure nothing")
	f.StringVar(&o.bin, "bin", "bin/shard_to_ssd", "the shard_to_ssd that the targets are about")
	f.StringArrayVar(&o.also, "also", nil, "`label=path` of another build, measured in turn with it; may be repeated")
	f.StringVar(&o.fio.Block, "fio-block", "4M", "fio's block `size`: what shard_to_ssd uses")
	f.IntVar(&o.fio.Depth, "fio-depth", 16, "fio's I/O depth, of reading and of writing each")
	f.StringVar(&o.notes, "notes", "bench/peers/notes.md", "`file` of notes for rows, if it is there")
	f.StringArrayVar(&o.note, "note", nil, "`row=text` that is added to a row; may be repeated")
	f.StringVar(&o.repeat, "repeat", "", "`command` that the report names for measuring again")
	f.BoolVar(&o.keepCaches, "keep-caches", false, "do not drop the host's caches: for tests that run beside others; numbers mean nothing then")
	f.SortFlags = false
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("argument %q: wanted only flags", f.Arg(0))
	}
	if o.repeat == "" {
		o.repeat = "go run ./bench/peers " + strings.Join(args, " ")
	}
	_, err = o.builds()
	return o, err
}

// builds have absolute paths: they are run from elsewhere.
func (o options) builds() ([]build, error) {
	path, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	all := []build{{path: path}}
	for _, text := range o.also {
		label, path, ok := strings.Cut(text, "=")
		if !ok || label == "" {
			return nil, fmt.Errorf("--also %q: wanted label=path", text)
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		all = append(all, build{label, path})
	}
	return all, nil
}

// measure runs everything, in a directory of its own that it deletes.
func (o options) measure(ctx context.Context) (r record, err error) {
	builds, err := o.builds()
	if err != nil {
		return r, err
	}
	r = record{Repeat: o.repeat, Size: o.size, Samples: o.samples, Rows: o.rows, Fio: o.fio, Results: map[string]*series{}}
	for _, b := range builds[1:] {
		r.Labels = append(r.Labels, b.label)
	}
	rows, s, err := r.rows(builds)
	if err != nil {
		return r, err
	}
	if r.Samples == 0 {
		r.Samples = s.Samples
	}
	turns := turnsOf(rows, r.Samples)
	if err := errs.Join(toolsAreThere(turns), roomFor(o.dir, turns, s)); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(o.dir, "shard_to_ssd-peers-")
	if err != nil {
		return r, err
	}
	defer func() { err = errs.Join(err, os.RemoveAll(dir)) }()
	r.Facts, r.Versions = factsOf(ctx, dir), versionsOf(ctx, builds)
	start := time.Now()
	log := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.0f s: %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	b := bench{
		sizes: s, dir: dir, results: r.Results, log: log, keepCaches: o.keepCaches,
		sources: &sources{dir: dir, sizes: s, log: log, live: map[string]source{}},
	}
	err = b.run(ctx, turns, func() error { return o.save(r) })
	r.Facts = append(r.Facts, fact{"took", time.Since(start).Round(time.Second).String()})
	if b.cached {
		r.Facts = append(r.Facts, fact{"CAUTION", "the images took no direct I/O: numbers are of the host's page cache"})
	}
	return r, errs.Join(err, o.save(r))
}

// toolsAreThere looks for the contenders' programs, before hours have gone by.
func toolsAreThere(turns []turn) error {
	for _, t := range turns {
		for _, l := range t.lanes {
			for _, tool := range append(l.contender.tools, l.build.path, "mkfs."+l.kind, "findmnt", "time", "diff") {
				if !installed(tool) {
					return fmt.Errorf("%s is not installed; scripts/bench-peers.sh installs what is needed", tool)
				}
			}
		}
	}
	return nil
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// roomFor compares what images will take with what is free.
func roomFor(dir string, turns []turn, s sizes) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	free := int64(st.Bavail) * st.Bsize
	if need, turn := peakOf(turns, s); need > free {
		return fmt.Errorf("%s has %s free, and %q needs %s: choose another --dir, a smaller --size or fewer --rows",
			dir, bytesText(free), turn, bytesText(need))
	}
	return nil
}

// save writes the samples, if a file for them was named.
func (o options) save(r record) error {
	if o.raw == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.raw, append(text, '\n'), 0o644)
}

func load(path string) (r record, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// write is the report into its file, and its summary on standard output.
func (o options) write(r record) error {
	text, err := os.ReadFile(o.notes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n, err := parseNotes(string(text))
	if err != nil {
		return err
	}
	for _, note := range o.note {
		if err := n.add(note); err != nil {
			return err
		}
	}
	out, err := report(r, n)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.output), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(o.output, []byte(out), 0o644); err != nil {
		return err
	}
	rows, _, err := r.rows(r.builds())
	if err != nil {
		return err
	}
	fmt.Print(everything(rows, r.Results), "\n", summary(rows, r.Results))
	return nil
}

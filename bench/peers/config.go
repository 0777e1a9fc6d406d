package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
)

// Config describes a measurement and its report.
type Config struct {
	Size       string      // tiny, quick, standard, full, or a factor of full such as 0.1
	Samples    int         // of each contender; 0: the number that belongs to the size
	Rows       []int       // the numbers of the rows to measure; none: all rows
	Dir        string      // the directory for the images of disks
	Fio        FioSettings // the I/O of fio
	Builds     []Build     // at least one; the targets are about the first
	KeepCaches bool        // does not drop the host's page cache, for tests only

	Output     string   // the file for the report, in Markdown
	Raw        string   // the file for all samples, in JSON; "": none
	NotesFile  string   // notes on rows, in Markdown; it may be absent
	ExtraNotes []string // more notes, each ROW=text
	Repeat     string   // the command that the report names for measuring again

	Summary  io.Writer // receives all medians and targets at the end
	Progress io.Writer // receives a line for each step
}

// Build is a build of shard_to_ssd. The label of the first build is empty.
type Build struct {
	Label string
	Path  string // absolute, since it is run in other directories
}

// Run measures the rows and writes the report. It needs root, and a mount namespace of
// its own. If a contender fails, the others are still measured and the error names it.
func Run(ctx context.Context, c Config) error {
	r, err := c.measureRows(ctx)
	if err != nil {
		return err
	}
	return errs.Join(c.writeReport(r), r.failures())
}

// Rewrite writes the report of the samples that an earlier Run saved as Config.Raw. It
// needs only the fields of the report.
func Rewrite(c Config, samples string) error {
	r, err := loadRecord(samples)
	if err != nil {
		return err
	}
	return c.writeReport(r)
}

// measureRows measures in a new directory, which it deletes afterwards.
func (c Config) measureRows(ctx context.Context) (r record, err error) {
	r = record{Repeat: c.Repeat, Size: c.Size, Samples: c.Samples, Rows: c.Rows, Fio: c.Fio, Results: map[string]*series{}}
	for _, b := range c.Builds[1:] {
		r.Labels = append(r.Labels, b.Label)
	}
	rows, s, err := r.selectedRows(c.Builds)
	if err != nil {
		return r, err
	}
	if r.Samples == 0 {
		r.Samples = s.Samples
	}
	turns := turnsOf(rows, r.Samples)
	if err := errs.Join(checkTools(turns), checkSpace(c.Dir, turns, s)); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(c.Dir, "shard_to_ssd-peers-")
	if err != nil {
		return r, err
	}
	defer func() { err = errs.Join(err, os.RemoveAll(dir)) }()
	if r.Facts, err = environmentOf(ctx, dir); err != nil {
		return r, err
	}
	r.Versions = versionsOf(ctx, c.Builds)
	start := time.Now()
	log := func(format string, args ...any) { // nothing depends on its lines
		_, _ = fmt.Fprintf(c.Progress, "%6.0f s: %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	b := runner{
		sizes: s, dir: dir, results: r.Results, log: log, keepCaches: c.KeepCaches,
		sources: &sources{dir: dir, sizes: s, log: log, live: map[string]source{}},
	}
	err = b.runTurns(ctx, turns, func() error { return c.saveRecord(r) })
	r.Facts = append(r.Facts, fact{"took", time.Since(start).Round(time.Second).String()})
	if b.cached {
		r.Facts = append(r.Facts, fact{"CAUTION", "the images do not support direct I/O: the numbers include the host's page cache"})
	}
	return r, errs.Join(err, c.saveRecord(r))
}

// checkTools looks for the programs of all contenders before hours are spent.
func checkTools(turns []turn) error {
	for _, t := range turns {
		for _, l := range t.lanes {
			for _, tool := range append(l.contender.tools, l.build.Path, "mkfs."+l.kind, "time", "diff") {
				if _, err := exec.LookPath(tool); err != nil {
					return fmt.Errorf("%s is not installed; scripts/bench-peers.sh installs the tools", tool)
				}
			}
		}
	}
	return nil
}

// checkSpace compares the size of the images with the free space.
func checkSpace(dir string, turns []turn, s sizes) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	free := int64(st.Bavail) * st.Bsize
	if need, turn := peakDiskSpace(turns, s); need > free {
		return fmt.Errorf("%s has %s free, and %q needs %s: use fewer --rows, a smaller --size or another --dir",
			dir, formatBytes(free), turn, formatBytes(need))
	}
	return nil
}

// saveRecord writes the samples, if a file for them was named.
func (c Config) saveRecord(r record) error {
	if c.Raw == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.Raw, append(text, '\n'), 0o644)
}

func loadRecord(path string) (r record, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// writeReport writes the report into its file, and a summary of it.
func (c Config) writeReport(r record) error {
	n, err := c.readNotes()
	if err != nil {
		return err
	}
	text, err := formatReport(r, n)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.Output), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(c.Output, []byte(text), 0o644); err != nil {
		return err
	}
	rows, _, err := r.selectedRows(r.recordedBuilds())
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c.Summary, linesTable(rows, r.Results), "\n", targetsTable(rows, r.Results))
	return err
}

// readNotes reads the notes of the file, and adds those of the command line.
func (c Config) readNotes() (notes, error) {
	text, err := os.ReadFile(c.NotesFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	n, err := parseNotes(string(text))
	if err != nil {
		return nil, err
	}
	for _, note := range c.ExtraNotes {
		if err := n.addNote(note); err != nil {
			return nil, err
		}
	}
	return n, nil
}

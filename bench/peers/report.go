package main

import (
	"fmt"
	"maps"
	"shard_to_ssd/internal/errs"
	"slices"
	"strings"
)

// record is everything of a run that a report needs. It is kept as JSON, so that a
// report can be written again, with other notes, without measuring again.
type record struct {
	Repeat   string             `json:"repeat"` // the command that does all again
	Size     string             `json:"size"`
	Samples  int                `json:"samples"`
	Rows     []int              `json:"rows,omitempty"`
	Labels   []string           `json:"labels,omitempty"` // of other builds
	Fio      fioSettings        `json:"fio"`
	Facts    []fact             `json:"facts"`
	Versions []fact             `json:"versions"`
	Results  map[string]*series `json:"results"`
}

// rows are those that were run.
func (r record) rows(builds []build) ([]row, sizes, error) {
	s, err := sizesOf(r.Size)
	if err != nil {
		return nil, s, err
	}
	rows, err := chosen(allRows(s, r.Fio), r.Rows)
	if err != nil {
		return nil, s, err
	}
	return withBuilds(rows, builds), s, nil
}

// builds are those of the record; where they were does not matter any more.
func (r record) builds() []build {
	all := []build{{}}
	for _, label := range r.Labels {
		all = append(all, build{label: label})
	}
	return all
}

// failed is an error that names the lanes that failed, each with why.
func (r record) failed() error {
	var all []error
	for _, key := range slices.Sorted(maps.Keys(r.Results)) {
		if why := r.Results[key].Failed; why != "" {
			all = append(all, fmt.Errorf("%s failed: %s", key, why))
		}
	}
	return errs.Join(all...)
}

// report is the whole text.
func report(r record, n notes) (string, error) {
	rows, s, err := r.rows(r.builds())
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# Performance\n\nWritten by `make bench-peers`; do not edit, notes are in `bench/peers/notes.md`. To measure again:\n\n    %s\n\n", r.Repeat)
	out.WriteString(howMeasured)
	if s.Reduced {
		fmt.Fprintf(&out, "\n**Size %s**: less data than the targets are about (`SIZE=full`). Fixed costs weigh more.\n", s.Name)
	}
	paragraphs(&out, n[0])
	fmt.Fprintf(&out, "\n## All targets\n\n%s", summary(rows, r.Results))
	for _, row := range rows {
		row.write(&out, r.Results, n[row.number])
	}
	out.WriteString("\n## Machine\n\n")
	writeFacts(&out, r.Facts)
	out.WriteString("\n## Versions\n\n")
	writeFacts(&out, r.Versions)
	writeFileSystems(&out, s)
	writeCommands(&out, rows)
	return out.String(), nil
}

const howMeasured = `Times are from a cold cache until everything is durable: peers are followed by ` + "`sync -f`" + `. Contenders of a table run in
turn, A B A B. Before each sample the SSD is a fresh file system (rows 10, 12, 14 and 15 keep one for all their samples), caches
are dropped (not in row 10), and programs are brought back into the page cache. Source and SSD are loop devices with direct I/O over files on
the same disk; the source is ext4, read-only. After its last sample every copy is compared with its source, that of fio only
by the sizes of files. Only ratios mean something: absolute numbers are those of one
machine on one day. A ratio is that of a median to the first line's. CPU is user and system time of the processes; the kernel's own threads are nobody's.
`

func paragraphs(out *strings.Builder, notes []string) {
	for _, note := range notes {
		fmt.Fprintf(out, "\n%s\n", note)
	}
}

// write is a row with its tables, verdicts and notes.
func (r row) write(out *strings.Builder, results map[string]*series, notes []string) {
	fmt.Fprintf(out, "\n## Row %d: %s\n", r.number, r.title)
	for _, t := range r.tables {
		lines := linesOf(t, results)
		fmt.Fprintf(out, "\n### %s\n\n%s\n", t.title, t.text(lines))
		medians := mediansOf(lines)
		for _, target := range t.targets {
			v := target.judge(medians)
			fmt.Fprintf(out, "- %s: %s, %s\n", v.want, v.got, v.emphasised())
		}
		for _, x := range lines {
			if x.chose != "" {
				fmt.Fprintf(out, "- %s: %s\n", x.label, x.chose)
			}
			if x.failed != "" {
				fmt.Fprintf(out, "- %s failed: %s\n", x.label, x.failed)
			}
		}
	}
	paragraphs(out, notes)
}

func writeFacts(out *strings.Builder, facts []fact) {
	out.WriteString("| | |\n|---|---|\n")
	for _, f := range facts {
		fmt.Fprintf(out, "| %s | %s |\n", f.What, cell(f.Value))
	}
}

func writeFileSystems(out *strings.Builder, s sizes) {
	out.WriteString("\n## File systems\n\n")
	for _, name := range []string{"ext4", "xfs", "btrfs"} {
		k := kindOf(name, s)
		fmt.Fprintf(out, "- %s: `%s`, mounted with `-o %s`\n", name, strings.Join(k.mkfs, " "), k.mount)
	}
}

// writeCommands lists every command line that was timed, once.
func writeCommands(out *strings.Builder, rows []row) {
	out.WriteString("\n## Command lines\n\nRun by `bash -e -o pipefail`; `$SRC` is the shard, `$DST` the directory on the SSD. What is marked bare is run without a shell.\n\n")
	seen := map[string]bool{}
	for _, r := range rows {
		for _, t := range r.tables {
			for _, l := range t.lanes {
				c := l.contender
				text := fmt.Sprintf("- %s: `%s`", c.name, c.command)
				if c.bare {
					text += " (bare)"
				}
				if !seen[text] {
					seen[text] = true
					fmt.Fprintln(out, text)
				}
			}
		}
	}
}

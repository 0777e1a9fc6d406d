package peers

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"shard_to_ssd/internal/errs"
)

// record has everything from a run that a report needs. It is saved as JSON, so that a
// report with other notes can be written without another measurement.
type record struct {
	Repeat   string             `json:"repeat"` // the command that measures again
	Size     string             `json:"size"`
	Samples  int                `json:"samples"`
	Rows     []int              `json:"rows,omitempty"`
	Labels   []string           `json:"labels,omitempty"` // of builds other than the first
	Fio      FioSettings        `json:"fio"`
	Facts    []fact             `json:"facts"`
	Versions []fact             `json:"versions"`
	Results  map[string]*series `json:"results"`
}

// selectedRows returns the rows of the run.
func (r record) selectedRows(builds []Build) ([]row, sizes, error) {
	s, err := parseSize(r.Size)
	if err != nil {
		return nil, s, err
	}
	rows, err := selectRows(allRows(s, r.Fio), r.Rows)
	if err != nil {
		return nil, s, err
	}
	return withBuilds(rows, builds), s, nil
}

// recordedBuilds returns the builds of the run, without their paths.
func (r record) recordedBuilds() []Build {
	all := []Build{{}}
	for _, label := range r.Labels {
		all = append(all, Build{Label: label})
	}
	return all
}

// failures returns an error that names each lane that failed, with the cause.
func (r record) failures() error {
	var all []error
	for _, key := range slices.Sorted(maps.Keys(r.Results)) {
		if why := r.Results[key].Failed; why != "" {
			all = append(all, fmt.Errorf("%s failed: %s", key, why))
		}
	}
	return errs.Join(all...)
}

// formatReport returns the whole report in Markdown.
func formatReport(r record, n notes) (string, error) {
	rows, s, err := r.selectedRows(r.recordedBuilds())
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, reportHead, r.Repeat)
	if s.Reduced {
		fmt.Fprintf(&out, "\n**Size %s**: less data than the targets are for (`SIZE=full`). Fixed costs weigh more.\n", s.Name)
	}
	writeParagraphs(&out, n[0])
	fmt.Fprintf(&out, "\n## All targets\n\n%s", targetsTable(rows, r.Results))
	for _, row := range rows {
		row.writeSection(&out, r.Results, n[row.number])
	}
	out.WriteString("\n## Machine\n\n")
	writeFacts(&out, r.Facts)
	out.WriteString("\n## Versions\n\n")
	writeFacts(&out, r.Versions)
	writeFileSystems(&out, s)
	writeCommands(&out, rows)
	return out.String(), nil
}

const reportHead = "# Performance\n\n" +
	"`make bench-peers` writes this page. Do not edit it; the notes are in `bench/peers/notes.md`. To measure again:\n\n    %s\n" + `
Each time starts with a cold cache and ends when all data is durable: the other tools are followed by ` + "`sync -f`" + `.
Contenders of a table run in turn, A B A B. Before each sample, the SSD gets a fresh file system, the caches are dropped
and the programs are read into the page cache again. Rows 10, 12, 14 and 15 keep one file system for all samples, and row 10
keeps its caches. Source and SSD are loop devices with direct I/O over files on the same disk. The source is ext4, mounted
read-only. After the last sample, every copy is compared with its source. For fio, only the sizes of the files are compared.

Only ratios are meaningful: absolute numbers are those of one machine on one day. A ratio compares a median with that of
the first line. CPU is the user and system time of the processes, without the kernel's own threads.
`

func writeParagraphs(out *strings.Builder, notes []string) {
	for _, note := range notes {
		fmt.Fprintf(out, "\n%s\n", note)
	}
}

// writeSection writes a row with its tables, verdicts and notes.
func (r row) writeSection(out *strings.Builder, results map[string]*series, notes []string) {
	fmt.Fprintf(out, "\n## Row %d: %s\n", r.number, r.title)
	for _, t := range r.tables {
		lines := linesOf(t, results)
		fmt.Fprintf(out, "\n### %s\n\n%s\n", t.title, t.formatTable(lines))
		medians := mediansOf(lines)
		for _, target := range t.targets {
			v := target.compareWith(medians)
			fmt.Fprintf(out, "- %s: %s, %s\n", v.want, v.got, v.emphasisedState())
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
	writeParagraphs(out, notes)
}

func writeFacts(out *strings.Builder, facts []fact) {
	out.WriteString("| | |\n|---|---|\n")
	for _, f := range facts {
		fmt.Fprintf(out, "| %s | %s |\n", f.What, escapeCell(f.Value))
	}
}

func writeFileSystems(out *strings.Builder, s sizes) {
	out.WriteString("\n## File systems\n\n")
	for _, name := range []string{"ext4", "xfs", "btrfs"} {
		f := fileSystemOf(name, s)
		fmt.Fprintf(out, "- %s: `%s`, mounted with `-o %s`\n", name, strings.Join(f.mkfs, " "), f.mount)
	}
}

const commandsHead = "\n## Command lines\n\n`bash -e -o pipefail` runs them. `$SRC` is the shard, `$DST` the directory on the SSD. " +
	"A command marked bare runs without a shell.\n\n"

// writeCommands lists every timed command line once.
func writeCommands(out *strings.Builder, rows []row) {
	out.WriteString(commandsHead)
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

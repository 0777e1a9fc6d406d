package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/shard_to_ssd.1 and docs/flags.md instead of comparing them")

// TestGeneratedDocs compares the man page and docs/flags.md with the tables of
// flag_table.go and status.go. With -update it writes them.
func TestGeneratedDocs(t *testing.T) {
	for name, want := range map[string]string{"shard_to_ssd.1": manPage(), "flags.md": flagsMarkdown()} {
		path := filepath.Join("..", "..", "docs", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("docs/%s differs from the tables, write it with `go generate ./cmd/shard_to_ssd` (-want +got):\n%s", name, diff)
		}
	}
}

// Flags and placeholders in an explanation: --all, -c, SHARD. A hyphen begins a
// flag only at the start of a word.
var (
	flagPattern        = regexp.MustCompile(`(^|[ (])(--?[a-z][a-z-]*)`)
	placeholderPattern = regexp.MustCompile(`\b(SHARD|DIR|NAME|FILE|N|ENGINE|RATE|AGE|STYLE|DURATION)\b`)
)

// manPage lays out the tables as a page of section 1, with the man macros of roff.
func manPage() string {
	var page manWriter
	page.WriteString(".\\\" Written by `go generate ./cmd/shard_to_ssd` from flag_table.go and status.go there.\n" +
		".TH SHARD_TO_SSD 1 2026-11-26 shard_to_ssd \"User Commands\"\n")
	page.section("NAME")
	page.WriteString("shard_to_ssd \\- " + roffMarkup(summary) + "\n")
	page.section("SYNOPSIS")
	page.synopsis()
	page.section("DESCRIPTION")
	for i, paragraph := range description() {
		if i > 0 {
			page.WriteString(".PP\n")
		}
		page.WriteString(roffSentences(paragraph))
	}
	page.section("MODES")
	for _, row := range modeTable() {
		page.entry(row.heading(), row.explanation)
	}
	page.section("OPTIONS")
	for _, row := range flagTable() {
		page.entry(row.heading(), row.explanation+" "+noteSentences(row))
	}
	page.section("ENVIRONMENT")
	for _, row := range flagTable() {
		if row.environment != "" {
			page.entry(row.environment, "Used without --"+row.long+", if not empty.")
		}
	}
	page.section("FILES")
	for _, file := range fileTable() {
		page.entry(file.text, file.explanation)
	}
	page.section("EXIT STATUS")
	for _, row := range statusTable() {
		page.entry(row.status, statusSentences(row))
	}
	page.section("EXAMPLES")
	page.examples()
	page.section("SEE ALSO")
	page.WriteString("\\fBflock\\fR(1), \\fBionice\\fR(1), \\fBxxhsum\\fR(1)\n")
	return page.String()
}

// manWriter collects the lines of a man page.
type manWriter struct{ strings.Builder }

func (w *manWriter) section(heading string) { fmt.Fprintf(w, ".SH %s\n", heading) }

// entry writes a heading and, indented below it, its sentences.
func (w *manWriter) entry(heading, sentences string) {
	fmt.Fprintf(w, ".TP\n%s\n%s", roffMarkup(heading), roffSentences(sentences))
}

// synopsis writes a line for each mode.
func (w *manWriter) synopsis() {
	for i, row := range modeTable() {
		if i > 0 {
			w.WriteString(".br\n")
		}
		line := strings.Join(strings.Fields(row.briefHeading()+" [flags] "+row.operands), " ")
		w.WriteString("\\fBshard_to_ssd\\fR " + roffMarkup(line) + "\n")
	}
}

func (w *manWriter) examples() {
	for i, example := range exampleTable() {
		if i > 0 {
			w.WriteString(".PP\n")
		}
		fmt.Fprintf(w, "%s.PP\n.EX\n    %s\n.EE\n", roffSentences(example.explanation), roffEscape(example.text))
	}
}

// roffSentences marks up text. Each sentence begins a line, so that roff sets the
// space between sentences.
func roffSentences(text string) string {
	var lines []string
	for sentence := range strings.SplitSeq(strings.TrimSpace(text), ". ") {
		sentence = strings.TrimSuffix(sentence, ".") + "."
		lines = append(lines, wrapWords(roffMarkup(sentence), 79)...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// roffMarkup makes flags bold and placeholders italic. Control characters stand for
// the font changes until everything else is escaped.
func roffMarkup(text string) string {
	text = placeholderPattern.ReplaceAllString(text, "\x01$1\x03")
	text = flagPattern.ReplaceAllString(text, "$1\x02$2\x03")
	return strings.NewReplacer("\x01", `\fI`, "\x02", `\fB`, "\x03", `\fR`).Replace(roffEscape(text))
}

// roffEscape escapes backslashes, and hyphens, which roff may print as another
// character.
func roffEscape(text string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
}

// noteSentences returns the notes of a flag as sentences.
func noteSentences(row flagRow) string {
	text := ""
	if modes := row.modeNames(); modes != nil {
		text = "It goes with " + orList(modes) + " only. "
	}
	if row.standard != "" {
		text += "Default: " + row.defaultText() + "."
	}
	return text
}

// statusSentences returns the meaning of an exit status, and its modes.
func statusSentences(row statusRow) string {
	text := strings.ToUpper(row.meaning[:1]) + row.meaning[1:] + "."
	if modes := modesWithStatus(row.status); modes != nil {
		text += " Modes: " + strings.Join(modes, ", ") + "."
	}
	return text
}

// modesWithStatus returns the modes that may end with the status, or nothing if
// all may.
func modesWithStatus(status string) []string {
	var names []string
	for _, row := range modeTable() {
		if slices.Contains(row.statuses, status) {
			names = append(names, row.briefHeading())
		}
	}
	return names
}

// flagsMarkdown lays out the tables in Markdown.
func flagsMarkdown() string {
	var page strings.Builder
	row := func(cells ...string) { page.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	page.WriteString("# Modes and flags of shard_to_ssd\n\n" +
		"<!-- Written by `go generate ./cmd/shard_to_ssd` from flag_table.go and status.go there. -->\n")
	for _, paragraph := range description() {
		page.WriteString("\n" + strings.Join(wrapWords(markdownMarkup(paragraph), 120), "\n") + "\n")
	}
	page.WriteString("\n## Modes\n\nExactly one of them is needed.\n\n| mode | takes | meaning |\n|---|---|---|\n")
	for _, mode := range modeTable() {
		row(markdownMarkup(mode.heading()), markdownMarkup(mode.operands), markdownMarkup(mode.explanation))
	}
	page.WriteString("\n## Flags\n\n| flag | meaning | goes with | default |\n|---|---|---|---|\n")
	for _, flag := range flagTable() {
		modes := "all modes"
		if names := flag.modeNames(); names != nil {
			modes = markdownMarkup(strings.Join(names, ", "))
		}
		row(markdownMarkup(flag.heading()), markdownMarkup(flag.explanation), modes, flag.defaultText())
	}
	page.WriteString("\nA variable of the environment that is empty counts as not set.\n" +
		"\n## Exit status\n\n| status | meaning | modes |\n|---|---|---|\n")
	for _, status := range statusTable() {
		modes := "all"
		if names := modesWithStatus(status.status); names != nil {
			modes = markdownMarkup(strings.Join(names, ", "))
		}
		row(status.status, status.meaning, modes)
	}
	return page.String()
}

// markdownMarkup sets flags in code.
func markdownMarkup(text string) string {
	text = flagPattern.ReplaceAllString(text, "$1`$2`")
	return strings.ReplaceAll(text, "` `--", " --") // --verify --all is one thing
}

package peers

import (
	"fmt"
	"strconv"
	"strings"
)

// notes are texts that people wrote about rows, by row number. Number 0 has the notes
// about all rows.
type notes map[int][]string

// parseNotes reads Markdown with a heading "## Row N" for each row. Text before the
// first heading is about all rows.
func parseNotes(text string) (notes, error) {
	n, row := notes{}, 0
	var lines []string
	flush := func() {
		if body := strings.TrimSpace(strings.Join(lines, "\n")); body != "" {
			n[row] = append(n[row], body)
		}
		lines = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		heading, ok := strings.CutPrefix(line, "## ")
		if !ok {
			lines = append(lines, line)
			continue
		}
		flush()
		number, ok := strings.CutPrefix(heading, "Row ")
		var err error
		if row, err = strconv.Atoi(strings.TrimSpace(number)); !ok || err != nil {
			return nil, fmt.Errorf("notes: got heading %q, want \"## Row N\"", line)
		}
	}
	flush()
	return n, nil
}

// addNote adds a note of the form ROW=text.
func (n notes) addNote(text string) error {
	number, body, ok := strings.Cut(text, "=")
	row, err := strconv.Atoi(number)
	if !ok || err != nil {
		return fmt.Errorf("got note %q, want ROW=text", text)
	}
	n[row] = append(n[row], body)
	return nil
}

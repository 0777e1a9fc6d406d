package main

import (
	"fmt"
	"strconv"
	"strings"
)

// notes are what people say of rows, by number; 0 is about all of them.
type notes map[int][]string

// parseNotes reads Markdown with a heading "## Row N" for each row. What comes
// before the first is about all.
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
			return nil, fmt.Errorf("notes: heading %q: wanted \"## Row N\"", line)
		}
	}
	flush()
	return n, nil
}

// add takes a note of the command line, ROW=text.
func (n notes) add(text string) error {
	number, body, ok := strings.Cut(text, "=")
	row, err := strconv.Atoi(number)
	if !ok || err != nil {
		return fmt.Errorf("note %q: wanted ROW=text", text)
	}
	n[row] = append(n[row], body)
	return nil
}

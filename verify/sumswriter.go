package verify

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// sumsWriter writes lines in the format of xxhsum: 16 hex digits, two spaces, the name.
// A name with a backslash, LF or CR is escaped, and its line starts with a backslash.
// Names start with "./": without it, xxhsum would take a file called "stdin" for
// standard input.
type sumsWriter struct{ out *bufio.Writer }

func newSumsWriter(w io.Writer) *sumsWriter { return &sumsWriter{bufio.NewWriterSize(w, 256<<10)} }

func (s *sumsWriter) writeLine(path string, sum uint64) error {
	mark := ""
	if strings.ContainsAny(path, "\\\n\r") {
		mark = "\\"
		path = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\r", "\\r").Replace(path)
	}
	_, err := fmt.Fprintf(s.out, "%s%016x  ./%s\n", mark, sum, path)
	return err
}

func (s *sumsWriter) flush() error { return s.out.Flush() }

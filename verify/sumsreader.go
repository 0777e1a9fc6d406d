package verify

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"shard_to_ssd/internal/tree"
)

// SumLine is a line of a list of checksums: a file, and the XXH64 of its contents.
type SumLine struct {
	Path string // below the directory of the list, without "./"
	Sum  uint64
}

// BadLine is a line that cannot be used, and the reason.
type BadLine struct {
	Line   int64  `json:"line"` // from 1
	Reason string `json:"why"`
}

func (b *BadLine) Error() string { return fmt.Sprintf("line %d: %s", b.Line, b.Reason) }

// SumsReader reads a list of checksums line by line: the output of xxhsum for XXH64, or
// sums.xxh64. These forms are known:
//
//	0123456789abcdef  NAME          or in capitals, or with " *" before NAME
//	XXH64 (NAME) = 0123456789abcdef
//	XXH64_LE (NAME) = efcdab8967452301
//
// If the line starts with a backslash, then backslash, LF and CR in NAME are written \\,
// \n and \r. Version 0.8.1 of xxhsum does not know such lines. Without that mark a
// backslash or CR is part of the name, as for xxhsum. NAME is not trusted: a line whose
// name could lead out of the directory is a BadLine.
type SumsReader struct {
	in   *bufio.Reader
	line int64
	text []byte
}

// NewSumsReader reads lines from r.
func NewSumsReader(r io.Reader) *SumsReader {
	return &SumsReader{in: bufio.NewReaderSize(r, 256<<10)}
}

// Next returns the next line. After a *BadLine there may be more lines; io.EOF is the end.
func (s *SumsReader) Next() (SumLine, error) {
	s.line++
	whole, err := s.readLine()
	if err != nil {
		return SumLine{}, err
	}
	if !whole {
		return SumLine{}, &BadLine{s.line, fmt.Sprintf("more than %d bytes", tree.MaxLine)}
	}
	l, err := parseSumLine(string(s.text))
	if err != nil {
		return SumLine{}, &BadLine{s.line, err.Error()}
	}
	return l, nil
}

// readLine reads a line into s.text. If the line is longer than tree.MaxLine, whole is
// false, and the rest of the line is skipped.
func (s *SumsReader) readLine() (whole bool, err error) {
	s.text, whole = s.text[:0], true
	for {
		part, err := s.in.ReadSlice('\n')
		if whole = whole && len(s.text)+len(part) <= tree.MaxLine; whole {
			s.text = append(s.text, part...)
		}
		switch {
		case err == nil:
			s.text = bytes.TrimSuffix(s.text, []byte("\n"))
			return whole, nil
		case err == io.EOF && len(s.text) > 0:
			return whole, nil // xxhsum accepts a last line without LF, too
		case err != bufio.ErrBufferFull:
			return false, err
		}
	}
}

var errNoSum = errors.New("not a sum of XXH64 and a name")

func parseSumLine(line string) (SumLine, error) {
	line, escaped := strings.CutPrefix(line, `\`)
	algorithm, digits, name, err := splitSumLine(line)
	if err != nil {
		return SumLine{}, err
	}
	l := SumLine{}
	if l.Sum, err = parseSum(algorithm, digits); err != nil {
		return l, err
	}
	if escaped {
		if name, err = unescapeName(name); err != nil {
			return l, err
		}
	}
	l.Path, err = cleanName(name)
	return l, err
}

// splitSumLine distinguishes the two forms as xxhsum does, by the character after the
// first space. The algorithm is "" in the form that does not name it.
func splitSumLine(line string) (algorithm, digits, name string, err error) {
	first, rest, ok := strings.Cut(line, " ")
	if !ok || len(rest) < 2 {
		return "", "", "", errNoSum
	}
	switch rest[0] {
	case ' ', '*':
		return "", first, rest[1:], nil
	case '(':
		if i := strings.LastIndex(rest, ") = "); i > 0 {
			return first, rest[i+len(") = "):], rest[1:i], nil
		}
	}
	return "", "", "", errNoSum
}

// sumLengths maps a number of digits to the algorithm, for a line that does not name it.
var sumLengths = map[int]string{8: "XXH32", 16: "XXH64", 32: "XXH128"}

func parseSum(algorithm, digits string) (uint64, error) {
	if algorithm == "" {
		if after, ok := strings.CutPrefix(digits, "XXH3_"); ok && isHex(after) {
			return 0, errOtherAlgorithm("XXH3")
		}
		if algorithm = sumLengths[len(digits)]; !isHex(digits) {
			return 0, errNoSum
		}
	}
	switch algorithm {
	case "XXH64", "XXH64_LE":
	case "XXH32", "XXH32_LE", "XXH3", "XXH3_LE", "XXH128", "XXH128_LE":
		return 0, errOtherAlgorithm(algorithm)
	default:
		return 0, errNoSum
	}
	if len(digits) != 16 || !isHex(digits) {
		return 0, errNoSum
	}
	sum := uint64(0)
	for _, c := range []byte(digits) {
		sum = sum<<4 | uint64(hexDigit(c))
	}
	if algorithm == "XXH64_LE" {
		sum = bits.ReverseBytes64(sum)
	}
	return sum, nil
}

func errOtherAlgorithm(algorithm string) error {
	return fmt.Errorf("a sum of %s: only XXH64 can be checked (xxhsum -H64)", algorithm)
}

func isHex(digits string) bool {
	for _, c := range []byte(digits) {
		if hexDigit(c) < 0 {
			return false
		}
	}
	return digits != ""
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func unescapeName(name string) (string, error) {
	var plain strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			plain.WriteByte(name[i])
			continue
		}
		i++
		k := -1
		if i < len(name) {
			k = strings.IndexByte(`\nr`, name[i])
		}
		if k < 0 {
			return "", fmt.Errorf("no escape at byte %d of the name %.200q", i, name)
		}
		plain.WriteByte("\\\n\r"[k])
	}
	return plain.String(), nil
}

// cleanName returns name without "." and empty components.
func cleanName(name string) (string, error) {
	if strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return "", fmt.Errorf("the name %.200q is not one of a file below the directory", name)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	path := strings.Join(parts, "/")
	return path, tree.CheckPath(path)
}

package tree

import (
	"bufio"
	"fmt"
	"io"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/sys"
)

// Field is a line of the header.
type Field struct{ Key, Value string }

// Encoder writes a tree stream.
type Encoder struct {
	out     *bufio.Writer
	sum     *xxhash.Digest
	line    []byte
	plan    bool
	records int64

	// Of a plan: the sum of all but what changes in a source that nobody changes:
	// access times when it is read, and how much of it is allocated when the file
	// system writes it back.
	identity *xxhash.Digest
	passing  [2]int // where in line that is
}

// PlanKind and ManifestKind are the kinds of stream.
const (
	PlanKind     = "plan"
	ManifestKind = "manifest"
)

// NewEncoder starts a stream with its header. A value of a field must not hold a
// newline.
func NewEncoder(w io.Writer, kind string, version int, header []Field) (*Encoder, error) {
	e := &Encoder{sum: xxhash.New(), plan: kind == PlanKind, identity: xxhash.New()}
	e.out = bufio.NewWriterSize(w, 256<<10)
	e.line = fmt.Appendf(e.line, "shard_to_ssd %s %d\n", kind, version)
	for _, f := range header {
		e.line = fmt.Appendf(e.line, "%s %s\n", f.Key, f.Value)
	}
	e.line = append(e.line, '\n')
	return e, e.flushLine()
}

func (e *Encoder) flushLine() error {
	e.sum.Write(e.line) //nolint:errcheck // a hash does not fail
	if e.plan {
		e.identity.Write(e.line[:e.passing[0]]) //nolint:errcheck
		e.identity.Write(e.line[e.passing[1]:]) //nolint:errcheck
		e.passing = [2]int{}
	}
	_, err := e.out.Write(e.line)
	e.line = e.line[:0]
	return err
}

// Write appends a record.
func (e *Encoder) Write(r *Record) error {
	e.records++
	e.line = append(e.line, byte(r.Kind))
	switch r.Kind {
	case Subdir:
	case Sums:
		for _, sum := range r.Sums {
			e.line = appendSum(append(e.line, ' '), sum)
		}
		e.line = append(e.line, '\n')
		return e.flushLine()
	default:
		e.meta(r)
	}
	e.line = strconv.AppendQuote(append(e.line, ' '), r.Name)
	if r.Kind == Symlink || r.Kind == HardLink {
		e.line = strconv.AppendQuote(append(e.line, ' '), r.Target)
	}
	e.line = append(e.line, '\n')
	if len(e.line) > MaxLine {
		return fmt.Errorf("path of %d bytes is too long to be recorded: %.60q…", len(r.Target), r.Target)
	}
	if r.Kind == Dir && len(r.Path) > maxPath {
		return fmt.Errorf("path of %d bytes is too long to be recorded: %.60q…", len(r.Path), r.Path)
	}
	return e.flushLine()
}

func (e *Encoder) meta(r *Record) {
	if r.Kind == Dir {
		e.int(int64(r.Depth))
	}
	e.line = strconv.AppendUint(append(e.line, ' ', '0'), uint64(r.Mode), 8)
	e.int(int64(r.UID))
	e.int(int64(r.GID))
	e.time(r.Mtime)
	e.sumOrDash(r.Xattrs, r.Xattrs != 0)
	if r.Kind == Regular || r.Kind == HardLink {
		e.int(r.Size)
	}
	switch {
	case e.plan:
		e.line = strconv.AppendUint(append(e.line, ' '), r.Source.Ino, 10)
		e.time(r.Source.Ctime)
		e.passing[0] = len(e.line)
		e.time(r.Source.Atime)
		e.int(r.Source.Blocks)
		e.passing[1] = len(e.line)
	case r.Kind == Regular:
		e.sumOrDash(r.Sum, Blocks(r.Size) == 1)
	}
}

func (e *Encoder) int(v int64) { e.line = strconv.AppendInt(append(e.line, ' '), v, 10) }

func (e *Encoder) time(t sys.Time) {
	e.int(t.Sec)
	e.line = append(e.line, '.')
	for div := uint32(100_000_000); div > 0; div /= 10 {
		e.line = append(e.line, byte('0'+t.Nsec/div%10))
	}
}

func (e *Encoder) sumOrDash(sum uint64, known bool) {
	e.line = append(e.line, ' ')
	if known {
		e.line = appendSum(e.line, sum)
	} else {
		e.line = append(e.line, '-')
	}
}

// appendSum writes XXH64 in its canonical form: 16 hex digits, highest first.
func appendSum(b []byte, sum uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[sum>>shift&15])
	}
	return b
}

// Close writes the trailer and flushes.
func (e *Encoder) Close() error {
	if _, err := fmt.Fprintf(e.out, "end %d %016x\n", e.records, e.sum.Sum64()); err != nil {
		return err
	}
	return e.out.Flush()
}

// Identity is a sum that two plans share only if they are the same but for access
// times and allocated blocks.
func (e *Encoder) Identity() uint64 { return e.identity.Sum64() }

package tree

import (
	"bufio"
	"fmt"
	"io"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/sys"
)

// Field is a line of the header. Value must not hold a newline.
type Field struct{ Key, Value string }

// Encoder writes a tree stream.
type Encoder struct {
	out     *bufio.Writer
	sum     *xxhash.Digest
	line    []byte
	plan    bool
	records int64

	// identity is the checksum of a plan without the values that change in a source
	// that no process changes: reading it changes access times, and write-back by the
	// file system changes the number of allocated blocks.
	identity *xxhash.Digest
	passing  [2]int // the range of these values in line
}

// PlanKind and ManifestKind are the two kinds of stream.
const (
	PlanKind     = "plan"
	ManifestKind = "manifest"
)

// NewEncoder starts a stream and writes its header.
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
	_, _ = e.sum.Write(e.line) // a hash does not fail
	if e.plan {
		_, _ = e.identity.Write(e.line[:e.passing[0]])
		_, _ = e.identity.Write(e.line[e.passing[1]:])
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
		e.appendMeta(r)
	}
	e.line = strconv.AppendQuote(append(e.line, ' '), r.Name)
	if r.Kind == Symlink || r.Kind == HardLink {
		e.line = strconv.AppendQuote(append(e.line, ' '), r.Target)
	}
	e.line = append(e.line, '\n')
	if len(e.line) > MaxLine {
		return fmt.Errorf("path of %d bytes is too long to record: %.60q…", len(r.Target), r.Target)
	}
	if r.Kind == Dir && len(r.Path) > maxPath {
		return fmt.Errorf("path of %d bytes is too long to record: %.60q…", len(r.Path), r.Path)
	}
	return e.flushLine()
}

func (e *Encoder) appendMeta(r *Record) {
	if r.Kind == Dir {
		e.appendInt(int64(r.Depth))
	}
	e.line = strconv.AppendUint(append(e.line, ' ', '0'), uint64(r.Mode), 8)
	e.appendInt(int64(r.UID))
	e.appendInt(int64(r.GID))
	e.appendTime(r.Mtime)
	e.appendSumOrDash(r.Xattrs, r.Xattrs != 0)
	if r.Kind == Regular || r.Kind == HardLink {
		e.appendInt(r.Size)
	}
	switch {
	case e.plan:
		e.line = strconv.AppendUint(append(e.line, ' '), r.Source.Ino, 10)
		e.appendTime(r.Source.Ctime)
		e.passing[0] = len(e.line)
		e.appendTime(r.Source.Atime)
		e.appendInt(r.Source.Blocks)
		e.passing[1] = len(e.line)
	case r.Kind == Regular:
		e.appendSumOrDash(r.Sum, BlockCount(r.Size) == 1)
	}
}

func (e *Encoder) appendInt(v int64) { e.line = strconv.AppendInt(append(e.line, ' '), v, 10) }

func (e *Encoder) appendTime(t sys.Time) {
	e.appendInt(t.Sec)
	e.line = append(e.line, '.')
	for div := uint32(100_000_000); div > 0; div /= 10 {
		e.line = append(e.line, byte('0'+t.Nsec/div%10))
	}
}

func (e *Encoder) appendSumOrDash(sum uint64, known bool) {
	e.line = append(e.line, ' ')
	if known {
		e.line = appendSum(e.line, sum)
	} else {
		e.line = append(e.line, '-')
	}
}

// appendSum appends XXH64 in its canonical form: 16 hex digits, the highest first.
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

// Identity returns a checksum of the plan without access times and numbers of allocated
// blocks. Two plans with the same identity differ at most in these.
func (e *Encoder) Identity() uint64 { return e.identity.Sum64() }

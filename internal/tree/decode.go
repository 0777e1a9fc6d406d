package tree

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// MaxLine is the longest line of a stream, in bytes. The target of a symbolic
// link takes up to 16 KiB when every byte must be escaped, the path of a hard
// link's first name may be longer than PATH_MAX.
const MaxLine = 1 << 20

// maxPath is the longest path of a directory, in bytes. Each takes as long to put
// together as it is, so that without a bound a few megabytes of stream take hours.
const maxPath = 256 << 10

// ErrDamaged is in the error of a Decoder when the stream is not one that an
// Encoder wrote to its end.
var ErrDamaged = errors.New("damaged")

// ErrVersion is in the error of NewDecoder when the stream is of a version that
// this program does not know.
var ErrVersion = errors.New("unknown version")

// Decoder reads a tree stream.
type Decoder struct {
	Header  []Field
	in      *bufio.Reader
	sum     *xxhash.Digest
	long    []byte // a line longer than in's buffer
	lineNo  int
	plan    bool
	records int64
	path    string  // of the open directory
	open    []level // the directories above it, itself last
	last    string  // the name before in it
	isFile  bool    // the root is one regular file
	sumsDue int64   // blocks of the last Regular whose sums are still to come
	link    []byte  // for chain
	rec     Record
}

// level is an open directory. Which directories it named and which of them were
// opened is kept as two sums, since a stream may name more than there is memory for.
type level struct {
	end           int // where in path its own ends
	named, opened uint64
}

// NewDecoder reads the header of a stream of a kind and version.
func NewDecoder(r io.Reader, kind string, version int) (*Decoder, error) {
	d := &Decoder{in: bufio.NewReaderSize(r, 64<<10), sum: xxhash.New(), plan: kind == PlanKind}
	first, err := d.readLine()
	if err != nil {
		return nil, d.damaged(err)
	}
	magic := "shard_to_ssd " + kind + " "
	if !strings.HasPrefix(string(first), magic) {
		return nil, d.damaged(fmt.Errorf("not a %s", kind))
	}
	if got := string(first[len(magic):]); got != strconv.Itoa(version) {
		return nil, fmt.Errorf("%w %.20q of the %s, this program knows %d", ErrVersion, got, kind, version)
	}
	d.addSum(first)
	return d, d.readHeader()
}

// maxHeader bounds the lines of a header, which an Encoder writes a dozen of.
const maxHeader = 64

func (d *Decoder) readHeader() error {
	for len(d.Header) <= maxHeader {
		line, err := d.readLine()
		if err != nil {
			return d.damaged(err)
		}
		d.addSum(line)
		if len(line) == 0 {
			return nil
		}
		key, value, _ := strings.Cut(string(line), " ")
		d.Header = append(d.Header, Field{key, value})
	}
	return d.damaged(errors.New("header too long"))
}

// Field is the value of a header line, "" if there is none.
func (d *Decoder) Field(key string) string {
	for _, f := range d.Header {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}

// Next returns the next record, valid until the call after; io.EOF at the end of
// a stream that is whole.
func (d *Decoder) Next() (*Record, error) {
	line, err := d.readLine()
	if err != nil {
		return nil, d.damaged(err)
	}
	if bytes.HasPrefix(line, []byte("end ")) {
		return nil, d.end(string(line))
	}
	d.addSum(line)
	d.records++
	if err := d.parse(line); err != nil {
		return nil, d.damaged(err)
	}
	if err := d.place(); err != nil {
		return nil, d.damaged(err)
	}
	return &d.rec, nil
}

func (d *Decoder) end(line string) error {
	want := fmt.Sprintf("end %d %016x", d.records, d.sum.Sum64())
	if line != want {
		return d.damaged(fmt.Errorf("its end says %.60q, its contents %q", line, want))
	}
	if d.records == 0 || d.sumsDue > 0 {
		return d.damaged(errors.New("records are missing"))
	}
	if err := d.leave(0); err != nil {
		return d.damaged(err)
	}
	switch _, err := d.in.ReadByte(); err {
	case io.EOF:
		return io.EOF
	case nil:
		return d.damaged(errors.New("something follows its end"))
	default:
		return d.damaged(err)
	}
}

// place checks that the record may stand where it stands, and gives it its path.
func (d *Decoder) place() error {
	r := &d.rec
	if (r.Kind == Sums) != (d.sumsDue > 0) || (r.Kind == Sums && int64(len(r.Sums)) != min(d.sumsDue, SumsPerLine)) {
		return errors.New("block sums out of place")
	}
	if d.isFile && r.Kind != Sums {
		return errors.New("more than the one file")
	}
	switch {
	case r.Kind == Sums:
		d.sumsDue -= int64(len(r.Sums))
		return nil
	case r.Kind == Dir:
		return d.enter()
	case len(d.open) == 0:
		d.isFile = true
		if r.Kind != Regular {
			return errors.New("the root is neither a directory nor a file")
		}
	default:
		r.Path = d.path
		if err := d.name(); err != nil {
			return err
		}
	}
	if r.Kind == Regular && !d.plan && Blocks(r.Size) > 1 {
		d.sumsDue = Blocks(r.Size)
	}
	return nil
}

// name adds a name to those of the open directory.
func (d *Decoder) name() error {
	if d.rec.Name <= d.last {
		return fmt.Errorf("name %q after %q", d.rec.Name, d.last)
	}
	d.last = d.rec.Name
	if d.rec.Kind == Subdir {
		in := &d.open[len(d.open)-1]
		in.named = d.chain(in.named, d.rec.Name)
	}
	return nil
}

func (d *Decoder) enter() error {
	r := &d.rec
	if r.Depth == 0 && len(d.open) == 0 && r.Name == "." {
		d.open = append(d.open, level{})
		return nil
	}
	if r.Depth < 1 || r.Depth > len(d.open) {
		return fmt.Errorf("directory %q at depth %d out of place", r.Name, r.Depth)
	}
	if err := d.leave(r.Depth); err != nil {
		return err
	}
	in := &d.open[r.Depth-1]
	if in.end+1+len(r.Name) > maxPath {
		return fmt.Errorf("path of more than %d bytes", maxPath)
	}
	in.opened = d.chain(in.opened, r.Name)
	d.path, d.last = Join(d.path[:in.end], r.Name), ""
	d.open = append(d.open, level{end: len(d.path)})
	r.Path = d.path
	return nil
}

// leave closes the open directories down to a depth. Those that each has named must
// have been opened, and no other, in the same order.
func (d *Decoder) leave(depth int) error {
	for n := len(d.open) - 1; n >= depth; n-- {
		if l := d.open[n]; l.named != l.opened {
			return fmt.Errorf("the directories in %.200q are not those that it names", d.path[:l.end])
		}
		d.open = d.open[:n]
	}
	return nil
}

// chain is the sum of the names that sum is of, and one more.
func (d *Decoder) chain(sum uint64, name string) uint64 {
	d.link = append(binary.LittleEndian.AppendUint64(d.link[:0], sum), name...)
	return xxhash.Sum64(d.link)
}

func (d *Decoder) damaged(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w at line %d: %w", ErrDamaged, d.lineNo, err)
}

func (d *Decoder) addSum(line []byte) {
	d.sum.Write(line)         //nolint:errcheck // a hash does not fail
	d.sum.Write([]byte{'\n'}) //nolint:errcheck
}

// readLine returns the next line without its newline, valid until the next call.
func (d *Decoder) readLine() ([]byte, error) {
	d.lineNo++
	line, err := d.in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	d.long = append(d.long[:0], line...)
	for err == bufio.ErrBufferFull && len(d.long) <= MaxLine {
		line, err = d.in.ReadSlice('\n')
		d.long = append(d.long, line...)
	}
	if len(d.long) > MaxLine {
		return nil, fmt.Errorf("line of more than %d bytes", MaxLine)
	}
	if err != nil {
		return nil, err
	}
	return d.long[:len(d.long)-1], nil
}

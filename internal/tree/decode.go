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

// MaxLine is the longest line of a stream, in bytes. The target of a symbolic link
// takes up to 16 KiB if every byte is escaped. The path of a hard link's first name may
// be longer than PATH_MAX.
const MaxLine = 1 << 20

// maxPath is the longest path of a directory, in bytes. The time to build a path grows
// with its length, so without a bound a few megabytes of stream would take hours.
const maxPath = 256 << 10

// ErrDamaged is in the error of a Decoder if the stream is not a complete one that an
// Encoder wrote.
var ErrDamaged = errors.New("damaged")

// ErrVersion is in the error of NewDecoder if this program does not know the version
// of the stream.
var ErrVersion = errors.New("unknown version")

// Decoder reads a tree stream.
type Decoder struct {
	Header  []Field
	in      *bufio.Reader
	sum     *xxhash.Digest
	long    []byte // a line that is longer than the buffer of in
	lineNo  int
	plan    bool
	records int64
	path    string      // of the open directory
	open    []openedDir // the directories on the way to it, itself last
	last    string      // the previous name in it
	isFile  bool        // the root is one regular file
	sumsDue int64       // block sums of the last Regular that must still follow
	link    []byte      // buffer of chainName
	rec     Record
}

// openedDir is a directory whose end was not reached yet. named and opened are
// checksums of the names of its directories: of those that it named, and of those that
// were opened. A stream may name more directories than there is memory for.
type openedDir struct {
	end           int // length of its own path in Decoder.path
	named, opened uint64
}

// NewDecoder reads the header of a stream, which must have this kind and version.
func NewDecoder(r io.Reader, kind string, version int) (*Decoder, error) {
	d := &Decoder{in: bufio.NewReaderSize(r, 64<<10), sum: xxhash.New(), plan: kind == PlanKind}
	first, err := d.readLine()
	if err != nil {
		return nil, d.damagedError(err)
	}
	magic := "shard_to_ssd " + kind + " "
	if !strings.HasPrefix(string(first), magic) {
		return nil, d.damagedError(fmt.Errorf("not a %s", kind))
	}
	if got := string(first[len(magic):]); got != strconv.Itoa(version) {
		return nil, fmt.Errorf("%w %.20q of the %s, this program knows %d", ErrVersion, got, kind, version)
	}
	d.addSum(first)
	return d, d.readHeader()
}

// maxHeader is the most lines of a header. An Encoder writes about a dozen.
const maxHeader = 64

func (d *Decoder) readHeader() error {
	for len(d.Header) <= maxHeader {
		line, err := d.readLine()
		if err != nil {
			return d.damagedError(err)
		}
		d.addSum(line)
		if len(line) == 0 {
			return nil
		}
		key, value, _ := strings.Cut(string(line), " ")
		d.Header = append(d.Header, Field{key, value})
	}
	return d.damagedError(errors.New("header too long"))
}

// Field returns the value of a header line, or "" if there is no such line.
func (d *Decoder) Field(key string) string {
	for _, f := range d.Header {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}

// Next returns the next record, which is valid until the following call. At the end of
// a complete stream it returns io.EOF.
func (d *Decoder) Next() (*Record, error) {
	line, err := d.readLine()
	if err != nil {
		return nil, d.damagedError(err)
	}
	if bytes.HasPrefix(line, []byte("end ")) {
		return nil, d.checkTrailer(string(line))
	}
	d.addSum(line)
	d.records++
	if err := d.parseRecord(line); err != nil {
		return nil, d.damagedError(err)
	}
	if err := d.placeRecord(); err != nil {
		return nil, d.damagedError(err)
	}
	return &d.rec, nil
}

func (d *Decoder) checkTrailer(line string) error {
	want := fmt.Sprintf("end %d %016x", d.records, d.sum.Sum64())
	if line != want {
		return d.damagedError(fmt.Errorf("last line %.60q, want %q", line, want))
	}
	if d.records == 0 || d.sumsDue > 0 {
		return d.damagedError(errors.New("records are missing"))
	}
	if err := d.leaveDirs(0); err != nil {
		return d.damagedError(err)
	}
	switch _, err := d.in.ReadByte(); err {
	case io.EOF:
		return io.EOF
	case nil:
		return d.damagedError(errors.New("data after the last line"))
	default:
		return d.damagedError(err)
	}
}

// placeRecord checks that the record may stand at this place, and sets its path.
func (d *Decoder) placeRecord() error {
	r := &d.rec
	if (r.Kind == Sums) != (d.sumsDue > 0) || (r.Kind == Sums && int64(len(r.Sums)) != min(d.sumsDue, SumsPerLine)) {
		return errors.New("block sums out of place")
	}
	if d.isFile && r.Kind != Sums {
		return errors.New("a record after the only file")
	}
	switch {
	case r.Kind == Sums:
		d.sumsDue -= int64(len(r.Sums))
		return nil
	case r.Kind == Dir:
		return d.enterDir()
	case len(d.open) == 0:
		d.isFile = true
		if r.Kind != Regular {
			return errors.New("the root is neither a directory nor a file")
		}
	default:
		r.Path = d.path
		if err := d.addName(); err != nil {
			return err
		}
	}
	if r.Kind == Regular && !d.plan && BlockCount(r.Size) > 1 {
		d.sumsDue = BlockCount(r.Size)
	}
	return nil
}

// addName adds the record's name to the names of the open directory.
func (d *Decoder) addName() error {
	if d.rec.Name <= d.last {
		return fmt.Errorf("name %q out of order after %q", d.rec.Name, d.last)
	}
	d.last = d.rec.Name
	if d.rec.Kind == Subdir {
		in := &d.open[len(d.open)-1]
		in.named = d.chainName(in.named, d.rec.Name)
	}
	return nil
}

func (d *Decoder) enterDir() error {
	r := &d.rec
	if r.Depth == 0 && len(d.open) == 0 && r.Name == "." {
		d.open = append(d.open, openedDir{})
		return nil
	}
	if r.Depth < 1 || r.Depth > len(d.open) {
		return fmt.Errorf("directory %q at depth %d out of place", r.Name, r.Depth)
	}
	if err := d.leaveDirs(r.Depth); err != nil {
		return err
	}
	in := &d.open[r.Depth-1]
	if in.end+1+len(r.Name) > maxPath {
		return fmt.Errorf("path longer than %d bytes", maxPath)
	}
	in.opened = d.chainName(in.opened, r.Name)
	d.path, d.last = JoinPath(d.path[:in.end], r.Name), ""
	d.open = append(d.open, openedDir{end: len(d.path)})
	r.Path = d.path
	return nil
}

// leaveDirs closes the open directories down to a depth. In each of them exactly the
// named directories must have been opened, in the same order.
func (d *Decoder) leaveDirs(depth int) error {
	for n := len(d.open) - 1; n >= depth; n-- {
		if l := d.open[n]; l.named != l.opened {
			return fmt.Errorf("directory %.200q names other directories than the stream has", d.path[:l.end])
		}
		d.open = d.open[:n]
	}
	return nil
}

// chainName extends sum, the checksum of a list of names, by one more name.
func (d *Decoder) chainName(sum uint64, name string) uint64 {
	d.link = append(binary.LittleEndian.AppendUint64(d.link[:0], sum), name...)
	return xxhash.Sum64(d.link)
}

func (d *Decoder) damagedError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w at line %d: %w", ErrDamaged, d.lineNo, err)
}

func (d *Decoder) addSum(line []byte) {
	_, _ = d.sum.Write(line) // a hash does not fail
	_, _ = d.sum.Write([]byte{'\n'})
}

// readLine returns the next line without its newline. It is valid until the next call.
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
		return nil, fmt.Errorf("line longer than %d bytes", MaxLine)
	}
	if err != nil {
		return nil, err
	}
	return d.long[:len(d.long)-1], nil
}

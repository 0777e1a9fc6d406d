package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"shard_to_ssd/internal/sys"
)

// parse fills in d.rec from a line. It works on bytes, because a shard of a
// million files is parsed several times.
func (d *Decoder) parse(line []byte) error {
	d.rec = Record{Sums: d.rec.Sums[:0]}
	r, f := &d.rec, fields{rest: line}
	kind := f.next()
	if len(kind) != 1 {
		return fmt.Errorf("unknown record %.20q", kind)
	}
	r.Kind = Kind(kind[0])
	switch r.Kind {
	case Sums:
		for len(f.rest) > 0 {
			r.Sums = append(r.Sums, f.sum())
		}
		return f.err
	case Subdir:
	case Dir, Regular, Symlink, HardLink:
		d.parseMeta(r, &f)
	default:
		return fmt.Errorf("unknown record %q", kind)
	}
	r.Name = f.quoted()
	if r.Kind == Symlink || r.Kind == HardLink {
		r.Target = f.quoted()
	}
	if f.err == nil && len(f.rest) > 0 {
		return errors.New("too many fields")
	}
	if f.err != nil {
		return f.err
	}
	return checkNames(r)
}

func (d *Decoder) parseMeta(r *Record, f *fields) {
	if r.Kind == Dir {
		r.Depth = int(f.uint(10, math.MaxInt32))
	}
	r.Mode = uint32(f.uint(8, 0o7777))
	r.UID = uint32(f.uint(10, math.MaxUint32))
	r.GID = uint32(f.uint(10, math.MaxUint32))
	r.Mtime = f.time()
	r.Xattrs = f.sumOrDash()
	if r.Kind == Regular || r.Kind == HardLink {
		r.Size = int64(f.uint(10, math.MaxInt64))
	}
	switch {
	case d.plan:
		r.Source = Source{Ino: f.uint(10, math.MaxUint64), Ctime: f.time(), Atime: f.time(),
			Blocks: int64(f.uint(10, math.MaxInt64))}
	case r.Kind == Regular && Blocks(r.Size) == 1:
		r.Sum = f.sum()
	case r.Kind == Regular:
		if dash := f.next(); string(dash) != "-" {
			f.fail("sum %.20q where none can be", dash)
		}
	}
}

func checkNames(r *Record) error {
	switch {
	case r.Kind == Dir && r.Depth == 0 && r.Name == ".":
		return nil
	case r.Kind == HardLink:
		if err := ValidPath(r.Target); err != nil {
			return err
		}
	case r.Kind == Symlink:
		if r.Target == "" || bytes.IndexByte([]byte(r.Target), 0) >= 0 {
			return fmt.Errorf("link target %.200q", r.Target)
		}
	}
	return ValidName(r.Name)
}

// fields takes a line apart, field by field; the first error stays.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
	f.rest = nil
}

func (f *fields) next() []byte {
	i := bytes.IndexByte(f.rest, ' ')
	if i < 0 {
		i = len(f.rest)
	}
	field := f.rest[:i]
	f.rest = f.rest[min(i+1, len(f.rest)):]
	return field
}

func (f *fields) uint(base, limit uint64) uint64 {
	field, v := f.next(), uint64(0)
	if len(field) == 0 {
		f.fail("a number is missing")
	}
	for _, c := range field {
		digit := uint64(c) - '0'
		if digit >= base || v > (limit-digit)/base {
			f.fail("bad number %.30q", field)
			return 0
		}
		v = v*base + digit
	}
	return v
}

func (f *fields) time() sys.Time {
	field := f.next()
	sec, nsec, ok := bytes.Cut(field, []byte{'.'})
	neg := len(sec) > 0 && sec[0] == '-'
	if neg {
		sec = sec[1:]
	}
	s, n := fields{rest: sec}, fields{rest: nsec}
	t := sys.Time{Sec: int64(s.uint(10, math.MaxInt64)), Nsec: uint32(n.uint(10, 999_999_999))}
	if !ok || len(nsec) != 9 || s.err != nil || n.err != nil {
		f.fail("bad time %.40q", field)
	}
	if neg {
		t.Sec = -t.Sec
	}
	return t
}

func (f *fields) sumOrDash() uint64 {
	if len(f.rest) > 0 && f.rest[0] == '-' {
		if dash := f.next(); len(dash) != 1 {
			f.fail("bad sum %.30q", dash)
		}
		return 0
	}
	return f.sum()
}

func (f *fields) sum() uint64 {
	field, v := f.next(), uint64(0)
	for _, c := range field {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			f.fail("bad sum %.30q", field)
			return 0
		}
	}
	if len(field) != 16 {
		f.fail("bad sum %.30q", field)
	}
	return v
}

// quoted takes a Go string literal; it may hold spaces.
func (f *fields) quoted() string {
	if len(f.rest) == 0 || f.rest[0] != '"' {
		f.fail("a quoted name is missing")
		return ""
	}
	end, plain := 1, true
	for end < len(f.rest) && f.rest[end] != '"' {
		if f.rest[end] == '\\' {
			plain = false
			end++
		}
		end++
	}
	if end >= len(f.rest) || (end+1 < len(f.rest) && f.rest[end+1] != ' ') {
		f.fail("a name is not closed")
		return ""
	}
	literal := f.rest[:end+1]
	f.rest = f.rest[min(end+2, len(f.rest)):]
	if plain {
		return string(literal[1:end])
	}
	s, err := strconv.Unquote(string(literal))
	if err != nil {
		f.fail("bad name %.60q", literal)
	}
	return s
}

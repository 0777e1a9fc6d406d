package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"shard_to_ssd/internal/sys"
)

// parseRecord sets d.rec from a line. It works on bytes for speed: the records of a
// shard of a million files are parsed several times.
func (d *Decoder) parseRecord(line []byte) error {
	d.rec = Record{Sums: d.rec.Sums[:0]}
	r, f := &d.rec, fields{rest: line}
	kind := f.nextField()
	if len(kind) != 1 {
		return fmt.Errorf("unknown record %.20q", kind)
	}
	r.Kind = Kind(kind[0])
	switch r.Kind {
	case Sums:
		for len(f.rest) > 0 {
			r.Sums = append(r.Sums, f.parseSum())
		}
		return f.err
	case Subdir:
	case Dir, Regular, Symlink, HardLink:
		d.parseMeta(r, &f)
	default:
		return fmt.Errorf("unknown record %q", kind)
	}
	r.Name = f.parseQuoted()
	if r.Kind == Symlink || r.Kind == HardLink {
		r.Target = f.parseQuoted()
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
		r.Depth = int(f.parseUint(10, math.MaxInt32))
	}
	r.Mode = uint32(f.parseUint(8, 0o7777))
	r.UID = uint32(f.parseUint(10, math.MaxUint32))
	r.GID = uint32(f.parseUint(10, math.MaxUint32))
	r.Mtime = f.parseTime()
	r.Xattrs = f.parseSumOrDash()
	if r.Kind == Regular || r.Kind == HardLink {
		r.Size = int64(f.parseUint(10, math.MaxInt64))
	}
	switch {
	case d.plan:
		r.Source = Source{Ino: f.parseUint(10, math.MaxUint64), Ctime: f.parseTime(), Atime: f.parseTime(),
			Blocks: int64(f.parseUint(10, math.MaxInt64))}
	case r.Kind == Regular && BlockCount(r.Size) == 1:
		r.Sum = f.parseSum()
	case r.Kind == Regular:
		if dash := f.nextField(); string(dash) != "-" {
			f.fail("unexpected sum %.20q", dash)
		}
	}
}

func checkNames(r *Record) error {
	switch {
	case r.Kind == Dir && r.Depth == 0 && r.Name == ".":
		return nil
	case r.Kind == HardLink:
		if err := CheckPath(r.Target); err != nil {
			return err
		}
	case r.Kind == Symlink:
		if r.Target == "" || bytes.IndexByte([]byte(r.Target), 0) >= 0 {
			return fmt.Errorf("bad link target %.200q", r.Target)
		}
	}
	return CheckName(r.Name)
}

// fields parses a line, field by field, and keeps the first error.
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

func (f *fields) nextField() []byte {
	i := bytes.IndexByte(f.rest, ' ')
	if i < 0 {
		i = len(f.rest)
	}
	field := f.rest[:i]
	f.rest = f.rest[min(i+1, len(f.rest)):]
	return field
}

func (f *fields) parseUint(base, limit uint64) uint64 {
	field, v := f.nextField(), uint64(0)
	if len(field) == 0 {
		f.fail("missing number")
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

func (f *fields) parseTime() sys.Time {
	field := f.nextField()
	sec, nsec, ok := bytes.Cut(field, []byte{'.'})
	neg := len(sec) > 0 && sec[0] == '-'
	if neg {
		sec = sec[1:]
	}
	s, n := fields{rest: sec}, fields{rest: nsec}
	t := sys.Time{Sec: int64(s.parseUint(10, math.MaxInt64)), Nsec: uint32(n.parseUint(10, 999_999_999))}
	if !ok || len(nsec) != 9 || s.err != nil || n.err != nil {
		f.fail("bad time %.40q", field)
	}
	if neg {
		t.Sec = -t.Sec
	}
	return t
}

func (f *fields) parseSumOrDash() uint64 {
	if len(f.rest) > 0 && f.rest[0] == '-' {
		if dash := f.nextField(); len(dash) != 1 {
			f.fail("bad sum %.30q", dash)
		}
		return 0
	}
	return f.parseSum()
}

func (f *fields) parseSum() uint64 {
	field, v := f.nextField(), uint64(0)
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

// parseQuoted parses a Go string literal, which may hold spaces.
func (f *fields) parseQuoted() string {
	if len(f.rest) == 0 || f.rest[0] != '"' {
		f.fail("missing quoted name")
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
		f.fail("name without closing quote")
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

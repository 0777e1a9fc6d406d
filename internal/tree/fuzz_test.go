package tree

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// longestError is the most bytes of an error message, which may quote the stream.
const longestError = 4 << 10

// FuzzDecode decodes any bytes, with a correct last line, which a fuzzer does not find by
// chance. The Decoder may refuse them. A stream that it accepts is one tree, and stays
// the same when it is encoded and decoded again.
func FuzzDecode(f *testing.F) {
	var t testing.T
	for _, kind := range []string{ManifestKind, PlanKind} {
		f.Add(mustEncode(&t, kind, testRecords(kind == PlanKind)))
		f.Add([]byte("shard_to_ssd " + kind + " 1\n\nend 0 0\n"))
	}
	for _, long := range []string{`l 0777 0 0 1.000000000 - "a" "\x00`, `h 0777 0 0 1.000000000 - 0 "a" "/`, `d "`, "s "} { // an error must not quote it all
		f.Add(fmt.Appendf(nil, "shard_to_ssd manifest 1\n\nD 0 0755 0 0 1.000000000 - \".\"\n%s%s\"\nend", long, strings.Repeat("x", 5000)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []string{PlanKind, ManifestKind} {
			got, err := decodeAll(kind, []byte(withNewTrailer(string(b))))
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) || len(err.Error()) > longestError {
					t.Errorf("refused with %v, want a short ErrDamaged or ErrVersion", err)
				}
				continue
			}
			if err := checkOneTree(got); err != nil {
				t.Errorf("accepted although not one tree: %v", err)
			}
			again, err := decodeAll(kind, mustEncode(t, kind, got))
			if diff := cmp.Diff(got, again); err != nil || diff != "" {
				t.Errorf("encoded and decoded again: %v\n%s", err, diff)
			}
		}
	})
}

// withNewTrailer replaces the last line of a stream with the correct one.
func withNewTrailer(stream string) string {
	i := strings.LastIndexByte(strings.TrimSuffix(stream, "\n"), '\n')
	return withTrailer(stream[:i+1])
}

// checkOneTree returns an error unless the records are one file, or one directory in
// which each entry occurs once, below a directory that names it.
func checkOneTree(records []Record) error {
	here := map[string]Kind{} // the kind of record at each path
	for i, r := range records {
		if r.Kind == Sums {
			continue
		}
		path := r.RelativePath()
		if i == 0 && (r.Kind == Dir && path == "." || r.Kind == Regular) {
			here[path] = r.Kind
			continue
		}
		if err := CheckPath(path); err != nil {
			return err
		}
		if before, met := here[path]; met && (before != Subdir || r.Kind != Dir) || !met && r.Kind == Dir {
			return fmt.Errorf("%c record of %q after %c", r.Kind, path, before)
		}
		parent, _ := cutLast(path)
		if here[parent] != Dir {
			return fmt.Errorf("%q has no directory", path)
		}
		here[path] = r.Kind
	}
	for path, kind := range here {
		if kind == Subdir {
			return fmt.Errorf("%q was never opened", path)
		}
	}
	return nil
}

func cutLast(path string) (parent, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// FuzzNames encodes any bytes as names and targets. Decoding returns a valid name
// unchanged, and refuses all others.
func FuzzNames(f *testing.F) {
	for _, name := range hostileNames {
		f.Add(name, "../"+name)
		f.Add("a", name+"/"+name)
	}
	for _, name := range []string{"", ".", "..", "/", "a/", "/a", "a\x00", "../a", "a/../b", "a//b", strings.Repeat("x", 256)} {
		f.Add(name, "a")
		f.Add("a", name)
	}
	f.Fuzz(func(t *testing.T, name, target string) {
		if len(name)+len(target) > MaxLine/8 {
			return
		}
		asName, asPath := isName(name), target != ""
		for part := range strings.SplitSeq(target, "/") {
			asPath = asPath && isName(part)
		}
		for _, c := range []struct {
			record Record
			valid  bool
		}{
			{Record{Kind: Regular, Name: name}, asName},
			{Record{Kind: Symlink, Name: name, Target: target}, asName && target != "" && !strings.Contains(target, "\x00")},
			{Record{Kind: HardLink, Name: name, Target: target}, asName && asPath},
			{Record{Kind: Subdir, Name: name}, asName},
		} {
			want := []Record{{Kind: Dir, Name: "."}, c.record}
			if c.record.Kind == Subdir {
				want = append(want, Record{Kind: Dir, Name: name, Path: name, Depth: 1})
			}
			for _, kind := range []string{PlanKind, ManifestKind} {
				got, err := decodeAll(kind, mustEncode(t, kind, want))
				if c.valid != (err == nil) {
					t.Errorf("%+v: got %v, want it accepted: %v", c.record, err, c.valid)
				}
				if diff := cmp.Diff(want, got); c.valid && diff != "" {
					t.Errorf("decoded differently:\n%s", diff)
				}
			}
		}
	})
}

// isName is a second implementation of ValidName.
func isName(s string) bool {
	n := 0
	for _, b := range []byte(s) {
		if b == 0 || b == '/' {
			return false
		}
		n++
	}
	return n >= 1 && n <= 255 && s != "." && s != ".."
}

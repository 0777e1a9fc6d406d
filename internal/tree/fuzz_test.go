package tree

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mostSaid is how long an error may be, whatever it quotes.
const mostSaid = 4 << 10

// FuzzDecode reads whatever there is, with an end that fits, which a fuzzer does not
// find by chance. It may be refused; what is accepted is one tree, and is written and
// read again the same.
func FuzzDecode(f *testing.F) {
	var t testing.T
	for _, kind := range []string{ManifestKind, PlanKind} {
		f.Add(encode(&t, kind, records(kind == PlanKind)))
		f.Add([]byte("shard_to_ssd " + kind + " 1\n\nend 0 0\n"))
	}
	for _, long := range []string{`l 0777 0 0 1.000000000 - "a" "\x00`, `h 0777 0 0 1.000000000 - 0 "a" "/`, `d "`, "s "} { // nobody wants to read it all
		f.Add(fmt.Appendf(nil, "shard_to_ssd manifest 1\n\nD 0 0755 0 0 1.000000000 - \".\"\n%s%s\"\nend", long, strings.Repeat("x", 5000)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []string{PlanKind, ManifestKind} {
			got, err := decode(kind, []byte(resealed(string(b))))
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) || len(err.Error()) > mostSaid {
					t.Errorf("refused with %v", err)
				}
				continue
			}
			if err := oneTree(got); err != nil {
				t.Errorf("accepted: %v", err)
			}
			again, err := decode(kind, encode(t, kind, got))
			if diff := cmp.Diff(got, again); err != nil || diff != "" {
				t.Errorf("written again: %v\n%s", err, diff)
			}
		}
	})
}

// resealed is a stream with another last line, one that fits.
func resealed(stream string) string {
	i := strings.LastIndexByte(strings.TrimSuffix(stream, "\n"), '\n')
	return sealed(stream[:i+1])
}

// oneTree says in what records are not those of one file, or of one directory with
// everything in it once, below a directory that names it.
func oneTree(records []Record) error {
	here := map[string]Kind{} // by path
	for i, r := range records {
		if r.Kind == Sums {
			continue
		}
		path := r.Below()
		if i == 0 && (r.Kind == Dir && path == "." || r.Kind == Regular) {
			here[path] = r.Kind
			continue
		}
		if err := ValidPath(path); err != nil {
			return err
		}
		if before, met := here[path]; met && (before != Subdir || r.Kind != Dir) || !met && r.Kind == Dir {
			return fmt.Errorf("%c record of %q after %c", r.Kind, path, before)
		}
		parent, _ := cutLast(path)
		if here[parent] != Dir {
			return fmt.Errorf("%q is in no directory", path)
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

// FuzzNames writes any bytes as names and targets: what can be a name comes back as it
// was, and nothing else does.
func FuzzNames(f *testing.F) {
	for _, name := range hostile {
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
				got, err := decode(kind, encode(t, kind, want))
				if c.valid != (err == nil) {
					t.Errorf("%+v: %v, wanted it accepted: %v", c.record, err, c.valid)
				}
				if diff := cmp.Diff(want, got); c.valid && diff != "" {
					t.Errorf("read: %s", diff)
				}
			}
		}
	})
}

// isName is another way to say ValidName.
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

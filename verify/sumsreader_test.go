package verify

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/internal/tree"
)

// readLines reads a list to its end.
func readLines(t testing.TB, text []byte) (good []SumLine, bad []BadLine) {
	t.Helper()
	r := NewSumsReader(bytes.NewReader(text))
	for {
		l, err := r.Next()
		var b *BadLine
		switch {
		case err == io.EOF:
			return good, bad
		case errors.As(err, &b):
			bad = append(bad, *b)
		case err != nil:
			t.Fatal(err)
		default:
			good = append(good, l)
		}
	}
}

const (
	sumOfA   = "26c7827d889f6da3" // of "hello"
	upperOfA = "26C7827D889F6DA3"
)

// sumLines are lines of a list, with the path or the reason that the reader must return.
// xxhsum says whether the real xxhsum accepts the line in a directory where the file a
// contains "hello".
var sumLines = []struct {
	text   string
	path   string // "": a bad line
	xxhsum bool
	why    string
}{
	{text: sumOfA + "  a", path: "a", xxhsum: true},
	{text: sumOfA + "  ./a", path: "a", xxhsum: true},
	{text: sumOfA + "  .//./a", path: "a", xxhsum: true},
	{text: upperOfA + "  a", path: "a", xxhsum: true},
	{text: "26c7827D889F6da3  a", path: "a", xxhsum: true},
	{text: sumOfA + " *a", path: "a", xxhsum: true},
	{text: "XXH64 (a) = " + sumOfA, path: "a", xxhsum: true},
	{text: "XXH64 (./a) = " + upperOfA, path: "a", xxhsum: true},
	{text: "XXH64_LE (a) = a36d9f887d82c726", path: "a", xxhsum: true},
	{text: sumOfA + "   a", path: " a"},
	{text: sumOfA + "  a ", path: "a "},
	{text: sumOfA + "  a\r", path: "a\r"},
	{text: sumOfA + `  a\n`, path: `a\n`},
	{text: `\` + sumOfA + `  ./\\\n\r`, path: "\\\n\r"},
	{text: `\XXH64 (b\nb) = ` + sumOfA, path: "b\nb"},
	{text: "XXH64 (b) = c) = " + sumOfA, path: "b) = c"},
	{text: sumOfA + "  (a) = " + sumOfA, path: "(a) = " + sumOfA},
	{text: "XXH32 (a) = fb0077f9", xxhsum: true, why: "a sum of XXH32"},
	{text: "XXH128 (a) = b5e9c1ad071b3e7fc779cfaa5e523818", xxhsum: true, why: "a sum of XXH128"},
	{text: "XXH3 (a) = 9555e8555c62dcfd", xxhsum: true, why: "a sum of XXH3"},
	{text: "XXH3_9555e8555c62dcfd  a", why: "a sum of XXH3"},
	{text: "fb0077f9  a", xxhsum: true, why: "a sum of XXH32"},
	{text: "b5e9c1ad071b3e7fc779cfaa5e523818  a", xxhsum: true, why: "a sum of XXH128"},
	// xxhsum accepts these, but never writes them.
	{text: "foo (a) = " + sumOfA, xxhsum: true, why: "not a sum"},
	{text: sumOfA + " xa", xxhsum: true, why: "not a sum"},
	{text: sumOfA + " (a) = " + sumOfA, xxhsum: true, why: "not a sum"},
	{text: "", why: "not a sum"},
	{text: "# comment", why: "not a sum"},
	{text: sumOfA, why: "not a sum"},
	{text: sumOfA + " ", why: "not a sum"},
	{text: sumOfA + " a", why: "not a sum"},
	{text: sumOfA + "\ta", why: "not a sum"},
	{text: " " + sumOfA + "  a", why: "not a sum"},
	{text: sumOfA[1:] + "  a", why: "not a sum"},
	{text: "g" + sumOfA[1:] + "  a", why: "not a sum"},
	{text: "XXH64(a) = " + sumOfA, why: "not a sum"},
	{text: "XXH64 (a) = " + sumOfA + " ", why: "not a sum"},
	{text: "XXH64 (a)= " + sumOfA, why: "not a sum"},
	{text: `\` + sumOfA + `  b\tb`, why: "no escape at byte 2"},
	{text: `\` + sumOfA + `  b\`, why: "no escape at byte 2"},
	{text: sumOfA + "  b/../b", why: `name ".." not allowed in path`},
	{text: sumOfA + "  ../b", why: `name ".." not allowed in path`},
	{text: sumOfA + "  /etc/passwd", why: "not one of a file below"},
	{text: "XXH64 (/etc/passwd) = " + sumOfA, why: "not one of a file below"},
	{text: sumOfA + "  .", why: "empty name"},
	{text: sumOfA + "  b/", why: "not one of a file below"},
	{text: sumOfA + "  b\x00", why: "NUL"},
	{text: sumOfA + "  " + strings.Repeat("b", 256), why: "name of 256 bytes"},
}

func TestSumLines(t *testing.T) {
	for _, c := range sumLines {
		good, bad := readLines(t, []byte(sumOfA+"  first\n"+c.text+"\n"+sumOfA+"  last\n"))
		if len(good)+len(bad) != 3 || good[0].Path != "first" || good[len(good)-1].Path != "last" {
			t.Errorf("%q: got the lines %+v, want the lines before and after it, too", c.text, good)
		}
		if c.path != "" && (len(good) != 3 || good[1].Path != c.path || good[1].Sum != 0x26c7827d889f6da3) {
			t.Errorf("%q: got good lines %+v and bad lines %+v, want path %q", c.text, good, bad, c.path)
		}
		if c.path == "" && (len(bad) != 1 || bad[0].Line != 2 || !strings.Contains(bad[0].Reason, c.why)) {
			t.Errorf("%q: got bad lines %+v, want line 2 with %q", c.text, bad, c.why)
		}
	}
}

// If the reader accepts a line for the file a, the real xxhsum accepts it, too.
func TestSumLinesMatchXxhsum(t *testing.T) {
	testkit.RequireTools(t, "xxhsum")
	dir, list := t.TempDir(), filepath.Join(t.TempDir(), "list")
	testkit.Apply(t, dir, testkit.TextFile("a", "hello"))
	for _, c := range sumLines {
		if err := os.WriteFile(list, []byte(c.text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		x := exec.Command("xxhsum", "-c", "--strict", list)
		x.Dir = dir
		output, err := x.CombinedOutput()
		if good := err == nil; good != c.xxhsum || c.path == "a" && !good {
			t.Errorf("%q: xxhsum ended with %v: %s", c.text, err, output)
		}
	}
}

// The last line may lack its newline. A long line takes no more memory than the limit.
func TestUnfinishedAndLongLines(t *testing.T) {
	good, bad := readLines(t, []byte(sumOfA+"  a\n"+sumOfA+"  b"))
	if len(good) != 2 || good[1].Path != "b" || len(bad) > 0 {
		t.Errorf("got good lines %v and bad lines %v, want a and b", good, bad)
	}
	long := sumOfA + "  " + strings.Repeat("x", 3*tree.MaxLine) + "\n" + sumOfA + "  c\n"
	r := NewSumsReader(strings.NewReader(long))
	var b *BadLine
	if _, err := r.Next(); !errors.As(err, &b) || cap(r.text) > 2*tree.MaxLine {
		t.Errorf("a long line: got error %v and a buffer of %d bytes, want a BadLine and at most %d", err, cap(r.text), 2*tree.MaxLine)
	}
	if l, err := r.Next(); err != nil || l.Path != "c" {
		t.Errorf("after a long line: got %+v, %v, want c", l, err)
	}
}

// FuzzSumsFile reads any bytes as a list. Each line is good or bad, no path leads out of the
// directory, and a good line is the same after it is written and read again.
func FuzzSumsFile(f *testing.F) {
	for _, c := range sumLines {
		f.Add([]byte(c.text + "\n"))
	}
	f.Add([]byte("XXH64 (x\ny) = c13a0c34a1ba3fb2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		good, bad := readLines(t, text)
		want := bytes.Count(text, []byte("\n"))
		if len(text) > 0 && text[len(text)-1] != '\n' {
			want++
		}
		if len(good)+len(bad) != want {
			t.Errorf("got %d good and %d bad lines, want %d in all", len(good), len(bad), want)
		}
		var b bytes.Buffer
		s := newSumsWriter(&b)
		for _, l := range good {
			if err := errors.Join(tree.CheckPath(l.Path), s.writeLine(l.Path, l.Sum)); err != nil {
				t.Errorf("%+v: %v", l, err)
			}
		}
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
		again, none := readLines(t, b.Bytes())
		if len(none) > 0 || len(again) != len(good) {
			t.Fatalf("written again as %q: got %d good lines and bad lines %+v, want %d good ones", b.Bytes(), len(again), none, len(good))
		}
		for i := range good {
			if again[i] != good[i] {
				t.Errorf("written again: got %+v, want %+v", again[i], good[i])
			}
		}
	})
}

package bench_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/internal/benchtest"
)

// WriteAtomic writes into a file that is not regular, and does not replace it.
func TestWriteAtomicThroughLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("longer than the new text"), 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	if err := bench.WriteAtomic(link, []byte("text")); err != nil {
		t.Fatal(err)
	}
	info, statErr := os.Lstat(link)
	text, readErr := os.ReadFile(file)
	if err := errors.Join(statErr, readErr); err != nil {
		t.Fatal(err)
	}
	if info.Mode().Type() != os.ModeSymlink || string(text) != "text" {
		t.Errorf("got mode %v, text %q, want a link to the new text", info.Mode(), text)
	}
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	for _, want := range []*bench.Result{benchtest.CachedDrive().MakeResult(2), benchtest.SteadyDrive().MakeResult(1), resultOf(1)} {
		if err := bench.Save(path, want); err != nil {
			t.Fatal(err)
		}
		got, err := bench.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want only the result", left, err)
	}
}

// encodedText returns the JSON of a result.
func encodedText(t testing.TB, r *bench.Result) string {
	path := filepath.Join(t.TempDir(), "result.json")
	if err := bench.Save(path, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLoadRefuses(t *testing.T) {
	whole := encodedText(t, resultOf(5))
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "not a result"},
		{"another thing", "{}", "has no version"},
		{"a list", "[1]", "not a result"},
		{"text", "hello", "not a result"},
		{"cut off", whole[:len(whole)/2], "damaged or cut off"},
		{"without its end", strings.TrimSuffix(whole, "}\n"), "damaged or cut off"},
		{"twice", whole + whole, "damaged or cut off"},
		{"a later version", strings.Replace(whole, `"version": 1`, `"version": 2, "more": {}`, 1), "unknown result version: got 2, this program reads 1"},
		{"version 0", strings.Replace(whole, `"version": 1`, `"version": 0`, 1), "unknown result version: got 0"},
		{"an unknown field", strings.Replace(whole, `"tool"`, `"tol"`, 1), `unknown field "tol"`},
		{"another type", strings.Replace(whole, `"complete": true`, `"complete": 1`, 1), "not a result"},
		{"no beginning", `{"version": 1}`, "no start time"},
		{"a copy in no time", strings.Replace(whole, `"last_done": 2`, `"last_done": -2`, 1), "a copy took"},
		{"a negative size", strings.Replace(whole, `"bytes": 1`, `"bytes": -1`, 1), "are negative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "odd.json")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := bench.Load(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got error %v, want %q and the path", err, c.want)
			}
			if strings.Contains(c.name, "version") && !errors.Is(err, bench.ErrVersion) {
				t.Errorf("got error %v, want ErrVersion", err)
			}
		})
	}
}

// A result that cannot be written leaves the old file and nothing else.
func TestSaveAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "result.json")
	if err := bench.Save(path, resultOf(1)); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	odd := resultOf(1)
	odd.Seconds = math.NaN()
	unversioned := resultOf(1)
	unversioned.Version = 3
	for _, r := range []*bench.Result{odd, unversioned} {
		if err := bench.Save(path, r); err == nil {
			t.Error("an invalid result was written")
		}
	}
	// A directory makes the rename fail, which is the last step that can.
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := bench.Save(filepath.Join(dir, "dir"), resultOf(1)); err == nil {
		t.Error("a directory was replaced")
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the old file has changed: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("got %v, want the file and the directory", left)
	}
}

// Every result that Decode accepts can be encoded, compared and printed.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(encodedText(f, resultOf(5))))
	f.Add([]byte(`{"version":1,"started":"2030-01-02T03:04:05Z","cases":[{"samples":[{"last_done":1e-300}],"bytes":9223372036854775807}],"sustained":{"cliff":{}},"readers":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := bench.Decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("cannot encode a decoded result: %v", err)
		}
		var out bytes.Buffer
		if _, err := bench.Compare(r, r).WriteTo(&out); err != nil {
			t.Error(err)
		}
		if err := bench.WriteGoBench(&out, r); err != nil {
			t.Error(err)
		}
	})
}

package shardtossd_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// namesForXxhsum have each broken a tool that reads lists of sums.
var namesForXxhsum = []string{
	" ", "  ", "a  b", "a ", " a", "-", "--", "-c", "stdin", "*", "*a", "(a) = b", "a) = 0123456789abcdef", "XXH64 (a) = 0123456789abcdef",
	"0123456789abcdef", "0123456789abcdef  b", "#", "\t", "\xff\xfe", "ümläut", "日本", strings.Repeat("x", 255), strings.Repeat("\xff", 255),
	"dir/ b/c", "dir/stdin", "\\", "\\n", "a\\b", "\r", "a\rb",
	"\n", "a\nb", "0123456789abcdef  x\n0123456789abcdef  y",
}

// xxhsumReads says which of the names xxhsum 0.8.1 can read back: of ours those that are not
// escaped, of its own those of one line.
func xxhsumReads(name, by string) bool {
	return !strings.Contains(name, "\n") && (by == "xxhsum" || !strings.ContainsAny(name, "\\\r"))
}

// publishHostileNames has a file of each name, one that is large, and a shard of it.
func publishHostileNames(t *testing.T, bin string) (published, ours string) {
	dir := t.TempDir()
	src := filepath.Join(dir, "shard")
	steps := []testkit.Step{testkit.File("large", 9<<20, 1)}
	for i, name := range namesForXxhsum {
		steps = append(steps, testkit.TextFile(name, fmt.Sprint("contents ", i)))
	}
	for _, d := range []string{"shard", "locks", "ssd"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Apply(t, src, steps...)
	testkit.RunCommand(t, bin, "-c", "-i", "a", "-l", dir+"/locks", "-s", dir+"/ssd", "--progress", "none", src)
	return dir + "/ssd/shard", dir + "/ssd/.shard_to_ssd/shard/sums.xxh64"
}

// listWithXxhsum has xxhsum write a list of the files below a directory.
func listWithXxhsum(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	x := exec.Command("sh", append([]string{"-c", `find . -type f -print0 | sort -z | xargs -0 xxhsum "$@"`, "sh"}, flags...)...)
	x.Dir = dir
	x.Env = append(os.Environ(), "LC_ALL=C")
	text, err := x.Output()
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return list
}

// withoutLines is the list less the lines of names that xxhsum cannot read, in a new file.
func withoutLines(t *testing.T, list string, unreadable func(line string) bool) string {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), unreadable)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	return plain
}

type checkResult struct {
	Status       int
	Files        int
	Unlisted     int
	Differences  []struct{ Path, Kind string }
	BadLineCount int `json:"bad_line_count"`
}

// content is the paths whose contents differ, with another kind before any other.
func (r *checkResult) contentPaths() (paths []string) {
	for _, d := range r.Differences {
		paths = append(paths, strings.TrimPrefix(d.Kind+" "+d.Path, "content "))
	}
	return paths
}

// checkWithProgram has the program hold a directory against a list.
func checkWithProgram(t *testing.T, bin, dir, list string) (r checkResult) {
	t.Helper()
	c := exec.Command(bin, "--verify", "--manifest", list, "--progress", "none", "--json", dir)
	out, err := c.Output()
	if json.Unmarshal(out, &r) != nil || c.ProcessState.ExitCode() != r.Status {
		t.Fatalf("%v: %s, status %d", err, out, c.ProcessState.ExitCode())
	}
	return r
}

// checkWithXxhsum is what the real xxhsum has against the files of a list.
func checkWithXxhsum(t *testing.T, dir, list string) (failed []string) {
	t.Helper()
	x := exec.Command("xxhsum", "-c", "--strict", "--quiet", list)
	x.Dir = dir
	x.Stdin = strings.NewReader("not the file stdin")
	out, err := x.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutSuffix(line, ": FAILED\n"); ok {
			failed = append(failed, strings.TrimPrefix(name, "./"))
		}
	}
	if (err == nil) != (len(failed) == 0) || err == nil && len(out) > 0 {
		t.Errorf("xxhsum: %v, %s", err, out)
	}
	return failed
}

// What we wrote of hostile names the real xxhsum accepts, where it can express them;
// what it wrote, in both of its forms, we accept; and both find the same files damaged.
func TestListsOfXxhsumAndOurs(t *testing.T) {
	testkit.RequireTools(t, "xxhsum")
	bin := buildProgram(t)
	dir, ours := publishHostileNames(t, bin)
	byUs := func(name string) bool { return xxhsumReads(name, "us") }
	byIt := func(name string) bool { return xxhsumReads(name, "xxhsum") }
	all := len(namesForXxhsum) + 1
	if r := checkWithProgram(t, bin, dir, ours); r.Status != 0 || r.Files != all || r.Unlisted != 0 || r.BadLineCount > 0 {
		t.Errorf("our own list: %+v", r)
	}
	escaped := func(line string) bool { return strings.HasPrefix(line, "\\") }
	lists := map[string]struct {
		list  string
		plain func(name string) bool
	}{
		"ours":                {withoutLines(t, ours, escaped), byUs},
		"xxhsum":              {withoutMultilineNames(t, listWithXxhsum(t, dir)), byIt},
		"--tag":               {withoutMultilineNames(t, listWithXxhsum(t, dir, "--tag")), byIt},
		"the other end first": {withoutMultilineNames(t, listWithXxhsum(t, dir, "--tag", "--little-endian")), byIt},
	}
	damaged := append(slices.Clone(namesForXxhsum), "large")
	for round := range 7 { // in each other names, so that no two are always damaged together
		rotten := slices.DeleteFunc(slices.Clone(damaged), func(name string) bool {
			return slices.Index(damaged, name)<<1>>round&1 == 0
		})
		for _, name := range rotten {
			flipLastBit(t, dir, name)
		}
		for by, l := range lists {
			want := slices.DeleteFunc(slices.Clone(rotten), func(name string) bool { return !l.plain(name) })
			expectSameNames(t, by+", by xxhsum", checkWithXxhsum(t, dir, l.list), want)
			for i, name := range want {
				want[i] = throughJSON(t, name)
			}
			r := checkWithProgram(t, bin, dir, l.list)
			expectSameNames(t, by+", by us", r.contentPaths(), want)
			if r.BadLineCount > 0 || (r.Status == 3) != (len(want) > 0) {
				t.Errorf("%s: %+v", by, r)
			}
		}
		for _, name := range rotten {
			flipLastBit(t, dir, name)
		}
	}
}

// throughJSON is what JSON makes of a name: it has no bytes that are not UTF-8.
func throughJSON(t *testing.T, name string) (came string) {
	t.Helper()
	text, err := json.Marshal(name)
	if err == nil {
		err = json.Unmarshal(text, &came)
	}
	if err != nil {
		t.Fatal(err)
	}
	return came
}

func expectSameNames(t *testing.T, by string, got, want []string) {
	t.Helper()
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("%s, damaged are\n%q, wanted\n%q", by, got, want)
	}
}

// withoutMultilineNames is a list of xxhsum's without the names of several lines, which it
// writes as several lines.
func withoutMultilineNames(t *testing.T, list string) string {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(text)
	for _, name := range namesForXxhsum {
		if i := strings.Index(whole, "./"+name); strings.Contains(name, "\n") && i >= 0 {
			from := strings.LastIndexByte(whole[:i], '\n') + 1
			to := i + len("./"+name)
			whole = whole[:from] + whole[to+strings.IndexByte(whole[to:], '\n')+1:]
		}
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte(whole), 0o644); err != nil {
		t.Fatal(err)
	}
	return plain
}

// flipLastBit flips a bit of the last byte of a file, or puts it right again.
func flipLastBit(t *testing.T, dir, name string) {
	t.Helper()
	if name == "" {
		return
	}
	path := dir + "/" + name
	text, err := os.ReadFile(path)
	if err == nil {
		text[len(text)-1] ^= 1
		err = os.WriteFile(path, text, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// expectSums has xxhsum hold the published shard against sums.xxh64. Version 0.8.1
// reads no escaped names, and none takes a path beyond PATH_MAX: these are for a
// reader of the format that was written for the tests.
func (s *site) expectSums(files int64) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.stateDir(), "sums.xxh64"))
	if err != nil {
		s.t.Fatal(err)
	}
	root, err := os.OpenRoot(s.publishedPath())
	if err != nil {
		s.t.Fatal(err)
	}
	defer root.Close()
	var plain []string
	count := int64(0)
	for line := range strings.Lines(string(text)) {
		count++
		sum, name, err := parseSumLine(line)
		if err != nil {
			s.t.Errorf("%v: %q", err, line)
			continue
		}
		if line[0] != '\\' && len(name) < unix.PathMax {
			plain = append(plain, line)
		} else if got := sumOfFile(root, name); got != sum {
			s.t.Errorf("sums.xxh64 says %s of %q, which is %s", sum, name, got)
		}
	}
	if count != files {
		s.t.Errorf("sums.xxh64 has %d lines, the shard %d files", count, files)
	}
	s.expectXxhsumAccepts(plain)
}

func (s *site) expectXxhsumAccepts(sums []string) {
	s.t.Helper()
	if len(sums) == 0 {
		return
	}
	testkit.RequireTools(s.t, "xxhsum")
	list := filepath.Join(s.t.TempDir(), "sums")
	if err := os.WriteFile(list, []byte(strings.Join(sums, "")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	said := testkit.RunCommand(s.t, "sh", "-c", `cd "$1" && exec xxhsum -c "$2"`, "sh", s.publishedPath(), list)
	if ok := strings.Count(said, ": OK\n"); ok != len(sums) {
		s.t.Errorf("xxhsum found %d of %d files good:\n%s", ok, len(sums), said)
	}
}

// parseSumLine takes a line of sums.xxh64 apart.
func parseSumLine(line string) (sum, name string, err error) {
	line, whole := strings.CutSuffix(line, "\n")
	line, escaped := strings.CutPrefix(line, `\`)
	sum, name, ok := strings.Cut(line, "  ./")
	if _, hex := strconv.ParseUint(sum, 16, 64); hex != nil || !whole || !ok || len(sum) != 16 {
		return "", "", errors.New("not a line of xxhsum")
	}
	if escaped != strings.ContainsAny(name, "\\") {
		return "", "", errors.New("the mark of an escaped name does not fit")
	}
	return sum, strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(name), nil
}

func sumOfFile(root *os.Root, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	digest := xxhash.New()
	if _, err := io.Copy(digest, f); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%016x", digest.Sum64())
}

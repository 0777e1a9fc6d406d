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

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// namesForXxhsum lists names that broke tools which read lists of checksums.
var namesForXxhsum = []string{
	" ", "  ", "a  b", "a ", " a", "-", "--", "-c", "stdin", "*", "*a", "(a) = b", "a) = 0123456789abcdef", "XXH64 (a) = 0123456789abcdef",
	"0123456789abcdef", "0123456789abcdef  b", "#", "\t", "\xff\xfe", "ümläut", "日本", strings.Repeat("x", 255), strings.Repeat("\xff", 255),
	"dir/ b/c", "dir/stdin", "\\", "\\n", "a\\b", "\r", "a\rb",
	"\n", "a\nb", "0123456789abcdef  x\n0123456789abcdef  y",
}

// isReadInOurList reports whether xxhsum 0.8.1 can read a name from our list: it cannot read
// escaped names.
func isReadInOurList(name string) bool { return !strings.ContainsAny(name, "\\\r\n") }

// isReadInOwnList reports whether xxhsum 0.8.1 can read a name from a list that it wrote: it
// cannot read names of several lines.
func isReadInOwnList(name string) bool { return !strings.Contains(name, "\n") }

// publishHostileNames publishes a shard with a file of each name and a large file. It
// returns the published directory and our list of checksums.
func publishHostileNames(t *testing.T, bin string) (published, ours string) {
	dir := t.TempDir()
	src := filepath.Join(dir, "shard")
	steps := []testkit.Step{testkit.File("large", 9<<20, 1)}
	for i, name := range namesForXxhsum {
		steps = append(steps, testkit.TextFile(name, fmt.Sprint("contents ", i)))
	}
	testkit.Apply(t, dir, testkit.Dir("shard", 0o755), testkit.Dir("locks", 0o755), testkit.Dir("ssd", 0o755))
	testkit.Apply(t, src, steps...)
	testkit.RunCommand(t, bin, "-c", "-i", "a", "-l", dir+"/locks", "-s", dir+"/ssd", "--progress", "none", src)
	return dir + "/ssd/shard", dir + "/ssd/.shard_to_ssd/shard/sums.xxh64"
}

// listWithXxhsum returns a list that xxhsum wrote for the files below a directory.
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

// withoutLines copies a list without the lines that xxhsum cannot read, and returns the new file.
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

// contentPaths returns the paths whose contents differ. A difference of another kind has
// the kind in front of the path.
func (r *checkResult) contentPaths() (paths []string) {
	for _, d := range r.Differences {
		paths = append(paths, strings.TrimPrefix(d.Kind+" "+d.Path, "content "))
	}
	return paths
}

// checkWithProgram compares a directory with a list, with --verify --manifest.
func checkWithProgram(t *testing.T, bin, dir, list string) (r checkResult) {
	t.Helper()
	c := exec.Command(bin, "--verify", "--manifest", list, "--progress", "none", "--json", dir)
	out, err := c.Output()
	if json.Unmarshal(out, &r) != nil || c.ProcessState.ExitCode() != r.Status {
		t.Fatalf("--verify --manifest: %v, exit status %d, not as in its JSON: %s", err, c.ProcessState.ExitCode(), out)
	}
	return r
}

// checkWithXxhsum returns the files of a list that xxhsum reports as failed.
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
		t.Errorf("xxhsum: got %v and %d failed files: %s", err, len(failed), out)
	}
	return failed
}

// xxhsum accepts our list of hostile names, except names that it cannot express. We accept
// both forms of list that xxhsum writes. Both programs report the same damaged files.
func TestListsOfXxhsumAndOurs(t *testing.T) {
	testkit.RequireTools(t, "xxhsum")
	bin := buildProgram(t)
	dir, ours := publishHostileNames(t, bin)
	all := len(namesForXxhsum) + 1
	if r := checkWithProgram(t, bin, dir, ours); r.Status != 0 || r.Files != all || r.Unlisted != 0 || r.BadLineCount > 0 {
		t.Errorf("our own list: got %+v, want status 0 and %d files", r, all)
	}
	escaped := func(line string) bool { return strings.HasPrefix(line, "\\") }
	lists := map[string]struct {
		list   string
		isRead func(name string) bool // whether xxhsum reads the name from the list
	}{
		"ours":                  {withoutLines(t, ours, escaped), isReadInOurList},
		"xxhsum":                {withoutMultilineNames(t, listWithXxhsum(t, dir)), isReadInOwnList},
		"--tag":                 {withoutMultilineNames(t, listWithXxhsum(t, dir, "--tag")), isReadInOwnList},
		"--tag --little-endian": {withoutMultilineNames(t, listWithXxhsum(t, dir, "--tag", "--little-endian")), isReadInOwnList},
	}
	names := append(slices.Clone(namesForXxhsum), "large")
	for round := range 7 { // each damages other names, so that no two are always damaged together
		damaged := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return slices.Index(names, name)<<1>>round&1 == 0
		})
		for _, name := range damaged {
			flipLastBit(t, dir, name)
		}
		for form, l := range lists {
			want := slices.DeleteFunc(slices.Clone(damaged), func(name string) bool { return !l.isRead(name) })
			expectSameNames(t, "list "+form+", read by xxhsum", checkWithXxhsum(t, dir, l.list), want)
			for i, name := range want {
				want[i] = throughJSON(t, name)
			}
			r := checkWithProgram(t, bin, dir, l.list)
			expectSameNames(t, "list "+form+", read by this program", r.contentPaths(), want)
			if r.BadLineCount > 0 || (r.Status == 3) != (len(want) > 0) {
				t.Errorf("list %s: got %+v, want no bad lines, and status 3 for %d damaged files", form, r, len(want))
			}
		}
		for _, name := range damaged {
			flipLastBit(t, dir, name)
		}
	}
}

// throughJSON encodes a name as JSON and decodes it: JSON replaces bytes that are not UTF-8.
func throughJSON(t *testing.T, name string) (decoded string) {
	t.Helper()
	text, err := json.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

func expectSameNames(t *testing.T, list string, got, want []string) {
	t.Helper()
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("%s: got damaged files\n%q, want\n%q", list, got, want)
	}
}

// withoutMultilineNames copies a list of xxhsum without the names that contain a newline,
// because xxhsum writes such a name as several lines. It returns the new file.
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

// flipLastBit flips a bit of the last byte of a file. A second call undoes the first.
func flipLastBit(t *testing.T, dir, name string) {
	t.Helper()
	if name == "" {
		return
	}
	path := dir + "/" + name
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1] ^= 1
	if err := os.WriteFile(path, text, 0); err != nil {
		t.Fatal(err)
	}
}

// expectSums compares the published shard with sums.xxh64. xxhsum checks most files. It
// cannot check escaped names (version 0.8.1) or paths beyond PATH_MAX (any version), so
// this test reads those lines itself.
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
			s.t.Errorf("checksum of %q: sums.xxh64 has %s, the file has %s", name, sum, got)
		}
	}
	if count != files {
		s.t.Errorf("sums.xxh64: got %d lines, want %d, one for each file", count, files)
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
	output := testkit.RunCommand(s.t, "sh", "-c", `cd "$1" && exec xxhsum -c "$2"`, "sh", s.publishedPath(), list)
	if ok := strings.Count(output, ": OK\n"); ok != len(sums) {
		s.t.Errorf("xxhsum: got %d of %d files OK:\n%s", ok, len(sums), output)
	}
}

// parseSumLine splits a line of sums.xxh64 into the checksum and the name.
func parseSumLine(line string) (sum, name string, err error) {
	line, whole := strings.CutSuffix(line, "\n")
	line, escaped := strings.CutPrefix(line, `\`)
	sum, name, ok := strings.Cut(line, "  ./")
	if _, hex := strconv.ParseUint(sum, 16, 64); hex != nil || !whole || !ok || len(sum) != 16 {
		return "", "", errors.New("not a line of xxhsum")
	}
	if escaped != strings.ContainsAny(name, "\\") {
		return "", "", errors.New("the backslash in front does not agree with the name")
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

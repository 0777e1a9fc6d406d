package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// refusal is a call that must fail with this status and a message that contains says,
// and must not change the disk.
//
// It runs in a directory with locks, ssd, and a small shard source/shard.
type refusal struct {
	name   string
	before []testkit.Step
	mount  func(t *testing.T, base string) // changes that are not steps; may be nil
	args   []string
	locks  string // the lock dir; "": locks
	as     int    // user id; 0: root
	status int
	says   string
	keeps  bool // the copy stays for the next call, and the message reports that
}

// nobody is the uid of a user who owns nothing.
const nobody = 65534

// newBase makes the directory of a refusal. All users can enter it.
func newBase(t testing.TB) string {
	t.Helper()
	base := t.TempDir()
	for _, dir := range []string{filepath.Dir(base), base} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testkit.MakeRemovable(t, base)
	testkit.Apply(t, base, testkit.Dir("locks", 0o755), testkit.Dir("ssd", 0o755),
		testkit.TextFile("source/shard/file", "content"), testkit.TextFile("source/shard/dir/inner", "more"))
	return base
}

// commandAs returns a command that runs in base, as another user if as is not 0.
func commandAs(base string, as int, bin string, args ...string) *exec.Cmd {
	c := exec.Command(bin, args...)
	c.Dir = base
	if as != 0 {
		id := uint32(as)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id, NoSetGroups: true}}
	}
	return c
}

// programForAll builds the program in a place where all users may run it.
func programForAll(t testing.TB) string {
	t.Helper()
	bin := program(t)
	for dir := filepath.Dir(bin); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func words(text string) []string { return strings.Fields(text) }

// copyArgs and removeArgs are the arguments of ordinary calls.
func copyArgs(shard string, more ...string) []string {
	return append(words("-c -l locks -s ssd -i a"), append(more, "--", shard)...)
}

func removeArgs(shard string, more ...string) []string {
	return append(words("-r -l locks -s ssd -i a"), append(more, "--", shard)...)
}

// checkRefusals runs the table, each call with and without --json.
func checkRefusals(t *testing.T, table []refusal) {
	bin := programForAll(t)
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			base := newBase(t)
			testkit.Apply(t, base, c.before...)
			if c.mount != nil {
				c.mount(t, base)
			}
			before := testkit.SnapshotTree(base)
			o := runCommand(commandAs(base, c.as, bin, append([]string{"--json", "--progress", "none"}, c.args...)...))
			changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(base))
			if o.status != c.status || !strings.Contains(o.err, c.says) {
				t.Errorf("%q: want status %d and %q, got %v", c.args, c.status, c.says, o)
			}
			if n := len(regexp.MustCompile(`(?m)^ERROR:`).FindAllString(o.err, -1)); n != 1 {
				t.Errorf("%q: %d lines with errors: %v", c.args, n, o)
			}
			if err := checkJSON(o); err != nil {
				t.Errorf("%q: %v", c.args, err)
			}
			if lines := c.unexpectedChanges(changed); len(lines) > 0 {
				t.Errorf("%q: changed on disk:\n%s\n%v", c.args, strings.Join(lines, "\n"), o)
			}
			if kept := strings.Contains(o.err, "kept in "); kept != c.keeps {
				t.Errorf("%q: copy kept %v: %v", c.args, kept, o)
			}
			count("refused calls", 1)
		})
	}
}

// checkJSON wants one line of JSON with the status and the error.
func checkJSON(o outcome) error {
	var r struct {
		Status *int
		Error  string
	}
	if err := json.Unmarshal([]byte(o.out), &r); err != nil {
		return fmt.Errorf("not JSON: %w: %q", err, o.out)
	}
	if strings.Count(o.out, "\n") != 1 || r.Status == nil || *r.Status != o.status || r.Error == "" {
		return fmt.Errorf("got JSON %q with status %d", o.out, o.status)
	}
	return nil
}

// unexpectedChanges returns the changes on disk that a failing call must not make. It
// may change times and sizes of directories, because it makes and deletes names there,
// and may leave the empty root of the state dirs.
func (c *refusal) unexpectedChanges(changed []string) (lines []string) {
	touched := regexp.MustCompile(`^"(\.|locks|ssd|ssd/\.shard_to_ssd|` + regexp.QuoteMeta(c.locks) + `)": ([mc]time|size): `)
	for _, line := range changed {
		switch {
		case touched.MatchString(line), line == `"ssd/.shard_to_ssd": appeared`:
		case c.keeps && strings.HasPrefix(line, `"ssd/.shard_to_ssd/shard`):
		default:
			lines = append(lines, line)
		}
	}
	return lines
}

func long(n int) string { return strings.Repeat("n", n) }

// A name that is not possible for a shard is refused by all modes that take a shard.
func TestNamesThatAreRefused(t *testing.T) {
	none, newline, own := "does not name a shard", "newline", "this tool keeps its own files under that name"
	var table []refusal
	for _, c := range []struct{ shard, says string }{
		{"", "SHARD is empty"}, {".", none}, {"..", none}, {"/", none}, {"//", none}, {"///", none},
		{"source/.", none}, {"source/..", none}, {"source/shard/..", none}, {"source/./", none}, {"source/shard/../", none},
		{"source/a\nb", newline}, {"source/a\n", newline}, {"source/a\rb", newline}, {"\n", newline}, {"source/\r/", newline},
		{"source/" + long(251), "the name has 251 bytes, at most 250"}, {"source/" + long(255), "255 bytes"},
		{"source/" + long(256), "256 bytes"}, {"source/" + long(5000), "5000 bytes"},
		{".shard_to_ssd", own}, {"ssd/.shard_to_ssd/", own}, {"source/.shard_to_ssd//", own},
	} {
		name := fmt.Sprintf("%.20q", c.shard)
		table = append(table,
			refusal{name: "-c " + name, args: copyArgs(c.shard), status: 2, says: c.says},
			refusal{name: "-r " + name, args: removeArgs(c.shard), status: 2, says: c.says},
			refusal{name: "--verify " + name, args: append(words("--verify -l locks -s ssd --"), c.shard), status: 2, says: c.says},
			refusal{name: "--list " + name, args: append(words("--list -l locks -s ssd --"), c.shard), status: 2, says: c.says})
	}
	checkRefusals(t, table)
}

// Command lines that make no sense.
func TestCommandLinesThatAreRefused(t *testing.T) {
	var table []refusal
	for args, says := range map[string]string{
		"":                                      "no mode",
		"-l locks -s ssd source/shard":          "no mode",
		"-c -r -i a source/shard":               "more than one mode: [copy remove]",
		"-cr -i a source/shard":                 "more than one mode",
		"--verify -c -i a source/shard":         "more than one mode",
		"--list --verify source/shard":          "more than one mode",
		"--verify -i a source/shard":            "-i goes with -c or -r only",
		"-c source/shard":                       "-i NAME is missing",
		"-r source/shard":                       "-i NAME is missing",
		"-c -i a":                               "SHARD is missing",
		"-r -i a":                               "SHARD is missing",
		"--verify":                              "SHARD is missing",
		"-c -i a source/shard source/other":     "more than one SHARD",
		"--list a b":                            "more than one SHARD",
		"-c -i a --bogus source/shard":          "unknown flag: --bogus",
		"-c -i a -q source/shard":               "unknown shorthand flag: 'q'",
		"-c -i a source/shard -s":               "flag needs an argument",
		"-c source/shard -i":                    "flag needs an argument",
		"-c --lock-timeout=soon source":         "must be a duration",
		"-c --lock-timeout=5 source":            "must be a duration",
		"-c --lock-timeout= source":             "must be a duration",
		"-c --lock-timeout=9999999h source":     "must be a duration",
		"-c -i a --lock-timeout=-1s source":     "--lock-timeout is negative",
		"--verify --lock-timeout=1s source":     "goes with -c, -r, --repair or --adopt only",
		"-c -i a --jobs=-1 source/shard":        "--jobs is negative",
		"-c -i a --jobs=257 source/shard":       "at most 256",
		"-c -i a --jobs=99999999999999999999 s": "must be an integer",
		"-c -i a --jobs= source/shard":          "must be an integer",
		"-c -i a --jobs=1.5 source/shard":       "must be an integer",
		"--verify --jobs=257 source/shard":      "at most 256",
		"-c -i a --engine=fast source/shard":    "is not one of",
		"-c -i a --engine= source/shard":        "is not one of",
		"-c -i a --bwlimit=fast source/shard":   "is not a number of bytes such as",
		"-r -i a --bwlimit=1M shard":            "--bwlimit goes with -c, --verify, --repair or --adopt only",
		"--list --bwlimit=1M":                   "--bwlimit goes with -c, --verify, --repair or --adopt only",
		"-r -i a --engine=direct shard":         "--engine goes with -c or --repair only",
		"-c -i a --progress=loud shard":         "is not one of",
		"-r -i a --replace shard":               "--replace goes with -c only",
		"--list --no-resume":                    "--no-resume goes with -c only",
		"-c -i a --lockdir= source/shard":       "the lock dir is empty",
		"-c -i a --ssddir= source/shard":        "the SSD dir is empty",
		"-c --id= source/shard":                 "the id is empty",
		"-r --id= source/shard":                 "the id is empty",
	} {
		table = append(table, refusal{name: args, args: words(args), status: 2, says: says})
	}
	for i := range table { // calls without directories get existing ones
		if a := table[i].args; !strings.Contains(table[i].name, "--lockdir=") && !strings.Contains(table[i].name, "--ssddir=") {
			table[i].args = append(words("-l locks --ssddir ssd"), a...)
		}
	}
	for _, id := range []string{"a\nb", "\n", "a\n"} {
		for _, mode := range []string{"-c", "-r"} {
			table = append(table, refusal{name: fmt.Sprintf("%s -i %q", mode, id),
				args: []string{mode, "-l", "locks", "-s", "ssd", "-i", id, "source/shard"}, status: 2, says: "newline or NUL in the id"})
		}
	}
	checkRefusals(t, table)
}

// runCycle runs all modes on a shard, after which nothing may be left.
func runCycle(t *testing.T, bin, base, id, shard string) {
	t.Helper()
	name := filepath.Base(shard)
	do := func(args ...string) outcome {
		t.Helper()
		o := runCommand(commandAs(base, 0, bin, append(append(words("--progress none -l locks -s ssd"), args...), "--", shard)...))
		if o.status != 0 {
			t.Fatalf("shard %q, id %.50q: %.50q: %.2000v", shard, id, args, o)
		}
		return o
	}
	do("-c", "-i", id)
	do("-c", "-i", id)
	testkit.ExpectSame(t, filepath.Join(base, shard), filepath.Join(base, "ssd", name))
	list, err := os.ReadFile(filepath.Join(base, "locks", name+".lock"))
	if string(list) != id || err != nil {
		t.Errorf("shard %q, id %.50q: got user file %.50q, %v", shard, id, list, err)
	}
	do("--verify")
	o := do("--list", "--json")
	if !json.Valid([]byte(o.out)) || strings.Count(o.out, "\n") != 1 {
		t.Errorf("shard %q, id %.50q: got --list --json %.500s", shard, id, o.out)
	}
	if o := do("--list"); !strings.Contains(o.out, ": published") || strings.Count(o.out, "\n") != 5 {
		t.Errorf("shard %q, id %.50q: got --list %.500q", shard, id, o.out)
	}
	do("-r", "-i", id)
	left := append(namesIn(filepath.Join(base, "locks")), namesIn(filepath.Join(base, "ssd", ".shard_to_ssd"))...)
	if len(left) > 0 || len(namesIn(filepath.Join(base, "ssd"))) > 1 {
		t.Errorf("shard %q, id %.50q: left behind %q", shard, id, left)
	}
	count("names and ids that work", 1)
}

// Any possible name works, for a shard and for a file in it.
func TestOddNamesWork(t *testing.T) {
	bin, base := program(t), newBase(t)
	for _, name := range []string{
		long(250), long(246), " ", "  a  b ", "-", "--", "-c", "--list", "...", "..a", "a..", "stdin", "\xff\xfe", "日本", "\t\x01\x7f\x1b[31m",
		"*", "$HOME", "'\"`", `\`, `\n`, "a.lock", "a.lock.log", "manifest", "trash", "stage", "plan", "journal", "%s%n", "shard_to_ssd", "a:b", "\u202e",
	} {
		testkit.Apply(t, base, testkit.TextFile("source/"+name+"/"+name, "content"), testkit.Symlink(name, "source/"+name+"/l"))
		runCycle(t, bin, base, "a", "source/"+name)
	}
	testkit.Apply(t, base, testkit.TextFile("source/-file", "one"), testkit.Dir("source/empty", 0o755))
	for _, shard := range []string{"source/-file", "source/empty", "source/shard/", "source//shard///", "source/../source/shard", "source/shard/../shard"} {
		runCycle(t, bin, base, "a", shard)
	}
	if o := runCommand(commandAs(filepath.Join(base, "source"), 0, bin, words("-c -l ../locks -s ../ssd -i a -- -file")...)); o.status != 0 {
		t.Errorf("a name that begins with a dash: %v", o)
	}
}

// An id may have any bytes except newline and NUL. All of them are kept, and an id that
// is a prefix of another is a different user.
func TestOddIDsWork(t *testing.T) {
	bin, base := program(t), newBase(t)
	ids := []string{
		" ", "\t", "\r", "a\r", " a", "a ", "-a", "--id", "a", "ab", "\xff\xfe", "日本", "\ufeffa", strings.Repeat("i", 100<<10), "a\x1b[0m", "stdin", "a\u2028b",
	}
	for _, id := range ids {
		runCycle(t, bin, base, id, "source/shard")
	}
	tool := func(mode, id string) {
		t.Helper()
		if o := runCommand(commandAs(base, 0, bin, mode, "-l", "locks", "-s", "ssd", "-i", id, "source/shard")); o.status != 0 {
			t.Fatalf("%s of %.50q: %.2000v", mode, id, o)
		}
	}
	for _, id := range ids {
		tool("-c", id)
	}
	for i, id := range ids {
		list, err := os.ReadFile(filepath.Join(base, "locks/shard.lock"))
		if err != nil || string(list) != strings.Join(ids[i:], "\n") {
			t.Fatalf("before the removal of %.50q: got user file %.300q, %v", id, list, err)
		}
		tool("-r", id)
	}
	if left := append(namesIn(filepath.Join(base, "locks")), namesIn(filepath.Join(base, "ssd/.shard_to_ssd"))...); len(left) > 0 {
		t.Errorf("left behind %q", left)
	}
}

// A user file longer than a page, which needs a log next to it, for each length of a
// shard name.
func TestLongListsOfLongNames(t *testing.T) {
	bin, base := program(t), newBase(t)
	for _, n := range []int{240, 245, 246, 247, 249, 250} {
		name := long(n)
		testkit.Apply(t, base, testkit.TextFile("source/"+name+"/file", "content"))
		a, b := strings.Repeat("a", 3000), strings.Repeat("b", 3000)
		for _, args := range [][]string{{"-c", "-i", a}, {"-c", "-i", b}, {"-r", "-i", a}, {"-r", "-i", b}} {
			o := runCommand(commandAs(base, 0, bin, append(append(words("--progress none -l locks -s ssd"), args...), "source/"+name)...))
			if o.status != 0 {
				t.Errorf("a name of %d bytes: %s: %v", n, args[0], o)
			}
		}
		if left := namesIn(filepath.Join(base, "locks")); len(left) > 0 {
			t.Errorf("a name of %d bytes: left behind %q", n, left)
		}
	}
}

package shardtossd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// traceChanges runs the program under strace and returns its system calls that change or
// sync something, one a line. The paths in them are relative to dir.
func traceChanges(t *testing.T, bin, dir string, args ...string) (calls []string) {
	t.Helper()
	return traceCalls(t, "fsync,fdatasync,syncfs,renameat2,unlinkat,linkat,ftruncate,pwrite64,flock", bin, dir, args...)
}

// traceCalls does the same as traceChanges for the given system calls.
func traceCalls(t *testing.T, names, bin, dir string, args ...string) (calls []string) {
	t.Helper()
	testkit.RequireTools(t, "strace")
	log := filepath.Join(t.TempDir(), "strace")
	testkit.RunCommand(t, "strace", append([]string{"-f", "-y", "-s", "200", "-o", log, "-e", "trace=" + names, bin}, args...)...)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	unfinished := map[string]string{} // by thread
	for line := range strings.Lines(strings.ReplaceAll(string(text), dir+"/", "")) {
		pid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if begun, cut := strings.CutSuffix(call, " <unfinished ...>"); cut {
			unfinished[pid] = begun
			continue
		}
		if strings.HasPrefix(call, "<... ") { // a call counts when it has returned
			call = unfinished[pid] + call[strings.Index(call, ">")+1:]
		}
		if !strings.Contains(call, " = -1 ") {
			calls = append(calls, call)
		}
	}
	return calls
}

// expectOrder checks that calls match all patterns in this order, with other calls between them.
func expectOrder(t *testing.T, calls []string, patterns ...string) {
	t.Helper()
	at := 0
	for _, p := range patterns {
		re := regexp.MustCompile(p)
		for at < len(calls) && !re.MatchString(calls[at]) {
			at++
		}
		if at == len(calls) {
			t.Fatalf("got no call %s in its place, the calls are\n%s", p, strings.Join(calls, "\n"))
		}
		at++
	}
}

// The syncs and renames have an order that makes each step durable before the next one
// relies on it. So a crash at any time leaves a state that the next run can repair.
func TestOrderOfSyncs(t *testing.T) {
	bin := buildProgram(t)
	for _, c := range []struct {
		name  string
		steps []testkit.Step
		data  []string // how the data becomes durable before it is read back
		all   []string // how everything else becomes durable
	}{
		{"few files", []testkit.Step{testkit.File("small", 100, 1), testkit.File("large", 9<<20, 2)},
			[]string{`^fdatasync\(.*stage/large>`},
			[]string{`^fsync\(.*/stage>`, `^fsync\(.*sums.xxh64.new>`, `^fsync\(.*manifest.new>`}},
		{"with a link", []testkit.Step{testkit.File("small", 100, 1), testkit.Symlink("small", "link")},
			[]string{`^syncfs\(`},
			[]string{`^pwrite64\(.*manifest.new>`, `^syncfs\(`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			testkit.Apply(t, dir, testkit.Dir("shard", 0o755), testkit.Dir("locks", 0o755), testkit.Dir("ssd", 0o755))
			testkit.Apply(t, filepath.Join(dir, "shard"), c.steps...)
			args := []string{"-l", filepath.Join(dir, "locks"), "-s", filepath.Join(dir, "ssd"), "-i", "a", filepath.Join(dir, "shard")}
			state := `ssd/.shard_to_ssd/shard`
			expected := append([]string{`^linkat\(.*"shard.lock"`, `^fsync\(\d+<locks>`, `^flock\(\d+<` + state + `>`}, c.data...)
			expected = append(expected, c.all...)
			expected = append(expected,
				`^renameat2\(.*"manifest.new".*"manifest"`, `^fsync\(\d+<`+state+`>`,
				`^renameat2\(.*"stage", \d+<ssd>, "shard", RENAME_NOREPLACE`, `^fsync\(\d+<ssd>`, `^fsync\(\d+<`+state+`>`,
				`^pwrite64\(.*, "a", 1, 0\)`, `^fdatasync\(\d+<locks/`, `^fsync\(\d+<locks>`, `^flock\(.*LOCK_UN`)
			expectOrder(t, traceChanges(t, bin, dir, append([]string{"-c"}, args...)...), expected...)
			expectOrder(t, traceChanges(t, bin, dir, append([]string{"-r"}, args...)...),
				`^pwrite64\(\d+<locks/shard.lock>, "\\n"`, `^fdatasync\(\d+<locks/shard.lock>`,
				`^ftruncate\(\d+<locks/shard.lock>, 0`, `^fsync\(\d+<locks/shard.lock>`,
				fmt.Sprintf(`^renameat2\(\d+<ssd>, "shard", \d+<%s>, "trash", RENAME_NOREPLACE`, state),
				`^fsync\(\d+<`+state+`>`, `^fsync\(\d+<ssd>`,
				`^unlinkat\(.*trash>, "small"`, `^unlinkat\(.*, "shard", AT_REMOVEDIR`,
				`^unlinkat\(\d+<locks>, "shard.lock"`, `^fsync\(\d+<locks>`, `^flock\(.*LOCK_UN`)
		})
	}
}

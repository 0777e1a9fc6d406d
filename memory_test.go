package shardtossd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"shard_to_ssd/internal/testkit"
)

// maxRSS is the most memory that a copy may use, in bytes: 16 workers with a block of
// 4 MiB each, and 64 MiB for everything else.
const maxRSS = 128 << 20

// Memory does not grow with the size of a file or with the number of files.
func TestMemoryIsBounded(t *testing.T) {
	bin := buildProgram(t)
	for _, c := range []struct {
		name  string
		steps []testkit.Step
	}{
		{"one file of 4 GiB", []testkit.Step{testkit.Sparse("big", 4<<30, []testkit.Extent{{Off: 0, Len: 64 << 20}})}},
		{"50,000 files", manyFiles(50, 1000)},
	} {
		dir := t.TempDir()
		if os.Geteuid() == 0 {
			dir = testkit.Mount(t, "tmpfs", 1<<30)
		}
		src, locks, ssd := filepath.Join(dir, "shard"), filepath.Join(dir, "locks"), filepath.Join(dir, "ssd")
		testkit.Apply(t, dir, testkit.Dir("shard", 0o755), testkit.Dir("locks", 0o755), testkit.Dir("ssd", 0o755))
		testkit.Apply(t, src, c.steps...)
		for _, mode := range []string{"-c", "--verify", "-r"} {
			args := []string{mode, "-l", locks, "-s", ssd, "--progress", "none", "--jobs", "16", src}
			if mode != "--verify" {
				args = append(args, "-i", "a")
			}
			rss := peakMemory(t, bin, args)
			t.Logf("%s: %s used at most %d MiB", c.name, mode, rss>>20)
			if rss > maxRSS {
				t.Errorf("%s: %s: got %d bytes of memory, want at most %d", c.name, mode, rss, maxRSS)
			}
		}
	}
}

// peakMemory runs the program and returns its peak memory, in bytes. A child process starts
// with the peak of the process that forks it. The peak of this test is larger than that of
// the program, so Python forks it: its peak is small.
func peakMemory(t *testing.T, bin string, args []string) int64 {
	t.Helper()
	const script = `import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)`
	testkit.RequireTools(t, "python3")
	out := testkit.RunCommand(t, "python3", append([]string{"-c", script, bin}, args...)...)
	kib, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// Writing a manifest of ten million entries takes at most 64 MiB, with many entries in
// one directory and with many directories. --verify with one worker reads that manifest,
// or a list of as many lines, within the same limit.
func TestTenMillionEntries(t *testing.T) {
	if os.Getenv("SHARD_TO_SSD_TESTS") != "all" {
		t.Skip("takes a minute and 2 GB of disk: SHARD_TO_SSD_TESTS=all")
	}
	const entries, most = 10_050_000, 64 << 20
	bin, dir := buildProgram(t), t.TempDir()
	writer := filepath.Join(dir, "writer")
	testkit.RunCommand(t, "go", "build", "-buildvcs=false", "-o", writer, "./verify/testdata/tenmillion")
	state, shard := filepath.Join(dir, "ssd", ".shard_to_ssd", "shard"), filepath.Join(dir, "ssd", "shard")
	for _, d := range []string{state, shard} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	checkPeak := func(step string, bytes int64) {
		t.Logf("after %v: %s used at most %d MiB", time.Since(began).Round(time.Second), step, bytes>>20)
		if bytes > most {
			t.Errorf("%s: got %d bytes of memory, want at most %d", step, bytes, int64(most))
		}
	}
	var wrote, kib int64
	fmt.Sscan(testkit.RunCommand(t, writer, state, shard), &wrote, &kib)
	if wrote != entries {
		t.Fatalf("writing the manifest: got %d entries, want %d", wrote, entries)
	}
	checkPeak("writing the manifest", kib<<10)

	// The shard is empty: each entry is a difference, except entries below a missing directory.
	output := filepath.Join(dir, "output")
	script := fmt.Sprintf(`%s --verify --jobs 1 --progress none "$@" <%s >%s 2>&1; test $? = 3`, bin, filepath.Join(state, "sums.xxh64"), output)
	for step, args := range map[string][]string{
		"reading the manifest": {"-s", filepath.Join(dir, "ssd"), "shard"},
		"reading the list":     {"--manifest", "-", shard},
	} {
		checkPeak(step, peakMemory(t, "sh", append([]string{"-c", script, "sh"}, args...)))
		if text, err := os.ReadFile(output); err != nil || !regexp.MustCompile(`: (50500\d\d|10000000) differences`).Match(text) {
			t.Errorf("%s: %v, want 50500xx or 10000000 differences, the output ends with %s", step, err, text[max(len(text)-200, 0):])
		}
	}
}

// manyFiles makes small files in several directories.
func manyFiles(dirs, files int) (steps []testkit.Step) {
	for d := range dirs {
		for f := range files {
			steps = append(steps, testkit.TextFile(fmt.Sprintf("directory%03d/file%04d", d, f), "contents"))
		}
	}
	return steps
}

package shardtossd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// maxRSS is what a copy may take, in bytes: 16 workers with a block of 4 MiB each,
// and 64 MiB for all the rest.
const maxRSS = 128 << 20

// Memory grows neither with the size of a file nor with the number of files.
func TestMemoryIsBounded(t *testing.T) {
	bin := program(t)
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
		for _, d := range []string{src, locks, ssd} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Apply(t, src, c.steps...)
		for _, mode := range []string{"-c", "--verify", "-r"} {
			args := []string{mode, "-l", locks, "-s", ssd, "--progress", "none", "--jobs", "16", src}
			if mode != "--verify" {
				args = append(args, "-i", "a")
			}
			rss := peak(t, bin, args)
			t.Logf("%s: %s took at most %d MiB", c.name, mode, rss>>20)
			if rss > maxRSS {
				t.Errorf("%s: %s took %d bytes, wanted at most %d", c.name, mode, rss, maxRSS)
			}
		}
	}
}

// peak runs the program and returns the most memory that it had, in bytes. A child
// begins with the peak of the process that forks it, and this one has more than
// the program: Python's is small.
func peak(t *testing.T, bin string, args []string) int64 {
	t.Helper()
	const script = `import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)`
	testkit.Need(t, "python3")
	out := testkit.Command(t, "python3", append([]string{"-c", script, bin}, args...)...)
	kib, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func manyFiles(dirs, files int) (steps []testkit.Step) {
	for d := range dirs {
		for f := range files {
			steps = append(steps, testkit.Content(fmt.Sprintf("directory%03d/file%04d", d, f), "contents"))
		}
	}
	return steps
}

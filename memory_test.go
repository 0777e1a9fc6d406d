package shardtossd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
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
			cmd := exec.Command(bin, args...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s %s: %v\n%s", c.name, mode, err, out)
			}
			rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			t.Logf("%s: %s took at most %d MiB", c.name, mode, rss>>20)
			if rss > maxRSS {
				t.Errorf("%s: %s took %d bytes, wanted at most %d", c.name, mode, rss, maxRSS)
			}
		}
	}
}

func manyFiles(dirs, files int) (steps []testkit.Step) {
	for d := range dirs {
		for f := range files {
			steps = append(steps, testkit.Content(fmt.Sprintf("directory%03d/file%04d", d, f), "contents"))
		}
	}
	return steps
}

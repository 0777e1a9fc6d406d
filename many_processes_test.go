package shardtossd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/internal/testkit"
)

// buildProgram builds the real binary.
func buildProgram(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "shard_to_ssd")
	testkit.RunCommand(t, "go", "build", "-buildvcs=false", "-o", bin, "./cmd/shard_to_ssd")
	return bin
}

// A hundred services register and unregister one shard fifty times each. Each service
// finds a complete shard after it has registered. At the end nothing is left.
func TestHundredProcesses(t *testing.T) {
	const services, rounds = 100, 50
	bin, dir := buildProgram(t), t.TempDir()
	if os.Geteuid() == 0 {
		dir = testkit.Mount(t, "tmpfs", 1<<30) // ten thousand processes, and each one syncs
	}
	h := serviceHost{bin: bin, src: filepath.Join(dir, "from", "shard"), locks: filepath.Join(dir, "locks"), ssd: filepath.Join(dir, "ssd")}
	for _, d := range []string{h.src, h.locks, h.ssd} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range sharedFiles() {
		testkit.Apply(t, h.src, testkit.TextFile(name, text))
	}
	var g errgroup.Group
	for i := range services {
		g.Go(func() error { return h.runService(fmt.Sprintf("service%d", i), rounds) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{h.locks, filepath.Join(h.ssd, ".shard_to_ssd")} {
		left, err := os.ReadDir(d)
		if err != nil || len(left) > 0 {
			t.Errorf("entries of %s: got %v, %v, want none", d, left, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(h.ssd, "shard")); !os.IsNotExist(err) {
		t.Errorf("the shard still exists, or Lstat failed: %v", err)
	}
}

// sharedFiles maps the names of the files in the shard to their contents.
func sharedFiles() map[string]string {
	return map[string]string{"a": "one", "sub/b": strings.Repeat("two", 5000), "sub/deep/c": ""}
}

// A serviceHost has the paths that all services share.
type serviceHost struct{ bin, src, locks, ssd string }

// runService registers a service, checks the shard and unregisters the service, again and again.
func (h serviceHost) runService(id string, rounds int) error {
	for range rounds {
		if err := h.runProgram("-c", id); err != nil {
			return err
		}
		if err := h.checkShard(); err != nil {
			return err
		}
		if err := h.runProgram("-r", id); err != nil {
			return err
		}
	}
	return nil
}

func (h serviceHost) runProgram(mode, id string) error {
	out, err := exec.Command(h.bin, mode, "-l", h.locks, "-s", h.ssd, "-i", id, "--progress", "none", h.src).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", mode, id, err, out)
	}
	return nil
}

// checkShard returns an error if a file of the published shard is missing or incomplete.
func (h serviceHost) checkShard() error {
	for name, text := range sharedFiles() {
		got, err := os.ReadFile(filepath.Join(h.ssd, "shard", name))
		if err != nil || string(got) != text {
			return fmt.Errorf("after registering: file %q has %d bytes, %v, want %d", name, len(got), err, len(text))
		}
	}
	return nil
}

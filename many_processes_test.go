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
	src := filepath.Join(dir, "from", "shard")
	want := map[string]string{"a": "one", "sub/b": strings.Repeat("two", 5000), "sub/deep/c": ""}
	locks, ssd := filepath.Join(dir, "locks"), filepath.Join(dir, "ssd")
	for _, d := range []string{src, locks, ssd} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range want {
		testkit.Apply(t, src, testkit.TextFile(name, text))
	}
	complete := func() error {
		for name, text := range want {
			got, err := os.ReadFile(filepath.Join(ssd, "shard", name))
			if err != nil || string(got) != text {
				return fmt.Errorf("after registering: file %q has %d bytes, %v, want %d", name, len(got), err, len(text))
			}
		}
		return nil
	}
	run := func(mode, id string) error {
		out, err := exec.Command(bin, mode, "-l", locks, "-s", ssd, "-i", id, "--progress", "none", src).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w\n%s", mode, id, err, out)
		}
		return nil
	}
	var g errgroup.Group
	for i := range services {
		g.Go(func() error {
			id := fmt.Sprintf("service%d", i)
			for range rounds {
				for _, step := range []func() error{
					func() error { return run("-c", id) }, complete,
					func() error { return run("-r", id) },
				} {
					if err := step(); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{locks, filepath.Join(ssd, ".shard_to_ssd")} {
		left, err := os.ReadDir(d)
		if err != nil || len(left) > 0 {
			t.Errorf("entries of %s: got %v, %v, want none", d, left, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(ssd, "shard")); !os.IsNotExist(err) {
		t.Errorf("the shard still exists, or Lstat failed: %v", err)
	}
}

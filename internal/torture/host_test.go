package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// shardName is the name of the shard in tests that need only one.
const shardName = "shard"

// host is the part of a machine that the tool uses: a source, a lock dir and an SSD
// dir. Its methods return errors and do not end the test, so that the caller can add
// what was done to the host before.
type host struct {
	bin                string
	source, locks, ssd string
	xfs                bool // the file system of the SSD is XFS
}

// newHost makes the three directories. The test fills the source.
func newHost(t testing.TB, bin, source, dir string) *host {
	t.Helper()
	h := &host{bin: bin, source: filepath.Join(source, shardName), locks: filepath.Join(dir, "locks"), ssd: filepath.Join(dir, "ssd")}
	for _, d := range []string{h.source, h.locks, h.ssd} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *host) name() string      { return filepath.Base(h.source) }
func (h *host) published() string { return filepath.Join(h.ssd, h.name()) }
func (h *host) userFile() string  { return filepath.Join(h.locks, h.name()+".lock") }
func (h *host) stateDir() string  { return filepath.Join(h.ssd, ".shard_to_ssd", h.name()) }

// outcome is the end of a process. The status is 128+n after signal n.
type outcome struct {
	status   int
	out, err string
}

func (o outcome) String() string { return fmt.Sprintf("status %d\n%s%s", o.status, o.out, o.err) }

// command returns a call of the tool with the host's directories. The mode is -c, -r,
// --verify and so on.
func (h *host) command(mode, id string, flags ...string) *exec.Cmd {
	args := append([]string{mode, "-l", h.locks, "-s", h.ssd, "--progress", "none"}, flags...)
	if id != "" {
		args = append(args, "-i", id)
	}
	return exec.Command(h.bin, append(args, h.source)...)
}

// runCommand runs a command and waits for it.
func runCommand(c *exec.Cmd) outcome {
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	failed := c.Run()
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return outcome{-1, out.String(), failed.Error()}
	}
	return outcome{statusOf(c.ProcessState), out.String(), err.String()}
}

// users returns the list in the user file. Without a file it is empty, without an
// error.
func (h *host) users() ([]string, error) {
	list, err := os.ReadFile(h.userFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == '\n' || r == 0 }), err
}

// checkWhole compares the published shard with the source. Without a published shard
// there is no error.
func (h *host) checkWhole() error {
	if _, err := os.Lstat(h.published()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if lines := testkit.CompareTrees(h.source, h.published()); len(lines) > 0 {
		return fmt.Errorf("the published shard differs from the source:\n%s", strings.Join(lines, "\n"))
	}
	return nil
}

// checkPrivate reports an error if other users could enter the root of the state dirs.
func (h *host) checkPrivate() error {
	root := filepath.Join(h.ssd, ".shard_to_ssd")
	s, err := os.Lstat(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && s.Mode().Perm()&0o077 != 0 && len(namesIn(root)) > 0 {
		err = fmt.Errorf("%s has mode %v", root, s.Mode())
	}
	return err
}

// checkSound checks the invariants of any moment: the published shard is complete, the
// users are one of the lists, and the state dirs are private.
func (h *host) checkSound(lists ...[]string) error {
	return errors.Join(h.checkUsersAmong(lists...), h.checkWhole(), h.checkPrivate())
}

func (h *host) checkUsersAmong(lists ...[]string) error {
	users, err := h.users()
	if err == nil && !slices.ContainsFunc(lists, func(l []string) bool { return slices.Equal(l, users) }) {
		err = fmt.Errorf("got users %q, want one of %q", users, lists)
	}
	return err
}

// checkRecovery checks what must hold after any failure, as soon as the disk works
// again: a copy by another instance succeeds and verifies, and when all users are
// removed nothing is left. The flags are those of that copy.
func (h *host) checkRecovery(flags ...string) error {
	if o := runCommand(h.command("-c", "other", flags...)); o.status != 0 {
		return fmt.Errorf("the next copy: %v", o)
	}
	if _, err := os.Lstat(h.published()); err != nil {
		return fmt.Errorf("after the next copy: %w", err)
	}
	if err := h.checkWhole(); err != nil {
		return fmt.Errorf("after the next copy: %w", err)
	}
	if o := runCommand(h.command("--verify", "")); o.status != 0 {
		return fmt.Errorf("verify after the next copy: %v", o)
	}
	users, err := h.users()
	if err != nil {
		return err
	}
	if !slices.Contains(users, "other") {
		return fmt.Errorf("users after the next copy: %q, want other among them", users)
	}
	for _, id := range users {
		if o := runCommand(h.command("-r", id)); o.status != 0 {
			return fmt.Errorf("removal by %q: %v", id, o)
		}
	}
	return h.checkTraceless()
}

// checkTraceless reports the files that are left of the shard.
func (h *host) checkTraceless() error {
	left := append(namesIn(h.locks), namesIn(filepath.Join(h.ssd, ".shard_to_ssd"))...)
	for _, name := range namesIn(h.ssd) {
		if name != ".shard_to_ssd" && name != "lost+found" {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %q", left)
	}
	return nil
}

// namesIn returns the names in a directory, or none if it cannot be read.
func namesIn(dir string) (list []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func statusOf(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}

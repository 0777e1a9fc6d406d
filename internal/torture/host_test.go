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

// shardName is the shard's name wherever one is enough.
const shardName = "shard"

// host is what the tool sees of a machine: a source, a lock dir and an SSD dir.
// Its methods return errors and end no test, so that the caller can say what had
// been done to the host before.
type host struct {
	bin                string
	source, locks, ssd string
	xfs                bool // the SSD's file system is known to be XFS
}

// newHost makes the three directories; source is filled by the test.
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
func (h *host) state() string     { return filepath.Join(h.ssd, ".shard_to_ssd", h.name()) }

// outcome is how a process ended: status is 128+n after signal n.
type outcome struct {
	status   int
	out, err string
}

func (o outcome) String() string { return fmt.Sprintf("status %d\n%s%s", o.status, o.out, o.err) }

// command is the tool with the host's directories; mode is -c, -r, --verify ...
func (h *host) command(mode, id string, flags ...string) *exec.Cmd {
	args := append([]string{mode, "-l", h.locks, "-s", h.ssd, "--progress", "none"}, flags...)
	if id != "" {
		args = append(args, "-i", id)
	}
	return exec.Command(h.bin, append(args, h.source)...)
}

// run runs a command to its end.
func run(c *exec.Cmd) outcome {
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	failed := c.Run()
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return outcome{-1, out.String(), failed.Error()}
	}
	return outcome{status(c.ProcessState), out.String(), err.String()}
}

// users is the list in the user file; none, and no error, if there is no file.
func (h *host) users() ([]string, error) {
	list, err := os.ReadFile(h.userFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == '\n' || r == 0 }), err
}

// whole says in what the published shard is not the source, and no error if there
// is nothing published.
func (h *host) whole() error {
	if _, err := os.Lstat(h.published()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if lines := testkit.Compare(h.source, h.published()); len(lines) > 0 {
		return fmt.Errorf("published, but not whole:\n%s", strings.Join(lines, "\n"))
	}
	return nil
}

// private says whether anybody else could look into what is not published.
func (h *host) private() error {
	root := filepath.Join(h.ssd, ".shard_to_ssd")
	s, err := os.Lstat(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && s.Mode().Perm()&0o077 != 0 && len(names(root)) > 0 {
		err = fmt.Errorf("%s has mode %v", root, s.Mode())
	}
	return err
}

// sound is what must hold at any moment: what is published is whole, and the
// users are one of the lists.
func (h *host) sound(lists ...[]string) error {
	return errors.Join(h.usersAmong(lists...), h.whole(), h.private())
}

func (h *host) usersAmong(lists ...[]string) error {
	users, err := h.users()
	if err == nil && !slices.ContainsFunc(lists, func(l []string) bool { return slices.Equal(l, users) }) {
		err = fmt.Errorf("the users are %q, none of %q", users, lists)
	}
	return err
}

// recovers is what must hold after whatever has happened, and with a disk that
// works again: another instance's copy succeeds and verifies, and when all users
// are gone there is nothing left. The flags are that copy's.
func (h *host) recovers(flags ...string) error {
	if o := run(h.command("-c", "other", flags...)); o.status != 0 {
		return fmt.Errorf("the next copy: %v", o)
	}
	if _, err := os.Lstat(h.published()); err != nil {
		return fmt.Errorf("after the next copy: %w", err)
	}
	if err := h.whole(); err != nil {
		return fmt.Errorf("after the next copy: %w", err)
	}
	if o := run(h.command("--verify", "")); o.status != 0 {
		return fmt.Errorf("verify after the next copy: %v", o)
	}
	users, err := h.users()
	if err != nil {
		return err
	}
	if !slices.Contains(users, "other") {
		return fmt.Errorf("after the next copy the users are %q", users)
	}
	for _, id := range users {
		if o := run(h.command("-r", id)); o.status != 0 {
			return fmt.Errorf("removal by %q: %v", id, o)
		}
	}
	return h.traceless()
}

// traceless says what is left of the shard.
func (h *host) traceless() error {
	left := append(names(h.locks), names(filepath.Join(h.ssd, ".shard_to_ssd"))...)
	for _, name := range names(h.ssd) {
		if name != ".shard_to_ssd" && name != "lost+found" {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %q", left)
	}
	return nil
}

// names are those in a directory; none if it cannot be read.
func names(dir string) (list []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func status(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}

package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// sabotage is a change of a user file or of the lock dir. A victim outside must not
// change.
type sabotage struct {
	name string
	want string // expected in the error, if the change is made before the call
	do   func(h *host, victim string) error
}

// insteadOfUserFile replaces the user file.
func insteadOfUserFile(put func(h *host, victim string) error) func(h *host, victim string) error {
	return func(h *host, victim string) error {
		if err := os.RemoveAll(h.userFile()); err != nil {
			return err
		}
		return put(h, victim)
	}
}

func makeNode(mode uint32, device int) func(h *host, victim string) error {
	return insteadOfUserFile(func(h *host, _ string) error { return unix.Mknod(h.userFile(), mode, device) })
}

var odd = []sabotage{
	{"a symbolic link", "is a symbolic link", insteadOfUserFile(func(h *host, victim string) error { return os.Symlink(victim, h.userFile()) })},
	{"a dangling link", "is a symbolic link", insteadOfUserFile(func(h *host, victim string) error { return os.Symlink(victim+"-new", h.userFile()) })},
	{"a link to a directory", "is a symbolic link", insteadOfUserFile(func(h *host, victim string) error { return os.Symlink(filepath.Dir(victim), h.userFile()) })},
	{"a second name of the victim", "has 2 hard links", insteadOfUserFile(func(h *host, victim string) error { return os.Link(victim, h.userFile()) })},
	{"a directory", "is a directory", insteadOfUserFile(func(h *host, _ string) error { return os.Mkdir(h.userFile(), 0o755) })},
	{"a FIFO", "is a FIFO", makeNode(unix.S_IFIFO|0o666, 0)},
	{"a socket", "is a socket", makeNode(unix.S_IFSOCK|0o666, 0)},
	{"the null device", "is a device", makeNode(unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))},
	{"a block device", "is a device", makeNode(unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250)))},
}

// changes are the kinds of sabotage after which there is a user file.
var changes = []sabotage{
	{"removed", "", func(h *host, _ string) error { return os.Remove(h.userFile()) }},
	{"another file", "", insteadOfUserFile(func(h *host, _ string) error { return os.WriteFile(h.userFile(), []byte("z"), 0o644) })},
	{"an empty file", "", insteadOfUserFile(func(h *host, _ string) error { return os.WriteFile(h.userFile(), nil, 0o644) })},
	{"the lock dir removed", "", func(h *host, _ string) error { return os.RemoveAll(h.locks) }},
	{"the lock dir renamed", "", func(h *host, _ string) error { return os.Rename(h.locks, h.locks+"-old") }},
	{"the lock dir made anew", "", func(h *host, _ string) error {
		return errors.Join(os.Rename(h.locks, h.locks+"-old"), os.Mkdir(h.locks, 0o755))
	}},
}

// sabotagedHost makes a host with a shard, and a victim.
func sabotagedHost(t *testing.T, dir string) (h *host, victim string) {
	t.Helper()
	h = newHost(t, faulty(t), filepath.Join(dir, "from"), dir)
	testkit.Apply(t, h.source, testkit.TextFile("a", "one"), testkit.TextFile("sub/b", "two"))
	victim = filepath.Join(dir, "outside", "victim")
	testkit.Apply(t, dir, testkit.TextFile("outside/victim", "a\nroot:x:0:0"))
	return h, victim
}

// A user file that is not a regular file is refused at once, with its name and the
// cause, and nothing changes.
func TestUserFileIsNone(t *testing.T) {
	testkit.RequireRoot(t)
	for _, s := range odd {
		h, victim := sabotagedHost(t, t.TempDir())
		if err := s.do(h, victim); err != nil {
			t.Fatal(err)
		}
		before := testkit.SnapshotTree(filepath.Dir(h.ssd))
		w := newWitness(h)
		for _, mode := range []string{"-c", "-r"} {
			o, err := w.runTask(task{do: mode, id: "a"})
			if o.status != 1 || !strings.Contains(o.err, s.want) || !strings.Contains(o.err, h.userFile()) {
				t.Errorf("%s, %s: %v: %v", s.name, mode, err, o)
			}
		}
		if o := runCommand(h.command("--list", "")); o.status > 1 {
			t.Errorf("%s: --list: %v", s.name, o)
		}
		if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(filepath.Dir(h.ssd))); len(changed) > 0 {
			t.Errorf("%s: changed: %s", s.name, strings.Join(changed, "\n"))
		}
		count("user files of other types", 1)
	}
}

// moments are the calls at which a process is stopped: it has the lock, or is about to
// take it. done lists the modes that have already written their list: later changes do
// not concern them.
var moments = []struct{ fault, done string }{
	{"flock:stop-before@1", ""},
	{"flock:stop-after@1", ""},
	{"read:stop-before@1", ""},
	{"flock:stop-after@2", ""},
	{"rename:stop-after@3", ""}, // -c: the next rename publishes
	{"fdatasync:stop-before@1", ""},
	{"rename:stop-before@1", "-r"},
	{"rmdir:stop-before@1", "-r"},
	{"unlock:stop-before@1", "-c -r"},
}

// The user file changes in any way while a process has its lock, or waits for it. The
// process ends, and if it reported a registration, its user is registered. The victim
// does not change.
func TestUserFileUnderUs(t *testing.T) {
	testkit.RequireRoot(t)
	rounds(t, 0.02, func(t *testing.T, r *round) {
		dir, n := testkit.Mount(t, "tmpfs", 256<<20), 0
		for _, m := range moments {
			for _, s := range slices.Concat(odd, changes) {
				if !r.full && r.IntN(4) > 0 && s.name != "removed" {
					continue
				}
				for _, k := range []task{{do: "-c", id: "x"}, {do: "-r", id: "a"}} {
					n++
					k.fault = m.fault
					h, victim := sabotagedHost(t, filepath.Join(dir, fmt.Sprint(n)))
					if err := underUs(h, victim, k, s, strings.Contains(m.done, k.do)); err != nil {
						t.Errorf("%v, sabotage %s: %v", k, s.name, err)
					}
					count("user files and lock dirs changed under a process", 1)
				}
			}
		}
	})
}

func underUs(h *host, victim string, k task, s sabotage, done bool) error {
	w := newWitness(h)
	if k.do == "-r" {
		if _, err := w.runTask(task{do: "-c", id: "a"}); err != nil {
			return err
		}
	} else if err := os.WriteFile(h.userFile(), nil, 0o644); err != nil {
		return err
	}
	outside := testkit.SnapshotTree(filepath.Dir(victim))
	p, err := w.startProcess(k)
	if err != nil {
		return err
	}
	p.waitSettled()
	select {
	case <-p.ended: // it ended without this call
		return p.failed
	default:
	}
	if err := s.do(h, victim); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	linked := testkit.SnapshotTree(filepath.Dir(victim)) // a hard link changes its ctime
	if err := p.resume(); err != nil {
		return err
	}
	<-p.ended
	o := p.result
	if changed := testkit.DiffSnapshots(linked, testkit.SnapshotTree(filepath.Dir(victim))); len(changed) > 0 {
		return fmt.Errorf("changed outside: %s: %v", strings.Join(changed, "\n"), o)
	}
	if len(outside) != len(linked) {
		return fmt.Errorf("the sabotage itself: %v", testkit.DiffSnapshots(outside, linked))
	}
	if err := h.checkWhole(); err != nil {
		return err
	}
	switch {
	case o.status == 1 && strings.Contains(o.err, h.locks):
		return nil
	case o.status != 0:
		return fmt.Errorf("%v", o)
	case done:
		return nil
	}
	return checkRegistered(h, k, o)
}

// checkRegistered compares the users with the report of a process that succeeded.
func checkRegistered(h *host, k task, o outcome) error {
	if s, err := os.Lstat(h.userFile()); err == nil && !s.Mode().IsRegular() {
		return fmt.Errorf("it reported success, but the user file is %v: %v", s.Mode(), o)
	}
	users, err := h.users()
	_, statErr := os.Lstat(h.published())
	switch {
	case k.do == "-c" && (err != nil || !slices.Contains(users, k.id) || statErr != nil):
		return fmt.Errorf("it reported a registration, but the users are %q, %v, the shard: %v: %v", users, err, statErr, o)
	case k.do == "-r" && (err != nil || slices.Contains(users, k.id)):
		return fmt.Errorf("it reported a removal, but the users are %q, %v: %v", users, err, o)
	case k.do == "-r" && len(users) > 0 && statErr != nil:
		return fmt.Errorf("deleted, but the users are %q: %v", users, o)
	}
	return nil
}

// In a sticky directory that all may write to, fs.protected_regular forbids root to
// open a file of another owner with O_CREAT. The tool must still use that user file.
func TestUserFileOfAnotherOwner(t *testing.T) {
	testkit.RequireRoot(t)
	h, _ := sabotagedHost(t, t.TempDir())
	testkit.Apply(t, filepath.Dir(h.locks), testkit.Chmod("locks", 0o1777),
		testkit.TextFile("locks/"+shardName+".lock", "a"), testkit.Chown("locks/"+shardName+".lock", 1234, 1234))
	for _, step := range []struct{ mode, id, users string }{{"-c", "b", "a\nb"}, {"-r", "a", "b"}, {"-r", "b", ""}} {
		if o := runCommand(h.command(step.mode, step.id)); o.status != 0 {
			t.Fatalf("%s %s: %v", step.mode, step.id, o)
		}
		users, err := h.users()
		if err != nil || strings.Join(users, "\n") != step.users {
			t.Errorf("after %s %s: %q, %v", step.mode, step.id, users, err)
		}
	}
	if err := h.checkTraceless(); err != nil {
		t.Error(err)
	}
}

// The lock dir may be a symbolic link to a directory.
func TestLockDirThroughALink(t *testing.T) {
	h, _ := sabotagedHost(t, t.TempDir())
	testkit.Apply(t, filepath.Dir(h.locks), testkit.Rename("locks", "real"), testkit.Symlink("real", "locks"))
	if err := h.checkRecovery(); err != nil {
		t.Error(err)
	}
}

// A userFile is a user file that was written by hand, with the expected results.
type userFile struct {
	name    string
	list    string
	refused string   // part of the error; the file is then unchanged
	users   []string // as in --list
	added   string   // the file after -c -i x
	left    string   // the file after -r -i a; "" if it is deleted
}

var userFiles = []userFile{
	{name: "a NUL in the middle", list: "a\n\x7fELF\x00\x01\xffb", refused: "has a NUL byte at offset 6"},
	{name: "NULs between ids", list: "a\n\x00\x00\nb", refused: "has a NUL byte at offset 2"},
	{name: "a NUL at the front", list: "\x00a\nb", refused: "has a NUL byte at offset 0"},
	{name: "17 MiB of ids", list: "a\n" + strings.Repeat("0123456789abcde\n", 17<<16), refused: "has more than 16777216 bytes"},
	{name: "17 MiB of blank lines", list: strings.Repeat("\n", 17<<20), refused: "has more than 16777216 bytes"},

	// A carriage return or a byte order mark is part of an id, like any other byte:
	// none of these users is a.
	{name: "CRLF", list: "a\r\nb\r\n", users: []string{"a\r", "b\r"}, added: "a\r\nb\r\nx", left: "a\r\nb\r\n"},
	{name: "a byte order mark", list: "\ufeffa\nb", users: []string{"\ufeffa", "b"}, added: "\ufeffa\nb\nx", left: "\ufeffa\nb"},
	{name: "spaces", list: " a\na \nb", users: []string{" a", "a ", "b"}, added: " a\na \nb\nx", left: " a\na \nb"},
	{name: "invalid UTF-8", list: "\xff\xfe\na\n\xc3", users: []string{"\ufffd\ufffd", "a", "\ufffd"}, added: "\xff\xfe\na\n\xc3\nx", left: "\xff\xfe\n\xc3"},
	{name: "an id of 1 MiB", list: "a\n" + long(1<<20), users: []string{"a", long(1 << 20)}, added: "a\n" + long(1<<20) + "\nx", left: long(1 << 20)},

	{name: "a newline at the end", list: "a\nb\n", users: []string{"a", "b"}, added: "a\nb\nx", left: "b"},
	{name: "blank lines", list: "\n\na\n\n\nb\n\n", users: []string{"a", "b"}, added: "a\nb\nx", left: "b"},
	{name: "duplicates", list: "a\nb\na\na\nb", users: []string{"a", "b"}, added: "a\nb\nx", left: "b"},
	{name: "nobody else", list: "a\n\na\n", users: []string{"a"}, added: "a\nx"},
	{name: "nobody", list: "", users: []string{}, added: "x"},
	{name: "only blank lines", list: "\n\n\n", users: []string{}, added: "x"},
	// The leftovers of a power cut while an id was added, and while one was removed.
	{name: "NULs at the end", list: "a\nb\x00\x00\x00", users: []string{"a", "b"}, added: "a\nb\nx", left: "b"},
	{name: "NULs and newlines at the end", list: "a\nb\x00\x00\n\n", users: []string{"a", "b"}, added: "a\nb\nx", left: "b"},
	{name: "only NULs", list: "\x00\x00", users: []string{}, added: "x"},
}

// Every odd or damaged user file is read in one defined way, or refused and not
// changed.
func TestOddUserFiles(t *testing.T) {
	for _, c := range userFiles {
		h, _ := sabotagedHost(t, t.TempDir())
		if err := errors.Join(copiedFor("first")(h), c.putFile(h)); err != nil {
			t.Fatal(err)
		}
		before := testkit.SnapshotTree(filepath.Dir(h.ssd))
		err := c.checkListed(h)
		if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(filepath.Dir(h.ssd))); len(changed) > 0 {
			err = errors.Join(err, fmt.Errorf("--list changed %q", changed))
		}
		if c.refused != "" {
			err = errors.Join(err, c.checkRefused(h, before))
		} else {
			err = errors.Join(err, c.checkBecomes(h, "-c", "x", c.added), c.putFile(h), c.checkBecomes(h, "-r", "a", c.left))
		}
		if err != nil {
			t.Errorf("%s: %.3000v", c.name, err)
		}
		count("user files that are odd", 1)
	}
}

func (c *userFile) putFile(h *host) error { return os.WriteFile(h.userFile(), []byte(c.list), 0o644) }

// checkListed checks the users in --list. For an unreadable list it wants an error, and
// no claim that no user needs the shard.
func (c *userFile) checkListed(h *host) error {
	o := runCommand(h.command("--list", "", "--json"))
	var r struct {
		Shards []struct {
			State string
			Users []string
		}
	}
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || len(r.Shards) != 1 {
		return fmt.Errorf("--list: %v: %v", err, o)
	}
	if s := r.Shards[0]; c.refused != "" {
		if s.State != "published" {
			return fmt.Errorf("--list shows state %q for a shard with an unreadable list", s.State)
		}
		return o.checkOneError(1, h.userFile(), c.refused)
	} else if o.status != 0 || !slices.Equal(s.Users, c.users) {
		return fmt.Errorf("--list: got users %.100q, want %.100q: %v", s.Users, c.users, o)
	}
	return nil
}

func (c *userFile) checkRefused(h *host, before testkit.Tree) error {
	for _, mode := range []string{"-c", "-r"} {
		for _, id := range []string{"a", "x"} {
			if err := runCommand(h.command(mode, id, "--json")).checkOneError(1, h.userFile(), c.refused); err != nil {
				return fmt.Errorf("%s of %s: %w", mode, id, err)
			}
		}
	}
	if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(filepath.Dir(h.ssd))); len(changed) > 0 {
		return fmt.Errorf("it was refused, but changed %q", changed)
	}
	return nil
}

// checkBecomes checks the content of the file after a call, and that a shard with users
// is published.
func (c *userFile) checkBecomes(h *host, mode, id, want string) error {
	if o := runCommand(h.command(mode, id)); o.status != 0 {
		return fmt.Errorf("%s: %v", mode, o)
	}
	list, err := os.ReadFile(h.userFile())
	if string(list) != want || (err != nil) != (want == "") {
		return fmt.Errorf("after %s: got file %.100q, %v, want %.100q", mode, list, err, want)
	}
	if _, err := os.Lstat(h.published()); (err == nil) != (want != "") {
		return fmt.Errorf("after %s: users %.100q have no shard: %v", mode, list, err)
	}
	return h.checkWhole()
}

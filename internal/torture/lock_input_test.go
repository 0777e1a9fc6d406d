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

// sabotage is something done to a user file or to the lock dir. There is a victim
// outside, which must stay as it is.
type sabotage struct {
	name string
	want string // in the error, if the file is like this from the beginning
	do   func(h *host, victim string) error
}

// instead puts something else in the user file's place.
func instead(put func(h *host, victim string) error) func(h *host, victim string) error {
	return func(h *host, victim string) error {
		if err := os.RemoveAll(h.userFile()); err != nil {
			return err
		}
		return put(h, victim)
	}
}

func node(mode uint32, device int) func(h *host, victim string) error {
	return instead(func(h *host, _ string) error { return unix.Mknod(h.userFile(), mode, device) })
}

var odd = []sabotage{
	{"a symbolic link", "is a symbolic link", instead(func(h *host, victim string) error { return os.Symlink(victim, h.userFile()) })},
	{"a dangling link", "is a symbolic link", instead(func(h *host, victim string) error { return os.Symlink(victim+"-new", h.userFile()) })},
	{"a link to a directory", "is a symbolic link", instead(func(h *host, victim string) error { return os.Symlink(filepath.Dir(victim), h.userFile()) })},
	{"a second name of the victim", "has 2 hard links", instead(func(h *host, victim string) error { return os.Link(victim, h.userFile()) })},
	{"a directory", "is a directory", instead(func(h *host, _ string) error { return os.Mkdir(h.userFile(), 0o755) })},
	{"a FIFO", "is a FIFO", node(unix.S_IFIFO|0o666, 0)},
	{"a socket", "is a socket", node(unix.S_IFSOCK|0o666, 0)},
	{"the null device", "is a device", node(unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))},
	{"a block device", "is a device", node(unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250)))},
}

// changes are those that leave user files.
var changes = []sabotage{
	{"removed", "", func(h *host, _ string) error { return os.Remove(h.userFile()) }},
	{"another file", "", instead(func(h *host, _ string) error { return os.WriteFile(h.userFile(), []byte("z"), 0o644) })},
	{"an empty file", "", instead(func(h *host, _ string) error { return os.WriteFile(h.userFile(), nil, 0o644) })},
	{"the lock dir removed", "", func(h *host, _ string) error { return os.RemoveAll(h.locks) }},
	{"the lock dir renamed", "", func(h *host, _ string) error { return os.Rename(h.locks, h.locks+"-old") }},
	{"the lock dir made anew", "", func(h *host, _ string) error {
		return errors.Join(os.Rename(h.locks, h.locks+"-old"), os.Mkdir(h.locks, 0o755))
	}},
}

// sabotaged is a host with a shard, and a victim.
func sabotaged(t *testing.T, dir string) (h *host, victim string) {
	t.Helper()
	h = newHost(t, faulty(t), filepath.Join(dir, "from"), dir)
	testkit.Apply(t, h.source, testkit.Content("a", "one"), testkit.Content("sub/b", "two"))
	victim = filepath.Join(dir, "outside", "victim")
	testkit.Apply(t, dir, testkit.Content("outside/victim", "a\nroot:x:0:0"))
	return h, victim
}

// A user file that is none is refused by name and cause, at once, and nothing is
// changed anywhere.
func TestUserFileIsNone(t *testing.T) {
	testkit.NeedRoot(t)
	for _, s := range odd {
		h, victim := sabotaged(t, t.TempDir())
		if err := s.do(h, victim); err != nil {
			t.Fatal(err)
		}
		before := testkit.Snapshot(filepath.Dir(h.ssd))
		w := watch(h)
		for _, mode := range []string{"-c", "-r"} {
			o, err := w.perform(task{do: mode, id: "a"})
			if o.status != 1 || !strings.Contains(o.err, s.want) || !strings.Contains(o.err, h.userFile()) {
				t.Errorf("%s, %s: %v: %v", s.name, mode, err, o)
			}
		}
		if o := run(h.command("--list", "")); o.status > 1 {
			t.Errorf("%s, --list: %v", s.name, o)
		}
		if changed := testkit.Diff(before, testkit.Snapshot(filepath.Dir(h.ssd))); len(changed) > 0 {
			t.Errorf("%s: changed: %s", s.name, strings.Join(changed, "\n"))
		}
		count("user files that are none", 1)
	}
}

// moments are when a process is stopped: when it has the lock, or is about to. Done
// are the modes whose list is written by then, for good: what comes later is not
// their concern.
var moments = []struct{ fault, done string }{
	{"flock:stop-before@1", ""},
	{"flock:stop-after@1", ""},
	{"read:stop-before@1", ""},
	{"flock:stop-after@2", ""},
	{"rename:stop-after@3", ""}, // -c: the next one publishes
	{"fdatasync:stop-before@1", ""},
	{"rename:stop-before@1", "-r"},
	{"rmdir:stop-before@1", "-r"},
	{"unlock:stop-before@1", "-c -r"},
}

// Whatever is done to the user file while a process holds its lock, or waits for it:
// the process ends, and who was told that he is registered is. The victim stays.
func TestUserFileUnderUs(t *testing.T) {
	testkit.NeedRoot(t)
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
					h, victim := sabotaged(t, filepath.Join(dir, fmt.Sprint(n)))
					if err := underUs(h, victim, k, s, strings.Contains(m.done, k.do)); err != nil {
						t.Errorf("%v, meanwhile %s: %v", k, s.name, err)
					}
					count("user files and lock dirs changed under a process", 1)
				}
			}
		}
	})
}

func underUs(h *host, victim string, k task, s sabotage, done bool) error {
	w := watch(h)
	if k.do == "-r" {
		if _, err := w.perform(task{do: "-c", id: "a"}); err != nil {
			return err
		}
	} else if err := os.WriteFile(h.userFile(), nil, 0o644); err != nil {
		return err
	}
	outside := testkit.Snapshot(filepath.Dir(victim))
	p, err := w.start(k)
	if err != nil {
		return err
	}
	p.settled()
	select {
	case <-p.ended: // it makes no such call
		return p.failed
	default:
	}
	if err := s.do(h, victim); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	linked := testkit.Snapshot(filepath.Dir(victim)) // a link to it changes it
	if err := p.goOn(); err != nil {
		return err
	}
	<-p.ended
	o := p.result
	if changed := testkit.Diff(linked, testkit.Snapshot(filepath.Dir(victim))); len(changed) > 0 {
		return fmt.Errorf("outside: %s: %v", strings.Join(changed, "\n"), o)
	}
	if len(outside) != len(linked) {
		return fmt.Errorf("the sabotage itself: %v", testkit.Diff(outside, linked))
	}
	if err := h.whole(); err != nil {
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
	return registered(h, k, o)
}

// registered holds a process that has succeeded to what it said.
func registered(h *host, k task, o outcome) error {
	if s, err := os.Lstat(h.userFile()); err == nil && !s.Mode().IsRegular() {
		return fmt.Errorf("told that all is well, but the user file is %v: %v", s.Mode(), o)
	}
	users, err := h.users()
	_, statErr := os.Lstat(h.published())
	switch {
	case k.do == "-c" && (err != nil || !slices.Contains(users, k.id) || statErr != nil):
		return fmt.Errorf("told that it is registered, but the users are %q, %v, the shard: %v: %v", users, err, statErr, o)
	case k.do == "-r" && (err != nil || slices.Contains(users, k.id)):
		return fmt.Errorf("told that it is not registered, but the users are %q, %v: %v", users, err, o)
	case k.do == "-r" && len(users) > 0 && statErr != nil:
		return fmt.Errorf("deleted, but the users are %q: %v", users, o)
	}
	return nil
}

// In a sticky directory that all may write to, with fs.protected_regular, root may
// not open another owner's file with O_CREAT. It still is the user file.
func TestUserFileOfAnotherOwner(t *testing.T) {
	testkit.NeedRoot(t)
	h, _ := sabotaged(t, t.TempDir())
	testkit.Apply(t, filepath.Dir(h.locks), testkit.Chmod("locks", 0o1777),
		testkit.Content("locks/"+shardName+".lock", "a"), testkit.Chown("locks/"+shardName+".lock", 1234, 1234))
	for _, step := range []struct{ mode, id, users string }{{"-c", "b", "a\nb"}, {"-r", "a", "b"}, {"-r", "b", ""}} {
		if o := run(h.command(step.mode, step.id)); o.status != 0 {
			t.Fatalf("%s %s: %v", step.mode, step.id, o)
		}
		users, err := h.users()
		if err != nil || strings.Join(users, "\n") != step.users {
			t.Errorf("after %s %s: %q, %v", step.mode, step.id, users, err)
		}
	}
	if err := h.traceless(); err != nil {
		t.Error(err)
	}
}

// A lock dir that is reached by a symbolic link is one like any other.
func TestLockDirThroughALink(t *testing.T) {
	h, _ := sabotaged(t, t.TempDir())
	testkit.Apply(t, filepath.Dir(h.locks), testkit.Rename("locks", "real"), testkit.Symlink("real", "locks"))
	if err := h.recovers(); err != nil {
		t.Error(err)
	}
}

// A userFile is what somebody has made of one, and what becomes of it.
type userFile struct {
	name    string
	list    string
	refused string   // why; nothing is changed then
	users   []string // as --list has them
	added   string   // the file after -c of x
	left    string   // the file after -r of a, "" if it is gone
}

var userFiles = []userFile{
	{name: "a NUL in the middle", list: "a\n\x7fELF\x00\x01\xffb", refused: "has a NUL byte at offset 6"},
	{name: "NULs between ids", list: "a\n\x00\x00\nb", refused: "has a NUL byte at offset 2"},
	{name: "a NUL at the front", list: "\x00a\nb", refused: "has a NUL byte at offset 0"},
	{name: "17 MiB of ids", list: "a\n" + strings.Repeat("0123456789abcde\n", 17<<16), refused: "has more than 16777216 bytes"},
	{name: "17 MiB of blank lines", list: strings.Repeat("\n", 17<<20), refused: "has more than 16777216 bytes"},

	// A carriage return, or a byte order mark, is as much of an id as any other byte:
	// a is none of these users.
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
	// What a power cut leaves of an id that was being added, and of one that was
	// being taken off.
	{name: "NULs at the end", list: "a\nb\x00\x00\x00", users: []string{"a", "b"}, added: "a\nb\nx", left: "b"},
	{name: "NULs and newlines at the end", list: "a\nb\x00\x00\n\n", users: []string{"a", "b"}, added: "a\nb\nx", left: "b"},
	{name: "only NULs", list: "\x00\x00", users: []string{}, added: "x"},
}

// Every user file that is odd, or damaged, is read in one way, or refused as it is.
func TestOddUserFiles(t *testing.T) {
	for _, c := range userFiles {
		h, _ := sabotaged(t, t.TempDir())
		if err := errors.Join(copied("first")(h), c.put(h)); err != nil {
			t.Fatal(err)
		}
		before := testkit.Snapshot(filepath.Dir(h.ssd))
		err := c.listed(h)
		if changed := testkit.Diff(before, testkit.Snapshot(filepath.Dir(h.ssd))); len(changed) > 0 {
			err = errors.Join(err, fmt.Errorf("--list has changed %q", changed))
		}
		if c.refused != "" {
			err = errors.Join(err, c.isRefused(h, before))
		} else {
			err = errors.Join(err, c.becomes(h, "-c", "x", c.added), c.put(h), c.becomes(h, "-r", "a", c.left))
		}
		if err != nil {
			t.Errorf("%s: %.3000v", c.name, err)
		}
		count("user files that are odd", 1)
	}
}

func (c *userFile) put(h *host) error { return os.WriteFile(h.userFile(), []byte(c.list), 0o644) }

// listed wants of --list the users; of a list that cannot be read an error, and no
// word of nobody who needs the shard.
func (c *userFile) listed(h *host) error {
	o := run(h.command("--list", "", "--json"))
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
			return fmt.Errorf("--list says %q of a shard whose users nobody knows", s.State)
		}
		return o.one(1, h.userFile(), c.refused)
	} else if o.status != 0 || !slices.Equal(s.Users, c.users) {
		return fmt.Errorf("--list: the users are %.100q, want %.100q: %v", s.Users, c.users, o)
	}
	return nil
}

func (c *userFile) isRefused(h *host, before testkit.Tree) error {
	for _, mode := range []string{"-c", "-r"} {
		for _, id := range []string{"a", "x"} {
			if err := run(h.command(mode, id, "--json")).one(1, h.userFile(), c.refused); err != nil {
				return fmt.Errorf("%s of %s: %w", mode, id, err)
			}
		}
	}
	if changed := testkit.Diff(before, testkit.Snapshot(filepath.Dir(h.ssd))); len(changed) > 0 {
		return fmt.Errorf("refused, and changed %q", changed)
	}
	return nil
}

// becomes wants the file to be this after a call, and the shard to be there if it
// has users.
func (c *userFile) becomes(h *host, mode, id, want string) error {
	if o := run(h.command(mode, id)); o.status != 0 {
		return fmt.Errorf("%s: %v", mode, o)
	}
	list, err := os.ReadFile(h.userFile())
	if string(list) != want || (err != nil) != (want == "") {
		return fmt.Errorf("after %s the file is %.100q, %v, want %.100q", mode, list, err, want)
	}
	if _, err := os.Lstat(h.published()); (err == nil) != (want != "") {
		return fmt.Errorf("after %s the users are %.100q, and the shard: %v", mode, list, err)
	}
	return h.whole()
}

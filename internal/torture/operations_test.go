package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"shard_to_ssd/internal/testkit"
)

// An operation is one call of the tool on a host that was brought into a state,
// and what may be there when it was stopped anywhere.
type operation struct {
	name    string
	source  string              // a name in sources
	prepare func(h *host) error // nil: an empty host
	mode    string
	id      string
	flags   []string
	before  []string // users
	after   []string // users, when it is done
	there   bool     // the shard is published when it is done
	foreign bool     // somebody else's directory is there before
	kept    bool     // and must be there for ever
	refused bool     // it fails, with status 1, also without any fault
	damaged bool     // the shard is, before: no entry may become worse
	first   string   // the mode that must succeed before another instance recovers; "": none
	cold    bool     // the source is not in the page cache: only then its files are read at once
}

// sources are what is copied. They are small, and have one of each kind of entry
// that the copier treats in a way of its own.
var sources = map[string][]testkit.Step{
	// Links cannot be synced one by one: everything is, by syncfs.
	"links": {
		testkit.File("big", 9<<20+5, 1), testkit.Hardlink("big", "z/big"),
		testkit.Sparse("sparse", 9<<20, []testkit.Extent{{Off: 1 << 20, Len: 4096}, {Off: 8 << 20, Len: 100}}),
		testkit.File("d/direct", 200<<10, 2), testkit.File("d/small", 5000, 3), testkit.Content("d/empty", ""),
		testkit.Xattr("d/small", "user.note", "carried"), testkit.Chown("d/small", 1, 2),
		testkit.Symlink("../big", "d/link"), testkit.Hardlink("d/small", "d/hard"),
		testkit.File("ro/f", 10, 4), testkit.Xattr("ro", "user.note", "of a directory"), testkit.Chmod("ro", 0o555),
	},
	// Without any, every file and directory is synced by itself.
	"plain": {
		testkit.File("big", 8<<20+1, 5), testkit.File("a/direct", 130<<10, 6), testkit.File("a/small", 100, 7),
		testkit.File("a/ro/f", 10, 8), testkit.Chmod("a/ro", 0o555),
	},
	// As little as has a large file, a link and a directory in it.
	"tiny": {
		testkit.Sparse("large", 5<<20, []testkit.Extent{{Off: 4 << 20, Len: 4096}}),
		testkit.File("d/small", 3000, 9), testkit.Symlink("large", "link"), testkit.Chmod("d", 0o555),
	},
	// More small files than are read at once.
	"many": manyFiles(40),
	// What somebody else has put under the public name.
	"foreign": {
		testkit.File("theirs", 5000, 11), testkit.Content("d/precious", "do not lose this"),
		testkit.Times("theirs", then, then), testkit.Times("d/precious", then, then),
		testkit.Times("d", then, then), testkit.Times(".", then, then),
	},
}

// manyFiles are files of some pages in one directory.
func manyFiles(n int) (steps []testkit.Step) {
	for i := range n {
		steps = append(steps, testkit.File(fmt.Sprint("d/", i), int64(1000*i+7), uint64(100+i)))
	}
	return steps
}

var then = time.Unix(1_000_000_000, 123456789)

// Lists of users about a page long: above it, and a byte for each side of it.
var (
	longList = []string{longID("x", 1500), longID("y", 1500), longID("z", 1500)}
	fullPage = []string{longID("x", 2000), longID("y", 2090)}
)

func longID(letter string, n int) string { return strings.Repeat(letter, n) }

// operations are all ways through the program that change something, and the two
// that only look.
var operations = []operation{
	{name: "copy", source: "links", mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "copy direct", source: "links", mode: "-c", id: "a", flags: []string{"--engine", "direct"}, after: []string{"a"}, there: true},
	{name: "copy range", source: "links", mode: "-c", id: "a", flags: []string{"--engine", "range"}, after: []string{"a"}, there: true},
	{name: "copy buffered", source: "plain", mode: "-c", id: "a", flags: []string{"--engine", "buffered"}, after: []string{"a"}, there: true},
	{name: "copy plain", source: "plain", mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "copy file", source: "file", mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "copy cold", source: "many", cold: true, mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "discard a stage", source: "plain", prepare: stoppedAt("rename", 2), mode: "-c", id: "a", flags: []string{"--no-resume"}, after: []string{"a"}, there: true},
	{name: "resume early", source: "links", prepare: stoppedAt("write", 12), mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "resume late", source: "links", prepare: stoppedAt("rename", 2), mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "register", source: "tiny", prepare: copied("a"), mode: "-c", id: "b", before: []string{"a"}, after: []string{"a", "b"}, there: true},
	{name: "unregister", source: "tiny", prepare: copied("a", "b"), mode: "-r", id: "a", before: []string{"a", "b"}, after: []string{"b"}, there: true},
	{name: "remove", source: "links", prepare: copied("a"), mode: "-r", id: "a", before: []string{"a"}},
	{name: "adopt", source: "tiny", prepare: orphaned, mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "remove orphan", source: "tiny", prepare: orphaned, mode: "-r", id: "a"},
	{name: "copy over trash", source: "tiny", prepare: halfRemoved, mode: "-c", id: "b", after: []string{"b"}, there: true},
	{name: "remove trash", source: "tiny", prepare: halfRemoved, mode: "-r", id: "a"},
	{name: "register long", source: "tiny", prepare: usedBy(longList...), mode: "-c", id: "b", before: longList, after: append(slices.Clip(longList), "b"), there: true},
	{name: "unregister long", source: "tiny", prepare: usedBy(longList...), mode: "-r", id: longList[0], before: longList, after: longList[1:], there: true},
	{name: "register beyond a page", source: "tiny", prepare: usedBy(fullPage...), mode: "-c", id: "beyond", before: fullPage, after: append(slices.Clip(fullPage), "beyond"), there: true},
	{name: "remove unknown", source: "links", prepare: forgotten, mode: "-r", id: "a"},
	{name: "replace managed", source: "tiny", prepare: managed, mode: "-c", id: "a", after: []string{"a"}, there: true, foreign: true},
	{name: "replace as told", source: "tiny", prepare: foreign, mode: "-c", id: "a", flags: []string{"--replace"}, after: []string{"a"}, there: true, foreign: true},
	{name: "refuse to replace", source: "tiny", prepare: foreign, mode: "-c", id: "a", there: true, foreign: true, kept: true, refused: true},
	{name: "refuse to remove", source: "tiny", prepare: managed, mode: "-r", id: "a", there: true, foreign: true, kept: true},
	{name: "verify", source: "links", prepare: copied("a"), mode: "--verify", before: []string{"a"}, after: []string{"a"}, there: true},
	{name: "verify many", source: "many", prepare: copied("a"), mode: "--verify", before: []string{"a"}, after: []string{"a"}, there: true},
	{name: "repair", source: "links", prepare: damaged, mode: "--repair", before: []string{"a"}, after: []string{"a"}, there: true, damaged: true, first: "--repair"},
	{name: "repair nothing", source: "tiny", prepare: copied("a"), mode: "--repair", before: []string{"a"}, after: []string{"a"}, there: true},
	{name: "adopt as told", source: "links", prepare: withoutManifest, mode: "--adopt", before: []string{"a"}, after: []string{"a"}, there: true, first: "--adopt"},
	{name: "list", source: "tiny", prepare: copied("a"), mode: "--list", before: []string{"a"}, after: []string{"a"}, there: true},
}

// copied is a shard with these users.
func copied(ids ...string) func(*host) error {
	return func(h *host) error {
		for _, id := range ids {
			if o := run(h.command("-c", id)); o.status != 0 {
				return fmt.Errorf("prepare: copy for %q: %v", id, o)
			}
		}
		return nil
	}
}

// wounds are what is done to the published shard: of each file, the first byte; of
// others, by a step.
var (
	damagedFiles = []string{"big", "z/big", "d/direct", "d/small", "d/hard"}
	wounds       = []testkit.Step{
		testkit.Write("big", 0, "damage"), testkit.Write("d/direct", 0, "damage"), testkit.Write("d/small", 0, "damage"),
		testkit.Remove("ro/f"), testkit.Remove("ro"), testkit.Remove("d/link"), testkit.Content("d/more/stranger", "stranger"),
		testkit.Chmod("sparse", 0o600), testkit.Chmod("z", 0o711), testkit.Chmod("d", 0o700), testkit.DropXattr("d/small", "user.note"),
	}
)

// damaged is a shard that is copied, and then damaged everywhere.
func damaged(h *host) error {
	err := copied("a")(h)
	for i := 0; i < len(wounds) && err == nil; i++ {
		err = wounds[i](h.published())
	}
	return err
}

// noWorse is what holds of a damaged shard that is being repaired: each file is as it
// should be, or as it was.
func (h *host) noWorse() error {
	for _, name := range damagedFiles {
		want, err := os.ReadFile(filepath.Join(h.source, name))
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(h.published(), name))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) && !(bytes.HasPrefix(got, []byte("damage")) && bytes.Equal(got[6:], want[6:])) {
			return fmt.Errorf("%s is neither what it was nor what it should be", name)
		}
	}
	mayDiffer := regexp.MustCompile(`^"(big|z/big|d/[^"]*|ro|ro/f)": |^"(sparse|z|d)": mode: |^"(\.|z|d)": mtime: `)
	for _, line := range testkit.Compare(h.source, h.published()) {
		if !mayDiffer.MatchString(line) {
			return fmt.Errorf("what was not damaged differs: %s", line)
		}
	}
	return nil
}

// withoutManifest is a shard with users and without a manifest, as the older script copies it.
func withoutManifest(h *host) error {
	return errors.Join(copied("a")(h), os.RemoveAll(h.state()))
}

// usedBy is a shard whose user file somebody has written.
func usedBy(ids ...string) func(*host) error {
	return func(h *host) error {
		return errors.Join(copied("a")(h), os.WriteFile(h.userFile(), []byte(strings.Join(ids, "\n")), 0o644))
	}
}

// stoppedAt is what a first copy leaves that is killed before the n-th call of a
// kind.
func stoppedAt(op string, n int) func(*host) error {
	return func(h *host) error {
		return h.killed(fault{action: "kill-before", at: n, only: op}, "-c", "a", "--jobs", "1")
	}
}

// orphaned is a shard that was published, and its user never registered: the
// fourth rename of a copy is the one that publishes.
func orphaned(h *host) error {
	err := h.killed(fault{action: "kill-after", at: 4, only: "rename"}, "-c", "a")
	if _, missing := os.Lstat(h.published()); err == nil && missing != nil {
		err = fmt.Errorf("prepare: the fourth rename did not publish: %w", missing)
	}
	return err
}

// halfRemoved is a shard that is trash, and not deleted.
func halfRemoved(h *host) error {
	return errors.Join(copied("a")(h), h.killed(fault{action: "kill-after", at: 1, only: "rename"}, "-r", "a"))
}

// forgotten is an interrupted first copy whose user file is lost.
func forgotten(h *host) error {
	return errors.Join(stoppedAt("rename", 2)(h), os.Remove(h.userFile()))
}

// foreign is somebody else's directory under the public name.
func foreign(h *host) error { return plant(h.published(), sources["foreign"]) }

// plant makes a tree.
func plant(root string, steps []testkit.Step) error {
	err := os.Mkdir(root, 0o755)
	for i := 0; i < len(steps) && err == nil; i++ {
		err = steps[i](root)
	}
	return err
}

// managed is the same with the user file of the older script, without users.
func managed(h *host) error { return errors.Join(foreign(h), os.WriteFile(h.userFile(), nil, 0o644)) }

// killed runs a command that a fault must kill.
func (h *host) killed(f fault, mode, id string, flags ...string) error {
	c := h.command(mode, id, flags...)
	c.Env = f.env("")
	if o := run(c); o.status != 128+9 {
		return fmt.Errorf("prepare: %v did not kill %q: %v", f, c.Args, o)
	}
	return nil
}

// lists are the users that there may be at any moment, also while somebody else,
// with the other id, recovers.
func (op *operation) lists() [][]string {
	lists := [][]string{op.before, op.after}
	for _, l := range slices.Clone(lists) {
		lists = append(lists, append(slices.Clip(l), "other"))
	}
	return lists
}

// sound is what holds at any moment. theirs is the foreign directory as it was.
func (op *operation) sound(h *host, theirs string) error {
	if op.damaged {
		return errors.Join(h.usersAmong(op.lists()...), h.noWorse(), h.private())
	}
	if !op.foreign {
		return h.sound(op.lists()...)
	}
	lines := testkit.Compare(theirs, h.published())
	if len(lines) == 0 {
		return errors.Join(h.usersAmong(op.lists()...), h.private())
	}
	if op.kept {
		return fmt.Errorf("somebody else's directory is not what it was:\n%s", strings.Join(lines, "\n"))
	}
	if _, err := os.Lstat(h.published()); err != nil {
		return fmt.Errorf("neither the old tree nor the new one is there: %w", err)
	}
	if h.exchangedOnXFS() {
		return errors.Join(h.usersAmong([]string{}), h.private())
	}
	return h.sound(op.lists()...)
}

// exchangedOnXFS reports a shard that is whole but for the time of its top directory,
// which XFS takes the exchange for a change of. It was to be put right next; the next
// copy finds nobody registered, and that it is not what its manifest says.
func (h *host) exchangedOnXFS() bool {
	lines := testkit.Compare(h.source, h.published())
	return h.xfs && len(lines) == 1 && strings.HasPrefix(lines[0], `".": mtime: `)
}

// done is what holds when the operation says that it has succeeded.
func (op *operation) done(h *host) error {
	if err := h.usersAmong(op.after); err != nil {
		return err
	}
	if _, err := os.Lstat(h.published()); (err == nil) != op.there {
		return fmt.Errorf("it succeeded, and of %s we hear: %w", h.published(), err)
	}
	if op.kept {
		return nil // sound has looked
	}
	return h.whole()
}

// recovers is host.recovers for what the operation may have left.
func (op *operation) recovers(h *host) error {
	if op.first != "" {
		if o := run(h.command(op.first, "")); o.status != 0 {
			return fmt.Errorf("the next %s: %v", op.first, o)
		}
		if err := h.whole(); err != nil {
			return fmt.Errorf("after the next %s: %w", op.first, err)
		}
		if o := run(h.command("--verify", "")); o.status != 0 {
			return fmt.Errorf("verify after the next %s: %v", op.first, o)
		}
	}
	return h.recovers(op.recoverFlags()...)
}

func (op *operation) recoverFlags() []string {
	if op.foreign {
		return []string{"--replace"}
	}
	return nil
}

// command is the operation's.
func (op *operation) command(h *host, jobs int) (mode, id string, flags []string) {
	return op.mode, op.id, append(slices.Clip(op.flags), "--jobs", fmt.Sprint(jobs))
}

// listing is what is on the host, for messages.
func (h *host) listing() string {
	text := ""
	for _, root := range []string{h.locks, h.ssd} {
		filepath.Walk(root, func(path string, info os.FileInfo, err error) error { //nolint:errcheck // a message
			if err != nil {
				text += err.Error() + "\n"
				return nil
			}
			text += fmt.Sprintf("%v %9d %s\n", info.Mode(), info.Size(), path)
			return nil
		})
	}
	return text
}

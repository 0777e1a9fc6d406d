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

// An operation is one call of the tool on a host in a known state, with the states that
// are allowed when the call is stopped anywhere.
type operation struct {
	name    string
	source  string              // key of sources
	prepare func(h *host) error // nil: an empty host
	mode    string
	id      string
	flags   []string
	before  []string // users before the call
	after   []string // users after it succeeded
	there   bool     // the shard is published after it succeeded
	foreign bool     // before, a foreign directory has the public name
	kept    bool     // and must keep it
	refused bool     // it fails with status 1 even without a fault
	damaged bool     // the shard is damaged before: no entry may get worse
	first   string   // a mode that must succeed before another instance recovers; "": no such mode
	cold    bool     // the source is not in the page cache, so that its files are read in batches
}

// sources are the trees to copy. They are small and have each kind of entry that the
// copier handles in its own way.
var sources = map[string][]testkit.Step{
	// Hard links cannot be synced one by one, so the tool syncs this tree with syncfs.
	"links": {
		testkit.File("big", 9<<20+5, 1), testkit.Hardlink("big", "z/big"),
		testkit.Sparse("sparse", 9<<20, []testkit.Extent{{Off: 1 << 20, Len: 4096}, {Off: 8 << 20, Len: 100}}),
		testkit.File("d/direct", 200<<10, 2), testkit.File("d/small", 5000, 3), testkit.TextFile("d/empty", ""),
		testkit.Xattr("d/small", "user.note", "carried"), testkit.Chown("d/small", 1, 2),
		testkit.Symlink("../big", "d/link"), testkit.Hardlink("d/small", "d/hard"),
		testkit.File("ro/f", 10, 4), testkit.Xattr("ro", "user.note", "of a directory"), testkit.Chmod("ro", 0o555),
	},
	// Without hard links, each file and directory is synced by itself.
	"plain": {
		testkit.File("big", 8<<20+1, 5), testkit.File("a/direct", 130<<10, 6), testkit.File("a/small", 100, 7),
		testkit.File("a/ro/f", 10, 8), testkit.Chmod("a/ro", 0o555),
	},
	// The smallest tree with a large file, a symbolic link and a directory.
	"tiny": {
		testkit.Sparse("large", 5<<20, []testkit.Extent{{Off: 4 << 20, Len: 4096}}),
		testkit.File("d/small", 3000, 9), testkit.Symlink("large", "link"), testkit.Chmod("d", 0o555),
	},
	// More small files than one batch reads.
	"many": manyFiles(40),
	// The foreign directory under the public name.
	"foreign": {
		testkit.File("theirs", 5000, 11), testkit.TextFile("d/precious", "do not lose this"),
		testkit.Times("theirs", then, then), testkit.Times("d/precious", then, then),
		testkit.Times("d", then, then), testkit.Times(".", then, then),
	},
}

// manyFiles makes files of a few pages each in one directory.
func manyFiles(n int) (steps []testkit.Step) {
	for i := range n {
		steps = append(steps, testkit.File(fmt.Sprint("d/", i), int64(1000*i+7), uint64(100+i)))
	}
	return steps
}

var then = time.Unix(1_000_000_000, 123456789)

// Lists of users: one longer than a page, and one that ends just below a page.
var (
	longList = []string{longID("x", 1500), longID("y", 1500), longID("z", 1500)}
	fullPage = []string{longID("x", 2000), longID("y", 2090)}
)

func longID(letter string, n int) string { return strings.Repeat(letter, n) }

// operations are all ways through the program that change something, and those that
// only read.
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
	{name: "register", source: "tiny", prepare: copiedFor("a"), mode: "-c", id: "b", before: []string{"a"}, after: []string{"a", "b"}, there: true},
	{name: "unregister", source: "tiny", prepare: copiedFor("a", "b"), mode: "-r", id: "a", before: []string{"a", "b"}, after: []string{"b"}, there: true},
	{name: "remove", source: "links", prepare: copiedFor("a"), mode: "-r", id: "a", before: []string{"a"}},
	{name: "adopt", source: "tiny", prepare: orphanedShard, mode: "-c", id: "a", after: []string{"a"}, there: true},
	{name: "remove orphan", source: "tiny", prepare: orphanedShard, mode: "-r", id: "a"},
	{name: "copy over trash", source: "tiny", prepare: halfRemoved, mode: "-c", id: "b", after: []string{"b"}, there: true},
	{name: "remove trash", source: "tiny", prepare: halfRemoved, mode: "-r", id: "a"},
	{name: "register long", source: "tiny", prepare: usedBy(longList...), mode: "-c", id: "b", before: longList, after: append(slices.Clip(longList), "b"), there: true},
	{name: "unregister long", source: "tiny", prepare: usedBy(longList...), mode: "-r", id: longList[0], before: longList, after: longList[1:], there: true},
	{name: "register beyond a page", source: "tiny", prepare: usedBy(fullPage...), mode: "-c", id: "beyond", before: fullPage, after: append(slices.Clip(fullPage), "beyond"), there: true},
	{name: "remove unknown", source: "links", prepare: withoutUserFile, mode: "-r", id: "a"},
	{name: "replace managed", source: "tiny", prepare: foreignWithUserFile, mode: "-c", id: "a", after: []string{"a"}, there: true, foreign: true},
	{name: "replace foreign", source: "tiny", prepare: foreignDir, mode: "-c", id: "a", flags: []string{"--replace"}, after: []string{"a"}, there: true, foreign: true},
	{name: "refuse to replace", source: "tiny", prepare: foreignDir, mode: "-c", id: "a", there: true, foreign: true, kept: true, refused: true},
	{name: "refuse to remove", source: "tiny", prepare: foreignWithUserFile, mode: "-r", id: "a", there: true, foreign: true, kept: true},
	{name: "verify", source: "links", prepare: copiedFor("a"), mode: "--verify", before: []string{"a"}, after: []string{"a"}, there: true},
	{name: "verify many", source: "many", prepare: copiedFor("a"), mode: "--verify", before: []string{"a"}, after: []string{"a"}, there: true},
	{name: "repair", source: "links", prepare: damagedShard, mode: "--repair", before: []string{"a"}, after: []string{"a"}, there: true, damaged: true, first: "--repair"},
	{name: "repair nothing", source: "tiny", prepare: copiedFor("a"), mode: "--repair", before: []string{"a"}, after: []string{"a"}, there: true},
	{name: "adopt without manifest", source: "links", prepare: withoutManifest, mode: "--adopt", before: []string{"a"}, after: []string{"a"}, there: true, first: "--adopt"},
	{name: "list", source: "tiny", prepare: copiedFor("a"), mode: "--list", before: []string{"a"}, after: []string{"a"}, there: true},
}

// copiedFor prepares a shard with these users.
func copiedFor(ids ...string) func(*host) error {
	return func(h *host) error {
		for _, id := range ids {
			if o := runCommand(h.command("-c", id)); o.status != 0 {
				return fmt.Errorf("prepare: copy for %q: %v", id, o)
			}
		}
		return nil
	}
}

// wounds is the damage done to the published shard. damagedFiles are the files whose
// first bytes it changes.
var (
	damagedFiles = []string{"big", "z/big", "d/direct", "d/small", "d/hard"}
	wounds       = []testkit.Step{
		testkit.Write("big", 0, "damage"), testkit.Write("d/direct", 0, "damage"), testkit.Write("d/small", 0, "damage"),
		testkit.Remove("ro/f"), testkit.Remove("ro"), testkit.Remove("d/link"), testkit.TextFile("d/more/stranger", "stranger"),
		testkit.Chmod("sparse", 0o600), testkit.Chmod("z", 0o711), testkit.Chmod("d", 0o700), testkit.DropXattr("d/small", "user.note"),
	}
)

// damagedShard prepares a shard with all wounds.
func damagedShard(h *host) error {
	err := copiedFor("a")(h)
	for i := 0; i < len(wounds) && err == nil; i++ {
		err = wounds[i](h.published())
	}
	return err
}

// checkNoWorse checks a damaged shard during repair: each file is as it should be, or
// as damaged before.
func (h *host) checkNoWorse() error {
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
			return fmt.Errorf("%s is neither the damaged file nor the repaired one", name)
		}
	}
	mayDiffer := regexp.MustCompile(`^"(big|z/big|d/[^"]*|ro|ro/f)": |^"(sparse|z|d)": mode: |^"(\.|z|d)": mtime: `)
	for _, line := range testkit.CompareTrees(h.source, h.published()) {
		if !mayDiffer.MatchString(line) {
			return fmt.Errorf("an undamaged entry differs: %s", line)
		}
	}
	return nil
}

// withoutManifest prepares a shard with users and without a manifest, as the older
// script leaves it.
func withoutManifest(h *host) error {
	return errors.Join(copiedFor("a")(h), os.RemoveAll(h.stateDir()))
}

// usedBy prepares a shard whose user file was written by hand.
func usedBy(ids ...string) func(*host) error {
	return func(h *host) error {
		return errors.Join(copiedFor("a")(h), os.WriteFile(h.userFile(), []byte(strings.Join(ids, "\n")), 0o644))
	}
}

// stoppedAt prepares the leftovers of a first copy that was killed before its n-th call
// of a kind.
func stoppedAt(op string, n int) func(*host) error {
	return func(h *host) error {
		return h.runKilled(fault{action: "kill-before", at: n, only: op}, "-c", "a", "--jobs", "1")
	}
}

// orphanedShard prepares a shard whose copy was killed before it registered its user:
// the fourth rename of a copy publishes.
func orphanedShard(h *host) error {
	err := h.runKilled(fault{action: "kill-after", at: 4, only: "rename"}, "-c", "a")
	if _, missing := os.Lstat(h.published()); err == nil && missing != nil {
		err = fmt.Errorf("prepare: the fourth rename did not publish: %w", missing)
	}
	return err
}

// halfRemoved prepares a shard that is in the trash and not yet deleted.
func halfRemoved(h *host) error {
	return errors.Join(copiedFor("a")(h), h.runKilled(fault{action: "kill-after", at: 1, only: "rename"}, "-r", "a"))
}

// withoutUserFile prepares an interrupted first copy whose user file is lost.
func withoutUserFile(h *host) error {
	return errors.Join(stoppedAt("rename", 2)(h), os.Remove(h.userFile()))
}

// foreignDir puts a foreign directory under the public name.
func foreignDir(h *host) error { return plantTree(h.published(), sources["foreign"]) }

// plantTree makes a tree.
func plantTree(root string, steps []testkit.Step) error {
	err := os.Mkdir(root, 0o755)
	for i := 0; i < len(steps) && err == nil; i++ {
		err = steps[i](root)
	}
	return err
}

// foreignWithUserFile does the same, with the empty user file of the older script.
func foreignWithUserFile(h *host) error {
	return errors.Join(foreignDir(h), os.WriteFile(h.userFile(), nil, 0o644))
}

// runKilled runs a command that the fault must kill.
func (h *host) runKilled(f fault, mode, id string, flags ...string) error {
	c := h.command(mode, id, flags...)
	c.Env = f.environ("")
	if o := runCommand(c); o.status != 128+9 {
		return fmt.Errorf("prepare: %v did not kill %q: %v", f, c.Args, o)
	}
	return nil
}

// possibleUsers returns the lists of users that are allowed at any moment, including
// those while another instance, called other, recovers.
func (op *operation) possibleUsers() [][]string {
	lists := [][]string{op.before, op.after}
	for _, l := range slices.Clone(lists) {
		lists = append(lists, append(slices.Clip(l), "other"))
	}
	return lists
}

// checkSound checks the invariants of any moment. theirs is a copy of the foreign
// directory.
func (op *operation) checkSound(h *host, theirs string) error {
	if op.damaged {
		return errors.Join(h.checkUsersAmong(op.possibleUsers()...), h.checkNoWorse(), h.checkPrivate())
	}
	if !op.foreign {
		return h.checkSound(op.possibleUsers()...)
	}
	lines := testkit.CompareTrees(theirs, h.published())
	if len(lines) == 0 {
		return errors.Join(h.checkUsersAmong(op.possibleUsers()...), h.checkPrivate())
	}
	if op.kept {
		return fmt.Errorf("the foreign directory was changed:\n%s", strings.Join(lines, "\n"))
	}
	if _, err := os.Lstat(h.published()); err != nil {
		return fmt.Errorf("neither the old nor the new tree is published: %w", err)
	}
	if h.exchangedOnXFS() {
		return errors.Join(h.checkUsersAmong([]string{}), h.checkPrivate())
	}
	return h.checkSound(op.possibleUsers()...)
}

// exchangedOnXFS reports whether only the mtime of the top directory differs: XFS
// changes it when it exchanges the directory. The killed call would have set it next.
// The next copy finds no users and a shard that differs from its manifest.
func (h *host) exchangedOnXFS() bool {
	lines := testkit.CompareTrees(h.source, h.published())
	return h.xfs && len(lines) == 1 && strings.HasPrefix(lines[0], `".": mtime: `)
}

// checkDone checks the result of a successful operation.
func (op *operation) checkDone(h *host) error {
	if err := h.checkUsersAmong(op.after); err != nil {
		return err
	}
	if _, err := os.Lstat(h.published()); (err == nil) != op.there {
		return fmt.Errorf("it succeeded, but lstat of %s returned: %w", h.published(), err)
	}
	if op.kept {
		return nil // checkSound compared it
	}
	return h.checkWhole()
}

// checkRecovery is host.checkRecovery, adapted to the leftovers of the operation.
func (op *operation) checkRecovery(h *host) error {
	if op.first != "" {
		if o := runCommand(h.command(op.first, "")); o.status != 0 {
			return fmt.Errorf("the next %s: %v", op.first, o)
		}
		if err := h.checkWhole(); err != nil {
			return fmt.Errorf("after the next %s: %w", op.first, err)
		}
		if o := runCommand(h.command("--verify", "")); o.status != 0 {
			return fmt.Errorf("verify after the next %s: %v", op.first, o)
		}
	}
	return h.checkRecovery(op.recoverFlags()...)
}

func (op *operation) recoverFlags() []string {
	if op.foreign {
		return []string{"--replace"}
	}
	return nil
}

// commandLine returns the arguments of the operation.
func (op *operation) commandLine(h *host, jobs int) (mode, id string, flags []string) {
	return op.mode, op.id, append(slices.Clip(op.flags), "--jobs", fmt.Sprint(jobs))
}

// listFiles lists the files of the host for messages.
func (h *host) listFiles() string {
	text := ""
	for _, root := range []string{h.locks, h.ssd} {
		_ = filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
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

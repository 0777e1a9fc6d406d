package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shard_to_ssd/internal/testkit"
)

// A powerStory is a call during which the power is cut. The conditions after the next
// boot do not depend on the moment.
type powerStory struct {
	name          string
	source        string // its name in the directory of sources
	prepare       func(m *machine) error
	mode, id      string
	flags         []string
	before, after []string // users
	old           bool     // another tree had the public name, and may still have it
}

// pages is a list of users of three pages, so that a power cut can tear it.
var pages = func() (list []string) {
	for i := range 4 {
		list = append(list, fmt.Sprint(i, strings.Repeat("-", 2500)))
	}
	return list
}()

var powerStories = []*powerStory{
	{name: "copy", source: "plain", mode: "-c", id: "a", after: []string{"a"}},
	{name: "copy with links", source: "linked", mode: "-c", id: "a", after: []string{"a"}},
	{name: "copy a file", source: "file", mode: "-c", id: "a", after: []string{"a"}},
	{name: "adopt", source: "linked", prepare: isOrphan, mode: "-c", id: "a", after: []string{"a"}},
	{name: "register", source: "plain", prepare: isCopied(pages...), mode: "-c", id: "new",
		before: pages, after: append(slices.Clone(pages), "new")},
	{name: "unregister", source: "plain", prepare: isCopied(pages...), mode: "-r", id: pages[2],
		before: pages, after: slices.Delete(slices.Clone(pages), 2, 3)},
	{name: "remove", source: "linked", prepare: isCopied("a"), mode: "-r", id: "a", before: []string{"a"}},
	{name: "remove the last of a long name", source: "file", prepare: isCopied(strings.Repeat("l", 5000)),
		mode: "-r", id: strings.Repeat("l", 5000), before: []string{strings.Repeat("l", 5000)}},
	{name: "replace a foreign tree", source: "plain", prepare: isForeign, mode: "-c", id: "a",
		flags: []string{"--replace"}, after: []string{"a"}, old: true},
	{name: "replace half a shard", source: "linked", prepare: isHalved, mode: "-c", id: "a", after: []string{"a"}, old: true},
}

// powerStorySources makes the sources, on a disk that stays.
func powerStorySources(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	plain := []testkit.Step{
		testkit.File("large", 4<<20+77, 1), testkit.File("small", 5000, 2), testkit.File("empty", 0, 3),
		testkit.File("below/deeper/small", 70, 4), testkit.File("below/middling", 300<<10, 5),
		testkit.Dir("nothing", 0o555), testkit.Sparse("sparse", 1<<20, []testkit.Extent{{Off: 300 << 10, Len: 100}}),
		testkit.Xattr("small", "user.kept", "value"), testkit.Chmod("below/middling", 0o4711), testkit.Chown("empty", 12, 34),
	}
	links := []testkit.Step{testkit.Symlink("../large", "below/symlink"), testkit.Hardlink("small", "below/deeper/hardlink")}
	for name, steps := range map[string][]testkit.Step{"plain": plain, "linked": append(plain, links...)} {
		root := filepath.Join(dir, name, shardName)
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Apply(t, root, steps...)
	}
	testkit.Apply(t, dir, testkit.File("file/"+shardName, 4<<20+77, 6))
	return dir
}

// isCopied prepares a shard with these users.
func isCopied(users ...string) func(*machine) error {
	return func(m *machine) error {
		for _, id := range users {
			if o := runCommand(m.command("-c", id)); o.status != 0 {
				return fmt.Errorf("prepare: %v", o)
			}
		}
		return nil
	}
}

// isOrphan prepares a shard without users.
func isOrphan(m *machine) error {
	if err := isCopied("gone")(m); err != nil {
		return err
	}
	return os.Truncate(m.userFile(), 0)
}

// isForeign prepares a tree that this tool did not make.
func isForeign(m *machine) error {
	if err := os.Mkdir(m.published(), 0o755); err != nil {
		return err
	}
	return testkit.File("foreign/small", 5000, 9)(m.published())
}

// isHalved prepares the leftovers of a removal by the older script that was killed.
func isHalved(m *machine) error {
	if err := isOrphan(m); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(m.published(), "small")); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(m.published(), "below"))
}

// act is a story on a machine, with the measurements of an undisturbed call.
type act struct {
	*powerStory
	m     *machine
	from  string        // the source
	start image         // before the call
	was   testkit.Tree  // the tree that had the public name
	calls int           // number of system calls
	end   int           // the first call of publishing, from 1; or 1
	took  time.Duration // the duration of the call
}

// newAct prepares the disks, and runs the call once without a cut.
func newAct(t *testing.T, m *machine, s *powerStory, blank image, taleSources string) *act {
	t.Helper()
	c := &act{powerStory: s, m: m, from: filepath.Join(taleSources, s.source, shardName)}
	m.source = c.from
	check := func(err error) {
		if err != nil {
			t.Fatalf("%s, %s: %v", m.kind, s.name, err)
		}
	}
	check(m.boot(blank))
	if s.prepare != nil {
		check(s.prepare(m))
	}
	c.was = testkit.SnapshotTree(m.published())
	c.start = m.shutDown(t)
	check(m.boot(c.start))
	log := filepath.Join(t.TempDir(), "calls")
	call := m.command(s.mode, s.id, s.flags...)
	call.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT_LOG="+log)
	began := time.Now()
	if o := runCommand(call); o.status != 0 {
		t.Fatalf("%s, %s: %v", m.kind, s.name, o)
	}
	c.took = time.Since(began)
	text, err := os.ReadFile(log)
	check(err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	c.calls = len(lines)
	c.end = 1 + max(0, slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "\trename\t") && strings.Contains(l, "sums.xxh64") }))
	t.Logf("%d system calls, all from %d on are tried, %v", c.calls, c.end, c.took)
	check(c.checkHolds(true))
	check(m.unmountAll())
	return c
}

// checkHolds checks the conditions after the boot. done reports whether the call had
// returned with success.
func (c *act) checkHolds(done bool) error {
	lists := [][]string{c.before, c.after}
	if done {
		lists = lists[1:]
	}
	users, err := c.m.users()
	if err != nil {
		return err
	}
	if !pathExists(c.m.userFile()+".log") && !isAmong(users, lists) { // with a log, the next call repairs the list
		return fmt.Errorf("got users %.70q, want one of %.70q", users, lists)
	}
	if !pathExists(c.m.published()) {
		if len(users) > 0 {
			return fmt.Errorf("users %.70q have no shard", users)
		}
		if done && c.mode == "-r" {
			return c.m.checkTraceless()
		}
		return nil
	}
	switch {
	case done && len(c.after) == 0:
		return fmt.Errorf("the shard was removed, but is published")
	case len(users) == 0 && (c.old && c.isOld() || c.isNearlyNew()):
		return c.m.checkPrivate()
	}
	if err := c.m.checkSound(users); err != nil {
		return err
	}
	if o := runCommand(c.m.command("--verify", "")); o.status != 0 {
		return fmt.Errorf("verify: %v", o)
	}
	return nil
}

// isOld reports whether nothing has been replaced.
func (c *act) isOld() bool {
	return len(testkit.DiffSnapshots(c.was, testkit.SnapshotTree(c.m.published()))) == 0
}

// isNearlyNew reports whether the shard is complete, except for changes by the file
// system, which the next call repairs. XFS changes the mtime of a directory that it
// exchanges with another. On btrfs a file that was renamed between two directories can
// have both names after a power cut, if only the new directory was synced.
func (c *act) isNearlyNew() bool {
	lines := testkit.CompareTrees(c.from, c.m.published())
	if len(lines) != 1 {
		return false
	}
	return c.m.kind == "xfs" && c.old && strings.HasPrefix(lines[0], `".": mtime: `) ||
		c.m.kind == "btrfs" && c.source == "file" && lines[0] == `".": number of links: 1 in the tree, copy 2`
}

// checkEnd lets another instance copy the shard, and then removes all users.
func (c *act) checkEnd() error {
	if o := runCommand(c.m.command("-c", "next", c.flags...)); o.status != 0 {
		return fmt.Errorf("the next copy: %v", o)
	}
	users, err := c.m.users()
	if err != nil {
		return err
	}
	old := slices.DeleteFunc(slices.Clone(users), func(id string) bool { return id == "next" })
	if len(old)+1 != len(users) || !isAmong(old, [][]string{c.before, c.after}) {
		return fmt.Errorf("users after the next copy: got %.70q, want %.70q or %.70q, and next", users, c.before, c.after)
	}
	return c.m.checkRecovery()
}

func isAmong(users []string, lists [][]string) bool {
	return slices.ContainsFunc(lists, func(l []string) bool { return slices.Equal(l, users) })
}

func pathExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestPowerCuts cuts the power of machines of each file system, at a system call of
// each story or at any time, up to three times before the story may end. A bounded
// round runs each story on one file system.
func TestPowerCuts(t *testing.T) {
	testkit.RequireRoot(t)
	bin, from, disks := faulty(t), powerStorySources(t), newRack(t)
	var machines []*machine
	var blanks []image
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		m, blank := newMachine(t, disks, kind, bin)
		machines, blanks = append(machines, m), append(blanks, blank)
	}
	scenes := map[[2]int]*act{}
	rounds(t, 0.3, func(t *testing.T, r *round) {
		for _, i := range r.Perm(len(powerStories)) {
			s := powerStories[i]
			for k, m := range machines {
				if !r.full && uint64(i+k)%uint64(len(machines)) != r.seed%uint64(len(machines)) {
					continue
				}
				if r.over() {
					return
				}
				t.Run(m.kind+" "+s.name, func(t *testing.T) {
					t.Cleanup(func() { _ = m.unmountAll() }) // after a failure, for the next story
					at := [2]int{i, k}
					if scenes[at] == nil {
						scenes[at] = newAct(t, m, s, blanks[k], from)
					}
					scenes[at].cutStory(t, r)
				})
			}
		}
	})
}

// cutStory cuts the power at system calls of a story, and at random times.
func (c *act) cutStory(t *testing.T, r *round) {
	t.Helper()
	steps, moments := c.cutPoints(r), 30
	if !r.full {
		steps, moments = steps[:2], 1
	}
	for _, n := range steps {
		if r.over() {
			return
		}
		fault := fmt.Sprintf("stop-%s@%d", []string{"before", "after"}[r.IntN(2)], n)
		c.cutAndCheck(t, r, []moment{{fault: fault}})
	}
	for range moments {
		var all []moment
		for range 1 + r.IntN(3) {
			all = append(all, moment{delay: time.Duration(r.Int64N(int64(c.took) * 5 / 4))})
		}
		c.cutAndCheck(t, r, all)
	}
}

// cutPoints returns the calls to cut at, in random order: all of publishing,
// registering and removing, and some of the calls before.
func (c *act) cutPoints(r *round) (steps []int) {
	for n := 1; n <= c.calls; n++ {
		if n >= c.end || r.IntN(c.end) < 30 {
			steps = append(steps, n)
		}
	}
	r.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	return steps
}

// cutAndCheck cuts the power at each of the moments, in one call each, and then lets
// the story end.
func (c *act) cutAndCheck(t *testing.T, r *round, moments []moment) {
	t.Helper()
	var told strings.Builder
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s, %s, seed %d: %v\n%s%s", c.m.kind, c.name, r.seed, err, &told, listTree(c.m.dir))
		}
	}
	c.m.source = c.from
	on, done := c.start, false
	for i, at := range moments {
		fail(c.m.boot(on))
		how := anyCut(c.m.kind, r.Rand)
		left, before, o, err := c.m.cutDuring(c.m.command(c.mode, c.id, c.flags...), at, how)
		fmt.Fprintf(&told, "%v of %v, then %s, returned before that: %v, %v\n", at, c.took, how.name, before, o)
		fail(err)
		count("power cuts: "+c.m.kind+", "+how.kind, 1)
		done, on = done || before && o.status == 0, left
		fail(c.m.boot(on))
		fail(c.checkHolds(done))
		if i+1 < len(moments) {
			on = c.m.shutDown(t)
		}
	}
	fail(c.checkEnd())
	fail(c.m.unmountAll())
}

// listTree lists the files on the disks for messages.
func listTree(dir string) string {
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(&b, err)
		} else if info, err := e.Info(); err == nil {
			fmt.Fprintf(&b, "%v %9d %s\n", info.Mode(), info.Size(), path)
		}
		return nil
	})
	return b.String()
}

package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"shard_to_ssd/internal/testkit"
	books "shard_to_ssd/internal/tree"
)

// A copy that is killed ten times resumes each time with everything that was copied,
// and writes each byte about once. Only the blocks in progress are written twice.
func TestKilledTenTimes(t *testing.T) {
	testkit.RequireRoot(t)
	rounds(t, 0.05, func(t *testing.T, r *round) {
		k := newMarathon(t, r)
		calls := k.runUndisturbed(t)
		kept, written, done := int64(0), int64(0), false
		for n := 1; n <= kills && !done; n++ {
			o, wrote := k.runCopy(t, r.killEarly(calls))
			written += wrote
			if done = o.status == 0; done { // a resumed run is shorter, so it may end before this call
				k.checkCompleted(t, o, kept)
				continue
			}
			if o.status != 128+9 {
				t.Fatalf("run %d was not killed: %v", n, o)
			}
			if now := reportedKept(o.err); now < kept && now >= 0 {
				t.Errorf("run %d kept %d bytes, an earlier one %d: %v", n, now, kept, o)
			} else {
				kept = max(kept, now)
			}
			count("SIGKILL in one copy, ten times", 1)
		}
		if !done {
			o, wrote := k.runCopy(t, fault{})
			written += wrote
			k.checkCompleted(t, o, kept)
		}
		most := k.size + kills*k.jobs*books.BlockSize + (kills+1)*slackOfRun
		t.Logf("%d jobs, --engine %s: wrote %d bytes for a shard of %d, limit %d; %d were kept in the end", k.jobs, k.engine, written, k.size, most, kept)
		if written > most {
			t.Errorf("wrote %d bytes for a shard of %d", written, k.size)
		}
		if err := errors.Join(k.h.checkWhole(), k.h.checkRecovery()); err != nil {
			t.Error(err)
		}
	})
}

const (
	kills = 10
	// slackOfRun is the size, in bytes, of the other writes of a run: the plan, pages
	// of the journal, small files without a block sum yet, the manifest.
	slackOfRun = 2 << 20
)

// A marathon is a copy of one huge file and some small ones that is killed and resumed
// several times.
type marathon struct {
	h      *host
	log    string
	engine string
	jobs   int64
	size   int64 // of the shard, in bytes
}

func newMarathon(t *testing.T, r *round) *marathon {
	t.Helper()
	kind, engines := "ext4", []string{"direct", "buffered", "range"}
	if r.full && r.IntN(2) == 0 {
		kind, engines = "xfs", engines[:2] // its copy_file_range shares extents, and writes nothing
	}
	disk := testkit.Mount(t, kind, 1<<30)
	k := &marathon{h: newHost(t, faulty(t), disk, disk), log: filepath.Join(t.TempDir(), "log"),
		engine: engines[r.IntN(len(engines))], jobs: 1 + r.Int64N(8), size: 256<<20 + r.Int64N(5<<20)}
	steps := []testkit.Step{testkit.File("huge", k.size, r.seed)}
	for i := range 100 {
		steps = append(steps, testkit.File(fmt.Sprintf("small%d/%d", i%3, i), int64(i)*300, uint64(i)))
		k.size += int64(i) * 300
	}
	testkit.Apply(t, k.h.source, steps...)
	return k
}

// runCopy runs the copy and returns the number of bytes that the kernel counted as
// written to disk.
func (k *marathon) runCopy(t *testing.T, f fault) (outcome, int64) {
	t.Helper()
	c := k.h.command("-c", "a", "--engine", k.engine, "--jobs", fmt.Sprint(k.jobs), "--json")
	c.Env = f.environ(k.log)
	o, err := runWithin(limit, c)
	if err != nil {
		t.Fatal(err)
	}
	return o, writtenBy(c)
}

// writtenBy returns the bytes that the kernel charged to a process that has ended:
// direct writes, and pages that it made dirty.
func writtenBy(c *exec.Cmd) int64 {
	return c.ProcessState.SysUsage().(*syscall.Rusage).Oublock * 512
}

// runUndisturbed copies once without a fault, deletes that copy, and returns the calls.
func (k *marathon) runUndisturbed(t *testing.T) []logged {
	t.Helper()
	o, wrote := k.runCopy(t, fault{})
	if o.status != 0 {
		t.Fatal(o)
	}
	if wrote < k.size || wrote > k.size+slackOfRun {
		t.Fatalf("without a fault: wrote %d bytes for a shard of %d", wrote, k.size)
	}
	calls, err := readLog(k.log)
	if err != nil {
		t.Fatal(err)
	}
	if o := runCommand(k.h.command("-r", "a")); o.status != 0 {
		t.Fatal(o)
	}
	return calls
}

// killEarly draws a kill in the first eleventh of the calls of one kind, so that ten of
// them do not reach the end.
func (r *round) killEarly(calls []logged) fault {
	kinds, of := countKinds(calls)
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return of[kind] < 5*(kills+1) })
	kind := kinds[r.IntN(len(kinds))]
	return fault{action: killing[r.IntN(2)], at: 1 + r.IntN(of[kind]/(kills+1)), only: kind}
}

var keptLine = regexp.MustCompile(`Resuming an interrupted copy of shard shard: (\d+) of (\d+) bytes`)

// reportedKept returns the size of the kept copy as reported in the message; -1 without
// such a message.
func reportedKept(said string) int64 {
	m := keptLine.FindStringSubmatch(said)
	if m == nil {
		return -1
	}
	kept, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return -1
	}
	return kept
}

// checkCompleted compares the report of the last run with the data that the runs before it
// left.
func (k *marathon) checkCompleted(t *testing.T, o outcome, kept int64) {
	t.Helper()
	var r struct {
		Bytes        int64
		ResumedBytes int64 `json:"resumed_bytes"`
		Engines      map[string]struct{ Bytes int64 }
	}
	if err := json.Unmarshal([]byte(o.out), &r); o.status != 0 || err != nil {
		t.Fatalf("the last run: %v, %v", err, o)
	}
	moved := int64(0)
	for _, u := range r.Engines {
		moved += u.Bytes
	}
	if r.Bytes != k.size || moved+r.ResumedBytes != k.size || r.ResumedBytes != reportedKept(o.err) || r.ResumedBytes < kept {
		t.Errorf("%d bytes were kept before, the last run kept %d and moved %d of %d: %v", kept, r.ResumedBytes, moved, k.size, o)
	}
}

// Messages of a copy about the interrupted copy that it finds.
const (
	resumedMessage   = "Resuming an interrupted copy of shard"
	discardedMessage = "Discarded an interrupted copy of shard"
)

// outsideTree is next to the host and must not change.
func outsideTree() []testkit.Step {
	return []testkit.Step{testkit.TextFile("victim/file", "do not touch"), testkit.Dir("victim/dir", 0o751),
		testkit.TextFile("victim/dir/deep", "nor this"), testkit.Chmod("victim/file", 0o604)}
}

// otherThings are entries of all other types that replace a name in the state dir. A
// symbolic link to victim leads out of it.
func otherThings(name string, isDir bool) map[string]testkit.Step {
	up := strings.Repeat("../", 4+strings.Count(name, "/"))
	kinds := map[string]testkit.Step{
		"a link to a directory": testkit.Symlink(up+"victim/dir", name),
		"a link to a file":      testkit.Symlink(up+"victim/file", name),
		"a dangling link":       testkit.Symlink(up+"none", name),
		"a FIFO":                testkit.FIFO(name),
		"a socket":              testkit.Socket(name),
		"a directory":           testkit.TextFile(name+"/deep/x", "x"),
		"a file":                testkit.TextFile(name, "x"),
	}
	if isDir {
		delete(kinds, "a directory")
	} else {
		delete(kinds, "a file")
	}
	return kinds
}

// replacedBy puts something in the place of a name.
func replacedBy(name string, step testkit.Step) testkit.Step {
	return func(root string) error {
		return errors.Join(os.RemoveAll(filepath.Join(root, name)), step(root))
	}
}

// damage is a change of the state dir of an interrupted copy.
type damage struct {
	name string
	step testkit.Step
	says string // the message of the next copy; "": no message
}

// stageDamages returns the damages for a tree, or for a single file, whose journal
// exists.
func stageDamages(isFile bool) (list []damage) {
	says := map[string]string{"plan": resumedMessage, "journal": discardedMessage, "stage": discardedMessage}
	entries := map[string]bool{"plan": false, "journal": false, "stage": !isFile}
	if !isFile {
		for name, isDir := range map[string]bool{"d": true, "ro": true, "d/empty": false, "d/small": false, "big": false, "sparse": false, "z": true, "z/big": false, "d/link": false} {
			entries["stage/"+name] = isDir
			says["stage/"+name] = resumedMessage
		}
	}
	for name, isDir := range entries {
		for kind, step := range otherThings(name, isDir) {
			list = append(list, damage{name + " is " + kind, replacedBy(name, step), says[name]})
		}
	}
	return append(list,
		damage{"plan missing", testkit.Remove("plan"), resumedMessage},
		damage{"plan empty", testkit.Truncate("plan", 0), resumedMessage},
		damage{"journal missing", testkit.Remove("journal"), discardedMessage},
		damage{"journal empty", testkit.Truncate("journal", 0), discardedMessage},
		damage{"journal with half a header", testkit.Truncate("journal", 15), discardedMessage},
		damage{"journal with a header only", testkit.Truncate("journal", 16), resumedMessage},
		damage{"journal with half a sum", testkit.Truncate("journal", 20), resumedMessage},
		damage{"journal longer", testkit.Truncate("journal", 1<<40), resumedMessage},
		damage{"journal of another version", testkit.Write("journal", 7, "2"), discardedMessage},
		damage{"journal of another plan", testkit.Write("journal", 8, "other pl"), discardedMessage},
		damage{"stage missing", replacedBy("stage", func(string) error { return nil }), ""},
	)
}

// After any damage to an interrupted copy and its records, the next copy completes, and
// reports if it does not resume. A removal clears it. Nothing outside changes.
func TestDamagedStages(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		for _, source := range []string{"links", "file"} {
			op := operation{source: source, prepare: stoppedAt("rename", 2)}
			for _, d := range r.someDamages(stageDamages(source == "file")) {
				s.runBeside(func() {
					for _, next := range []func(*host, damage) error{checkNextCopy, removedAfter} {
						if err := s.checkDamaged(&op, d, next); err != nil {
							t.Errorf("%s, %s: %v", source, d.name, err)
						}
					}
				})
			}
		}
		s.group.Wait()
	})
}

// someDamages returns all damages, and in a bounded round only a few of those within
// the stage.
func (r *round) someDamages(list []damage) []damage {
	slices.SortFunc(list, func(a, b damage) int { return strings.Compare(a.name, b.name) })
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	within := 0
	return slices.DeleteFunc(list, func(d damage) bool {
		if strings.HasPrefix(d.name, "stage/") {
			within++
			return !r.full && within > 6
		}
		return false
	})
}

// runBeside runs f in parallel with others.
func (s *sweep) runBeside(f func()) {
	s.places <- struct{}{}
	s.group.Go(func() {
		defer func() { <-s.places }()
		f()
	})
}

// checkDamaged damages a host, runs next, and checks the tree next to the host.
func (s *sweep) checkDamaged(op *operation, d damage, next func(*host, damage) error) error {
	h, err := s.prepareHost(op)
	if err != nil {
		return err
	}
	dir := filepath.Dir(h.ssd)
	for _, step := range outsideTree() {
		err = errors.Join(err, step(dir))
	}
	before := testkit.SnapshotTree(filepath.Join(dir, "victim"))
	if err = errors.Join(err, d.step(h.stateDir())); err != nil {
		return err
	}
	if err := next(h, d); err != nil {
		return err
	}
	count("damaged stage", 1)
	if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(filepath.Join(dir, "victim"))); len(changed) > 0 {
		return fmt.Errorf("changed outside of the host: %q", changed)
	}
	return os.RemoveAll(dir)
}

func checkNextCopy(h *host, d damage) error {
	o := runCommand(h.command("-c", "a"))
	for _, line := range []string{resumedMessage, discardedMessage} {
		if strings.Contains(o.err, line) != (line == d.says) {
			return fmt.Errorf("want %q in the message: %v", d.says, o)
		}
	}
	if o.status != 0 {
		return fmt.Errorf("the next copy: %v", o)
	}
	if o := runCommand(h.command("--verify", "")); o.status != 0 {
		return fmt.Errorf("verify after the next copy: %v", o)
	}
	return errors.Join(h.checkWhole(), removedAfter(h, d))
}

func removedAfter(h *host, _ damage) error {
	if o := runCommand(h.command("-r", "a")); o.status != 0 {
		return fmt.Errorf("removal: %v", o)
	}
	return h.checkTraceless()
}

// Any bytes of the plan and the journal are changed, cut off or added. A wrong copy is
// never published.
func TestJournalOfAnyBytes(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		tries := 30
		if r.full {
			tries = 300
		}
		for range tries {
			op := operation{source: []string{"links", "plain", "file"}[r.IntN(3)], prepare: stoppedAt("rename", 2)}
			if op.source != "file" && r.IntN(2) == 0 {
				op.prepare = stoppedAt("write", 6+r.IntN(5))
			}
			d := r.randomMutation()
			s.runBeside(func() {
				if err := s.checkDamaged(&op, d, completesAfter); err != nil {
					t.Errorf("%s, %s: %v", op.source, d.name, err)
				}
			})
		}
		s.group.Wait()
	})
}

func completesAfter(h *host, d damage) error {
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		return fmt.Errorf("the next copy: %v", o)
	}
	return errors.Join(h.checkWhole(), h.checkRecovery())
}

// randomMutation changes some bytes of the journal or the plan, cuts the file, or makes
// it longer.
func (r *round) randomMutation() damage {
	name, seed := []string{"journal", "journal", "journal", "plan"}[r.IntN(4)], r.Uint64()
	how := []string{"flipped", "cut", "longer", "other sums"}[r.IntN(4)]
	return damage{fmt.Sprintf("%s %s by seed %d", name, how, seed), func(root string) error {
		path := filepath.Join(root, name)
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, mutateBytes(b, how, seed), 0o600)
	}, ""}
}

func mutateBytes(b []byte, how string, seed uint64) []byte {
	x := seed
	next := func(n int) int { // the next number of a linear congruential generator
		x = x*6364136223846793005 + 1442695040888963407
		return int(x >> 33 % uint64(max(n, 1)))
	}
	switch how {
	case "cut":
		return b[:next(len(b))]
	case "longer":
		return append(b, make([]byte, next(1<<16))...)
	case "other sums": // the sums of other blocks
		for i := 16; i+16 <= len(b); i += 8 * (1 + next(4)) {
			copy(b[i:i+8], b[i+8:i+16])
		}
		return b
	}
	for range 1 + next(5) {
		if len(b) > 0 {
			b[next(len(b))] ^= byte(1 + next(255))
		}
	}
	return b
}

// With any file sizes in a plan and any length of a journal, --list reads only the data
// that was written.
func TestListOfForgedBooks(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 64<<20)})
	for _, c := range []struct {
		name    string
		sizes   []int64
		journal int64 // its length in bytes
		sums    []int64
	}{
		{"huge file", []int64{1 << 62}, 16, nil},
		{"huge file, some copied", []int64{1 << 62}, 16, []int64{0, 1, 2, 5000}},
		{"huge journal", []int64{1 << 62}, 1 << 43, nil},
		{"huge journal, some copied at its end", []int64{1 << 62}, 1 << 43, []int64{0, 1<<40 - 100}},
		{"many huge files", slices.Repeat([]int64{math.MaxInt64}, 3000), 1 << 50, []int64{7}},
		{"many small files", slices.Repeat([]int64{5}, 60_000), 16 + 8*60_000, []int64{7, 59_000}},
	} {
		h, err := s.prepareHost(&operation{source: "tiny"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(h.stateDir()+"/stage", 0o700), os.Chmod(filepath.Dir(h.stateDir()), 0o700),
			forgedPlan(h, c.sizes), forgedJournal(h, c.journal, c.sums)); err != nil {
			t.Fatal(err)
		}
		log := filepath.Join(t.TempDir(), "log")
		list := h.command("--list", "", "--json")
		list.Env = fault{}.environ(log)
		o, err := runWithin(limit, list)
		if err != nil {
			t.Fatal(err)
		}
		calls, err := readLog(log)
		if read := booksRead(calls); err != nil || o.status != 0 || read > 150 {
			t.Errorf("%s: %d calls on the journal and the plan, %v, %v", c.name, read, err, o)
		}
		var r struct {
			Shards []struct {
				Stage      bool
				StageBytes int64 `json:"stage_bytes"`
			}
		}
		want := int64(len(c.sums)) * min(c.sizes[0], books.BlockSize)
		if err := json.Unmarshal([]byte(o.out), &r); err != nil || len(r.Shards) != 1 || r.Shards[0].StageBytes != want || !r.Shards[0].Stage {
			t.Errorf("%s: want %d bytes copied: %v, %v", c.name, want, err, o)
		}
		count("forged plan listed", 1)
	}
}

// forgedPlan writes a valid plan of a directory of files with these sizes.
func forgedPlan(h *host, sizes []int64) error {
	f, err := os.Create(filepath.Join(h.stateDir(), "plan"))
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := books.NewEncoder(f, books.PlanKind, 1, nil)
	if err != nil {
		return err
	}
	list := []*books.Record{{Kind: books.Dir, Name: "."}}
	for i, size := range sizes {
		list = append(list, &books.Record{Kind: books.Regular, Name: fmt.Sprintf("%06d", i), Size: size})
	}
	for _, record := range list {
		if err := e.Write(record); err != nil {
			return err
		}
	}
	return e.Close()
}

// forgedJournal writes a sparse journal with a sum in each of the slots.
func forgedJournal(h *host, length int64, slots []int64) error {
	path := filepath.Join(h.stateDir(), "journal")
	if err := os.WriteFile(path, []byte("ssdjrnl1 no plan"), 0o600); err != nil {
		return err
	}
	err := os.Truncate(path, length)
	for _, slot := range slots {
		err = errors.Join(err, testkit.Write("journal", 16+8*slot, "sumofone")(h.stateDir()))
	}
	return err
}

func booksRead(calls []logged) (n int) {
	for _, c := range calls {
		if base := filepath.Base(c.path); base == "journal" || base == "plan" {
			n++
		}
	}
	return n
}

package copier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/internal/tree"
)

const block = int64(tree.BlockSize)

// TestCanLeaveRange has for each error of copy_file_range: may another engine continue with
// the file before and after a part of it was copied, and do other files try copy_file_range?
func TestCanLeaveRange(t *testing.T) {
	const fallBack, final = true, false
	for _, c := range []struct {
		err      unix.Errno
		atOnce   bool
		later    bool // after a part was copied
		remember bool // other files need not try
	}{
		{unix.ENOSYS, fallBack, fallBack, true},
		{unix.EXDEV, fallBack, fallBack, true},
		{unix.EOPNOTSUPP, fallBack, fallBack, true},
		{unix.EINVAL, fallBack, fallBack, true},
		{unix.EPERM, fallBack, fallBack, false},
		{unix.EBADF, fallBack, final, false},
		{unix.EACCES, fallBack, final, false},
		{unix.ETXTBSY, fallBack, final, false},
		{unix.ENOTTY, fallBack, final, false},
		{unix.ENOENT, fallBack, final, false},
		{unix.EIO, final, final, false},
		{unix.ENODATA, final, final, false},
		{unix.EILSEQ, final, final, false},
		{unix.ETIMEDOUT, final, final, false},
		{unix.EREMOTEIO, final, final, false},
		{unix.ENOLINK, final, final, false},
		{unix.ENOSPC, final, final, false},
		{unix.EDQUOT, final, final, false},
		{unix.EFBIG, final, final, false},
		{unix.ENOMEM, final, final, false},
		{unix.EROFS, final, final, false},
		{unix.ESTALE, final, final, false},
	} {
		for _, copied := range []bool{false, true} {
			run, p := &copyRun{}, &filePair{}
			p.ranged.Store(copied)
			want := c.atOnce
			if copied {
				want = c.later
			}
			err := &fs.PathError{Op: "copy_file_range", Path: "x", Err: c.err}
			if got := run.canLeaveRange(p, err); got != want {
				t.Errorf("%v, part copied: %t: got fall back %t, want %t", c.err, copied, got, want)
			}
			if got := run.noRange.Load(); got != c.remember {
				t.Errorf("%v: got remembered %t, want %t", c.err, got, c.remember)
			}
		}
	}
}

func TestSlotsAndSegments(t *testing.T) {
	for _, c := range []struct{ size, blocks, slots, segments int64 }{
		{0, 0, 1, 0}, {1, 1, 1, 0}, {block, 1, 1, 0}, {block + 1, 2, 3, 1}, {2 * block, 2, 3, 1},
		{64 * block, 64, 65, 1}, {64*block + 1, 65, 66, 2}, {128 * block, 128, 129, 2}, {1 << 40, 1 << 18, 1<<18 + 1, 1 << 12},
	} {
		totals := Totals{}
		totals.addFile(&tree.Record{Kind: tree.Regular, Size: c.size, Source: tree.Source{Blocks: c.size/512 + 8}})
		if got := tree.BlockCount(c.size); got != c.blocks {
			t.Errorf("%d bytes: got %d blocks, want %d", c.size, got, c.blocks)
		}
		if totals.slots != c.slots || totals.segments != c.segments || totals.Bytes != c.size || totals.Files != 1 {
			t.Errorf("%d bytes: got %+v, want %d slots, %d segments", c.size, totals, c.slots, c.segments)
		}
	}
}

// TestSegmentsCoverTheFile checks that each block is in one segment.
func TestSegmentsCoverTheFile(t *testing.T) {
	for _, size := range []int64{block + 1, 64 * block, 64*block + 1, 200*block - 1} {
		f := &largeFile{}
		f.size = size
		next := int64(0)
		for i := range segmentCount(tree.BlockCount(size)) {
			s := &segment{file: f, index: i}
			if s.firstBlock() != next || s.blockCount() < 1 || s.blockCount() > segmentBlocks {
				t.Errorf("%d bytes: segment %d has %d blocks from block %d", size, i, s.blockCount(), s.firstBlock())
			}
			next += s.blockCount()
		}
		if next != tree.BlockCount(size) {
			t.Errorf("%d bytes: the segments have %d blocks, want %d", size, next, tree.BlockCount(size))
		}
	}
}

func TestAllocatedSize(t *testing.T) {
	for _, c := range []struct{ size, blocks, want int64 }{
		{0, 0, 0}, {1, 8, 4096}, {4096, 8, 4096}, {4097, 16, 8192},
		{1 << 30, 8, 4096},       // sparse: the allocated blocks
		{5000, 0, 0},             // one hole, or inline in the inode
		{1 << 20, 4096, 1 << 20}, // more reserved than it is long
	} {
		r := &tree.Record{Kind: tree.Regular, Size: c.size, Source: tree.Source{Blocks: c.blocks}}
		if got := allocatedSize(r); got != c.want {
			t.Errorf("%d bytes in %d sectors: got %d, want %d", c.size, c.blocks, got, c.want)
		}
	}
}

// makePlanOf makes the plan of a tree, and returns it with its state dir.
func makePlanOf(t *testing.T, steps ...testkit.Step) (*Plan, *sys.File) {
	t.Helper()
	from := t.TempDir()
	testkit.Apply(t, from, steps...)
	src, err := OpenSource(from)
	if err != nil {
		t.Fatal(err)
	}
	state, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p, err := MakePlan(t.Context(), src, state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); state.Close(); src.Close() })
	return p, state
}

// TestBatches checks that each file is in one batch, and that each batch has one directory
// and keeps the limits.
func TestBatches(t *testing.T) {
	var steps []testkit.Step
	for i := range 2*batchEntries + 1 {
		steps = append(steps, testkit.TextFile(fmt.Sprintf("many/%d", i), ""))
	}
	for i := range 7 {
		steps = append(steps, testkit.Sparse(fmt.Sprintf("big/%d", i), block, nil))
	}
	steps = append(steps, testkit.TextFile("z/a/file", ""), testkit.TextFile("z/file", ""), testkit.Dir("z/b", 0o755), testkit.TextFile("z/c/file", ""))
	p, _ := makePlanOf(t, steps...)
	seen := map[string]int{}
	var sizes []string
	err := p.eachBatch(t.Context(), func(it *PlanEntry) bool { return it.Kind == tree.Regular }, func(b *batch) error {
		bytes := int64(0)
		for i := range b.entries {
			it := &b.entries[i]
			seen[it.RelativePath()]++
			if it.Path != b.path {
				t.Errorf("%q is in a batch of %q", it.RelativePath(), b.path)
			}
			bytes += it.Size
		}
		if len(b.entries) == 0 || len(b.entries) > batchEntries || bytes > batchBytes+block || bytes != b.bytes {
			t.Errorf("batch of %d entries: %d bytes, recorded as %d; want at most %d entries, %d bytes", len(b.entries), bytes, b.bytes, batchEntries, batchBytes+block)
		}
		sizes = append(sizes, fmt.Sprint(b.path, " ", len(b.entries)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = "big 5, big 2, many 256, many 256, many 1, z 1, z/a 1, z/c 1"
	if got := strings.Join(sizes, ", "); got != want {
		t.Errorf("got batches %s, want %s", got, want)
	}
	if int64(len(seen)) != p.Files {
		t.Errorf("the batches have %d files, want %d", len(seen), p.Files)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%q is in %d batches", name, n)
		}
	}
}

// TestSlotsOfAPlan checks that each regular file has slots of its own, without gaps.
func TestSlotsOfAPlan(t *testing.T) {
	p, _ := makePlanOf(t, testkit.Sparse("a", 3*block, nil), testkit.TextFile("b", ""), testkit.TextFile("c/d", "x"),
		testkit.Hardlink("a", "c/e"), testkit.Sparse("f", block+1, nil), testkit.Symlink("a", "g"))
	taken := map[int64]string{}
	err := p.EachEntry(t.Context(), func(it *PlanEntry) error {
		if it.Kind != tree.Regular {
			return nil
		}
		for i := range slotCount(it.Size) {
			if other := taken[it.slot+i]; other != "" {
				t.Errorf("%q and %q share slot %d", other, it.RelativePath(), it.slot+i)
			}
			taken[it.slot+i] = it.RelativePath()
		}
		return nil
	})
	if err != nil || int64(len(taken)) != p.slots || p.slots != 4+1+3+1 {
		t.Errorf("files have %d slots, the plan has %d, want 9 (error %v)", len(taken), p.slots, err)
	}
}

// TestPlanSumIsTheSource checks that the sum of a plan changes if and only if the source
// changes.
func TestPlanSumIsTheSource(t *testing.T) {
	from := t.TempDir()
	testkit.Apply(t, from, testkit.TextFile("a", "x"), testkit.TextFile("d/b", "y"))
	src, err := OpenSource(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	state, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	sum := func() uint64 {
		p, err := MakePlan(t.Context(), src, state)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		return p.sum
	}
	first := sum()
	testkit.SnapshotTree(from) // reading changes access times
	if again := sum(); again != first {
		t.Errorf("after reading the source: got sum %x, want %x as before", again, first)
	}
	testkit.Apply(t, from, testkit.Chmod("d/b", 0o600))
	if again := sum(); again == first {
		t.Error("after a change of the source: got the same sum, want another")
	}
}

// writeJournal makes a journal of plan 42 with sums in slots 0 and 5.
func writeJournal(t *testing.T, state *sys.File) {
	t.Helper()
	j, err := newJournal(state, 42)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.putSum(0, 7), j.putSum(5, 1<<63), j.file.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestJournalBelongsToOnePlan(t *testing.T) {
	state, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	path := filepath.Join(state.Path(), journalName)
	writeJournal(t, state)
	j, found, err := openJournal(state, 42)
	if err != nil || !found {
		t.Fatalf("same plan: got found %t, %v, want true, nil", found, err)
	}
	for slot, want := range map[int64]uint64{0: 7, 1: 0, 5: 1 << 63, 6: 0, 1 << 30: 0} {
		if sum, err := j.sumAt(slot); err != nil || sum != want {
			t.Errorf("slot %d: got %x, %v, want %x", slot, sum, err, want)
		}
	}
	j.file.Close()
	for name, spoil := range map[string]func() error{
		"another plan":    func() error { return nil },
		"empty":           func() error { return os.Truncate(path, 0) },
		"half a header":   func() error { return os.Truncate(path, 15) },
		"another version": func() error { return testkit.Write(journalName, 7, "2")(state.Path()) },
	} {
		plan := uint64(42)
		if name == "another plan" {
			plan = 43
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if j, found, err := openJournal(state, plan); j != nil || found || err != nil {
			t.Errorf("%s: openJournal = %v, %t, %v, want nil, false, nil", name, j, found, err)
		}
		if err := RemoveJournal(t.Context(), state); err != nil {
			t.Error(err)
		}
		writeJournal(t, state)
	}
}

// TestJournalThatLostSumsIsAnError truncates the journal: a lost sum must not read as 0.
func TestJournalThatLostSumsIsAnError(t *testing.T) {
	state, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	j, err := newJournal(state, 42)
	if err != nil {
		t.Fatal(err)
	}
	defer j.file.Close()
	it := PlanEntry{Record: tree.Record{Kind: tree.Regular, Size: 2 * block}, slot: 3}
	if err := errors.Join(j.putSum(3, 7), j.putSum(4, 8), j.putSum(5, 9)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		length int64
		ok     bool
	}{{journalHeader + 8*6, true}, {journalHeader + 8*6 - 1, false}, {0, false}} {
		if err := j.file.Truncate(c.length); err != nil {
			t.Fatal(err)
		}
		s := Stage{journal: j}
		whole, err := s.FileSum(&it)
		if (err == nil && whole == 9) != c.ok {
			t.Errorf("journal of %d bytes: got sum %d, %v, want success: %t", c.length, whole, err, c.ok)
		}
		sums, err := s.BlockSums(&it, 0, 3)
		if (err == nil && slices.Equal(sums, []uint64{7, 8, 9})) != c.ok {
			t.Errorf("journal of %d bytes: got sums %d, %v, want success: %t", c.length, sums, err, c.ok)
		}
	}
}

func TestCheckSpace(t *testing.T) {
	p, state := makePlanOf(t, testkit.File("a", 10_000, 1), testkit.File("d/b", block+1, 2), testkit.Sparse("s", 1<<40, nil),
		testkit.Hardlink("a", "d/c"), testkit.Symlink("a", "l"))
	stage, err := p.OpenStage(t.Context(), StageOptions{Resume: true, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	if err := p.CheckSpace(t.Context(), stage, Buffered); err != nil {
		t.Error(err)
	}
	free, err := state.Space()
	if err != nil {
		t.Fatal(err)
	}
	p.Allocated += free.Free
	var short *SpaceError
	if err := p.CheckSpace(t.Context(), stage, Buffered); !errors.As(err, &short) {
		t.Fatalf("more than the free space: got %v, want a *SpaceError", err)
	}
	// The data in whole blocks, a block for each directory, and for the records 512
	// bytes per entry and 24 per slot.
	data := 12288 + block + 4096
	slots := 1 + 3 + int64(1<<18+1)
	if want := free.Free + data + 2*4096 + 7*512 + slots*24; short.Need != want {
		t.Errorf("got %d bytes needed, want %d", short.Need, want)
	}
	if short.NeedInodes != 6 || short.Path != state.Path() {
		t.Errorf("got %+v, want 6 inodes needed at %s", short, state.Path())
	}
}

func TestSpaceErrorHasTheNumbers(t *testing.T) {
	for _, c := range []struct {
		err  SpaceError
		want string
	}{
		{SpaceError{"/x", 12, 11, 5, 6}, "not enough space at /x: the copy needs 12 bytes, 11 are free"},
		{SpaceError{"/x", 11, 12, 6, 5}, "not enough inodes at /x: the copy needs 6, 5 are free"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// TestCheckUnchanged checks that each changed field of the source is noticed.
func TestCheckUnchanged(t *testing.T) {
	it := &PlanEntry{Record: tree.Record{Kind: tree.Regular, Name: "x", Size: 5, Mtime: sys.Time{Sec: 1, Nsec: 2},
		Source: tree.Source{Ino: 7, Ctime: sys.Time{Sec: 3, Nsec: 4}}}}
	good := sys.Stat{Ino: 7, Size: 5, Mtime: it.Mtime, Ctime: it.Source.Ctime}
	if err := checkUnchanged(it, &good); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*sys.Stat){
		"inode":   func(s *sys.Stat) { s.Ino++ },
		"shorter": func(s *sys.Stat) { s.Size-- },
		"longer":  func(s *sys.Stat) { s.Size++ },
		"mtime":   func(s *sys.Stat) { s.Mtime.Nsec++ },
		"ctime":   func(s *sys.Stat) { s.Ctime.Nsec-- },
		"earlier": func(s *sys.Stat) { s.Ctime.Sec-- },
	} {
		s := good
		spoil(&s)
		if err := checkUnchanged(it, &s); !errors.Is(err, ErrSourceChanged) || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%s: got %v, want %v with the name", name, err, ErrSourceChanged)
		}
	}
}

func TestEngineIsAFlag(t *testing.T) {
	var e Engine
	if e.String() != "auto" {
		t.Errorf("zero value: got %q, want auto", e.String())
	}
	for _, name := range []string{"auto", "clone", "range", "direct", "buffered"} {
		if err := e.Set(name); err != nil || e.String() != name {
			t.Errorf("Set(%s): got %q, %v", name, e, err)
		}
	}
	if err := e.Set("cp"); err == nil || !strings.Contains(err.Error(), "auto, clone, range, direct, buffered") {
		t.Errorf("Set(cp): got %v, want an error with all names", err)
	}
}

// hideErrors returns an emit function that waits until a task has run. It stores the error of
// the task in failed, and the pool does not notice it.
func hideErrors(emit func(pool.Task) error, failed *error) func(pool.Task) error {
	return func(task pool.Task) error {
		ran := make(chan struct{})
		err := emit(func(ctx context.Context, w *pool.Worker) error {
			defer close(ran)
			*failed = task(ctx, w)
			return nil
		})
		if err == nil {
			<-ran
		}
		return err
	}
}

// TestRoundThatFailedIsNotReadBack checks that a round with a failed batch never counts as
// copied. Reading it back would fail on the missing files, and that error could hide the
// cause.
func TestRoundThatFailedIsNotReadBack(t *testing.T) {
	p, _ := makePlanOf(t, testkit.File("a", 10, 1), testkit.File("b", 10, 2))
	stage, err := p.OpenStage(t.Context(), StageOptions{Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	workers, err := pool.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer workers.Close()
	c := &copyRun{Options: Options{Engine: Auto, Observer: NopObserver{}}, plan: p, src: p.src, stage: stage, pool: workers}
	c.result.Engines = map[Engine]Usage{}
	var failed error // the stage has no directory
	err = workers.Run(t.Context(), func(ctx context.Context, emit func(pool.Task) error) error {
		s := &smallRounds{run: c, ctx: ctx, current: newRound(), emit: hideErrors(emit, &failed)}
		r := s.current
		if err := p.eachBatch(ctx, func(it *PlanEntry) bool { return it.Kind == tree.Regular }, s.addBatch); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		s.ctx = ctx
		err := s.startNextRound()
		select {
		case <-r.copied:
			t.Error("the failed round counts as copied")
		default:
		}
		if !errors.Is(err, context.Canceled) || s.syncing != nil {
			t.Errorf("startNextRound: got %v, syncing %v, want %v and no syncing", err, s.syncing, context.Canceled)
		}
		return nil
	})
	if err != nil || failed == nil {
		t.Errorf("run: got %v, want nil; batch: got %v, want an error", err, failed)
	}
}

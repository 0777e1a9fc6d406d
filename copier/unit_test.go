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

// What an error of copy_file_range means, for this file, after something of it was
// copied, and for the files after it.
func TestGiveUpRange(t *testing.T) {
	const fallBack, final = true, false
	for _, c := range []struct {
		err      unix.Errno
		atOnce   bool
		later    bool // after something was copied
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
		{unix.ENOSPC, final, final, false},
		{unix.EDQUOT, final, final, false},
		{unix.EFBIG, final, final, false},
		{unix.ENOMEM, final, final, false},
		{unix.EROFS, final, final, false},
		{unix.ESTALE, final, final, false},
	} {
		for _, copied := range []bool{false, true} {
			run, p := &copying{}, &pair{}
			p.ranged.Store(copied)
			want := c.atOnce
			if copied {
				want = c.later
			}
			err := &fs.PathError{Op: "copy_file_range", Path: "x", Err: c.err}
			if got := run.giveUpRange(p, err); got != want {
				t.Errorf("%v, copied before: %t: falls back: %t", c.err, copied, got)
			}
			if got := run.noRange.Load(); got != c.remember {
				t.Errorf("%v: remembered: %t", c.err, got)
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
		if got := tree.Blocks(c.size); got != c.blocks {
			t.Errorf("%d bytes: %d blocks, want %d", c.size, got, c.blocks)
		}
		if totals.slots != c.slots || totals.segments != c.segments || totals.Bytes != c.size || totals.Files != 1 {
			t.Errorf("%d bytes: %+v", c.size, totals)
		}
	}
}

// All segments of a file together are its blocks, each once.
func TestSegmentsCoverTheFile(t *testing.T) {
	for _, size := range []int64{block + 1, 64 * block, 64*block + 1, 200*block - 1} {
		f := &largeFile{}
		f.size = size
		next := int64(0)
		for i := range segments(tree.Blocks(size)) {
			s := &segment{file: f, index: i}
			if s.first() != next || s.blocks() < 1 || s.blocks() > segmentBlocks {
				t.Errorf("%d bytes: segment %d is %d blocks at %d", size, i, s.blocks(), s.first())
			}
			next += s.blocks()
		}
		if next != tree.Blocks(size) {
			t.Errorf("%d bytes: segments of %d blocks, the file has %d", size, next, tree.Blocks(size))
		}
	}
}

func TestAllocated(t *testing.T) {
	for _, c := range []struct{ size, blocks, want int64 }{
		{0, 0, 0}, {1, 8, 4096}, {4096, 8, 4096}, {4097, 16, 8192},
		{1 << 30, 8, 4096},       // sparse: what is allocated
		{5000, 0, 0},             // all hole, or inline in the inode
		{1 << 20, 4096, 1 << 20}, // more reserved than it is long
	} {
		r := &tree.Record{Kind: tree.Regular, Size: c.size, Source: tree.Source{Blocks: c.blocks}}
		if got := allocated(r); got != c.want {
			t.Errorf("%d bytes in %d sectors: %d, want %d", c.size, c.blocks, got, c.want)
		}
	}
}

// planned makes the plan of a tree.
func planned(t *testing.T, steps ...testkit.Step) (*Plan, *sys.File) {
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

// Every file is in one batch, in no batch are two directories, and none is larger
// than is good.
func TestBatches(t *testing.T) {
	var steps []testkit.Step
	for i := range 2*batchEntries + 1 {
		steps = append(steps, testkit.Content(fmt.Sprintf("many/%d", i), ""))
	}
	for i := range 7 {
		steps = append(steps, testkit.Sparse(fmt.Sprintf("big/%d", i), block, nil))
	}
	steps = append(steps, testkit.Content("z/a/file", ""), testkit.Content("z/file", ""), testkit.Dir("z/b", 0o755), testkit.Content("z/c/file", ""))
	p, _ := planned(t, steps...)
	seen := map[string]int{}
	var sizes []string
	err := p.batches(t.Context(), func(it *Item) bool { return it.Kind == tree.Regular }, func(b *batch) error {
		bytes := int64(0)
		for i := range b.entries {
			it := &b.entries[i]
			seen[it.Below()]++
			if it.Path != b.path {
				t.Errorf("%q is in a batch of %q", it.Below(), b.path)
			}
			bytes += it.Size
		}
		if len(b.entries) == 0 || len(b.entries) > batchEntries || bytes > batchBytes+block || bytes != b.bytes {
			t.Errorf("a batch of %d entries and %d (%d) bytes", len(b.entries), bytes, b.bytes)
		}
		sizes = append(sizes, fmt.Sprint(b.path, " ", len(b.entries)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(sizes, ", "); got != "big 5, big 2, many 256, many 256, many 1, z 1, z/a 1, z/c 1" {
		t.Errorf("batches: %s", got)
	}
	if int64(len(seen)) != p.Files {
		t.Errorf("%d files of %d", len(seen), p.Files)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%q is in %d batches", name, n)
		}
	}
}

// Each regular file has slots of its own in the journal, up to the last one.
func TestSlotsOfAPlan(t *testing.T) {
	p, _ := planned(t, testkit.Sparse("a", 3*block, nil), testkit.Content("b", ""), testkit.Content("c/d", "x"),
		testkit.Hardlink("a", "c/e"), testkit.Sparse("f", block+1, nil), testkit.Symlink("a", "g"))
	taken := map[int64]string{}
	err := p.Each(t.Context(), func(it *Item) error {
		if it.Kind != tree.Regular {
			return nil
		}
		for i := range slots(it.Size) {
			if other := taken[it.slot+i]; other != "" {
				t.Errorf("%q and %q have slot %d", other, it.Below(), it.slot+i)
			}
			taken[it.slot+i] = it.Below()
		}
		return nil
	})
	if err != nil || int64(len(taken)) != p.slots || p.slots != 4+1+3+1 {
		t.Errorf("%d slots are taken, the plan has %d: %v", len(taken), p.slots, err)
	}
}

// A plan has the same sum for as long as the source stays the same, and another
// one after.
func TestPlanSumIsTheSource(t *testing.T) {
	from := t.TempDir()
	testkit.Apply(t, from, testkit.Content("a", "x"), testkit.Content("d/b", "y"))
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
	testkit.Snapshot(from) // reading changes access times
	if again := sum(); again != first {
		t.Errorf("the source was only read, the plan was %x and is %x", first, again)
	}
	testkit.Apply(t, from, testkit.Chmod("d/b", 0o600))
	if again := sum(); again == first {
		t.Error("the source was changed, the plan was not")
	}
}

func TestJournalBelongsToOnePlan(t *testing.T) {
	state, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	path := filepath.Join(state.Path(), journalName)
	begin := func() {
		t.Helper()
		j, err := newJournal(state, 42)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.put(0, 7), j.put(5, 1<<63), j.file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	j, kept, err := openJournal(state, 42)
	if err != nil || !kept {
		t.Fatalf("of the same plan: %t, %v", kept, err)
	}
	for slot, want := range map[int64]uint64{0: 7, 1: 0, 5: 1 << 63, 6: 0, 1 << 30: 0} {
		if sum, err := j.get(slot); err != nil || sum != want {
			t.Errorf("slot %d: %x, %v", slot, sum, err)
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
		if j, kept, err := openJournal(state, plan); j != nil || kept || err != nil {
			t.Errorf("%s: %t, %v", name, kept, err)
		}
		if err := DropJournal(t.Context(), state); err != nil {
			t.Error(err)
		}
		begin()
	}
}

// What was written and is not there any more is no sum of 0.
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
	it := Item{Record: tree.Record{Kind: tree.Regular, Size: 2 * block}, slot: 3}
	if err := errors.Join(j.put(3, 7), j.put(4, 8), j.put(5, 9)); err != nil {
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
		whole, err := s.Sum(&it)
		if (err == nil && whole == 9) != c.ok {
			t.Errorf("journal of %d bytes: sum %d, %v", c.length, whole, err)
		}
		sums, err := s.BlockSums(&it, 0, 3)
		if (err == nil && slices.Equal(sums, []uint64{7, 8, 9})) != c.ok {
			t.Errorf("journal of %d bytes: sums %d, %v", c.length, sums, err)
		}
	}
}

func TestCheckSpace(t *testing.T) {
	p, state := planned(t, testkit.File("a", 10_000, 1), testkit.File("d/b", block+1, 2), testkit.Sparse("s", 1<<40, nil),
		testkit.Hardlink("a", "d/c"), testkit.Symlink("a", "l"))
	stage, err := p.OpenStage(t.Context(), true, 2)
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
		t.Fatalf("more than there is: %v", err)
	}
	// The data in whole blocks, a block for each directory, and for the books 512
	// bytes an entry and 24 a slot.
	data := 12288 + block + 4096
	slots := 1 + 3 + int64(1<<18+1)
	if want := free.Free + data + 2*4096 + 7*512 + slots*24; short.Need != want {
		t.Errorf("it says that %d bytes are needed, want %d", short.Need, want)
	}
	if short.NeedInodes != 6 || short.Path != state.Path() {
		t.Errorf("%+v", short)
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

// same tells the plan's entry from any other state of the source.
func TestSame(t *testing.T) {
	it := &Item{Record: tree.Record{Kind: tree.Regular, Name: "x", Size: 5, Mtime: sys.Time{Sec: 1, Nsec: 2},
		Source: tree.Source{Ino: 7, Ctime: sys.Time{Sec: 3, Nsec: 4}}}}
	good := sys.Stat{Ino: 7, Size: 5, Mtime: it.Mtime, Ctime: it.Source.Ctime}
	if err := same(it, &good); err != nil {
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
		if err := same(it, &s); !errors.Is(err, ErrSourceChanged) || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEngineIsAFlag(t *testing.T) {
	var e Engine
	if e.String() != "auto" {
		t.Errorf("zero is %q", e.String())
	}
	for _, name := range []string{"auto", "clone", "range", "direct", "buffered"} {
		if err := e.Set(name); err != nil || e.String() != name {
			t.Errorf("%s: %q, %v", name, e, err)
		}
	}
	if err := e.Set("cp"); err == nil || !strings.Contains(err.Error(), "auto, clone, range, direct, buffered") {
		t.Errorf("unknown: %v", err)
	}
}

// A round of which a batch failed is never looked upon as copied: reading it back would
// miss what was not written, and that error could come before the cause.
func TestRoundThatFailedIsNotReadBack(t *testing.T) {
	p, _ := planned(t, testkit.File("a", 10, 1), testkit.File("b", 10, 2))
	stage, err := p.OpenStage(t.Context(), false, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	workers, err := pool.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer workers.Close()
	c := &copying{Options: Options{Engine: Auto, Observer: Nobody{}}, plan: p, src: p.src, stage: stage, pool: workers}
	c.result.Engines = map[Engine]Usage{}
	var failed error
	err = workers.Run(t.Context(), func(ctx context.Context, emit func(pool.Task) error) error {
		s := &smallRounds{c: c, ctx: ctx, copying: newRound(), emit: func(task pool.Task) error {
			ran := make(chan struct{})
			err := emit(func(ctx context.Context, w *pool.Worker) error {
				defer close(ran)
				failed = task(ctx, w) // the stage has no directory
				return nil            // as long as the pool does not know yet
			})
			if err == nil {
				<-ran
			}
			return err
		}}
		r := s.copying
		if err := p.batches(ctx, func(it *Item) bool { return it.Kind == tree.Regular }, s.add); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		s.ctx = ctx
		err := s.turn()
		select {
		case <-r.copied:
			t.Error("the round is copied")
		default:
		}
		if !errors.Is(err, context.Canceled) || s.syncing != nil {
			t.Errorf("turn: %v, and the round goes on", err)
		}
		return nil
	})
	if err != nil || failed == nil {
		t.Errorf("run: %v; the batch: %v", err, failed)
	}
}

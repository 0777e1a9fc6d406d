package shardtossd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

// interruptCopy calls Ensure with a hook that interrupts it. It checks that Ensure publishes
// and registers nothing, and keeps its stage.
func (s *site) interruptCopy(by func(cancel context.CancelCauseFunc) *hook, options ...ensureOption) {
	s.t.Helper()
	ctx, cancel := context.WithCancelCause(s.t.Context())
	defer cancel(nil)
	options = append(options, withObserver(by(cancel)))
	r, err := s.runEnsure(ctx, options...)
	if !errors.Is(err, errInterrupted) || r.Outcome != "" {
		s.t.Fatalf("interrupted Ensure: got %q, %v, want %v", r.Outcome, err, errInterrupted)
	}
	s.expectNotPublished()
	if _, err := os.Lstat(s.stageDir()); err != nil {
		s.t.Errorf("an interrupted copy must keep its stage: %v", err)
	}
}

// expectNotPublished checks that no shard is published and no user is registered.
func (s *site) expectNotPublished() {
	s.t.Helper()
	for _, path := range []string{s.publishedPath(), s.userFile()} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			s.t.Errorf("%s exists, or Lstat failed: %v", path, err)
		}
	}
}

// hugeSize is the size of the file whose copy is interrupted: five blocks.
const hugeSize = 20 * mebi

// resumableReadBacks is the number of blocks and small files in resumableTree that are read
// back: 5 blocks of huge, 6 of sparse, and 61 small files. Everything is in the stage
// before the last but one is read back.
const resumableReadBacks = 5 + 6 + 61

// resumableTree has data in a large file, in a sparse file and in many small files.
func resumableTree() []testkit.Step {
	steps := []testkit.Step{
		testkit.File("huge", hugeSize, 1), testkit.Hardlink("huge", "z/huge"),
		testkit.Sparse("sparse", 21*mebi, []testkit.Extent{{Off: 2 * mebi, Len: 10}, {Off: 17 * mebi, Len: mebi}}),
		testkit.Symlink("huge", "link"), testkit.Dir("empty", 0o555), testkit.TextFile("nothing", ""),
	}
	for i := range 60 {
		steps = append(steps, testkit.File(fmt.Sprintf("small%d/%d", i%3, i), int64(i)*3000+1, uint64(i)))
	}
	return append(steps, testkit.Chmod("small1", 0o555))
}

// A copy can be interrupted at any point and resumed: it does not copy a file or a block twice.
func TestInterruptedCopiesAreResumed(t *testing.T) {
	large := []testkit.Step{testkit.File("huge", hugeSize, 1)}
	for _, c := range []struct {
		name    string
		steps   []testkit.Step
		at      func(*hook, func(int64))
		calls   []int64
		options []ensureOption
	}{
		{"blocks of a file", large, (*hook).atCopied, []int64{1, 3, 5}, nil},
		{"blocks of a file, direct", large, (*hook).atCopied, []int64{3}, []ensureOption{withEngine(copier.Direct)}},
		{"blocks of a file, buffered", large, (*hook).atCopied, []int64{3}, []ensureOption{withEngine(copier.Buffered)}},
		{"blocks of a file, range", large, (*hook).atCopied, []int64{3}, []ensureOption{withEngine(copier.Range)}},
		{"read back blocks of a file", large, (*hook).atReadBack, []int64{1, 5}, nil},
		{"tree", resumableTree(), (*hook).atCopied, []int64{1, 20, 70}, nil},
		{"read back of a tree", resumableTree(), (*hook).atReadBack, []int64{1, 20, 70}, nil},
		{"one worker", resumableTree(), (*hook).atCopied, []int64{30}, []ensureOption{withJobs(1)}},
	} {
		for _, n := range c.calls {
			t.Run(fmt.Sprint(c.name, " at ", n), func(t *testing.T) {
				s := newSite(t, t.TempDir(), t.TempDir())
				testkit.MakeRemovable(t, s.source)
				testkit.MakeRemovable(t, s.ssd)
				testkit.Apply(t, s.source, c.steps...)
				options := append([]ensureOption{withJobs(2)}, c.options...)
				var before atomic.Int64
				s.interruptCopy(func(cancel context.CancelCauseFunc) *hook {
					h := cancelAtCall(n, c.at)(cancel)
					count := h.copied
					h.copied = func(bytes int64) {
						before.Add(bytes)
						if count != nil {
							count(bytes)
						}
					}
					return h
				}, options...)
				s.expectListedStage(before.Load())
				r := s.mustCopy(options...)
				if r.ResumedBytes != before.Load() {
					t.Errorf("got %d of %d bytes resumed, want the %d that were copied before: %q", r.ResumedBytes, r.Bytes, before.Load(), s.log)
				}
				s.mustVerify()
				s.mustRelease()
			})
		}
	}
}

// expectListedStage checks that List reports the stage and the bytes in it.
func (s *site) expectListedStage(bytes int64) {
	s.t.Helper()
	r, err := shardtossd.List(s.t.Context(), shardtossd.ListOptions{Host: s.newHost(), Shard: s.source})
	if err != nil || len(r.Shards) != 1 {
		s.t.Fatalf("List: got %+v, %v, want one shard", r, err)
	}
	if info := r.Shards[0]; !info.Stage || info.StageBytes != bytes || info.State != shardtossd.StateAbsent || info.Copying {
		s.t.Errorf("List: got %+v, want an absent shard with a stage of %d bytes, not copying", info, bytes)
	}
}

// countingContext is canceled by the n-th call of its Err method. With n from 1 on, a copy
// is canceled at each place that checks its context, one after the other.
type countingContext struct {
	context.Context
	left atomic.Int64
	done chan struct{}
}

// cancelAfterChecks returns a context that the n-th check cancels.
func cancelAfterChecks(ctx context.Context, n int64) *countingContext {
	c := &countingContext{Context: ctx, done: make(chan struct{})}
	c.left.Store(n)
	return c
}

func (c *countingContext) Done() <-chan struct{} { return c.done }

func (c *countingContext) Err() error {
	switch left := c.left.Add(-1); {
	case left == 0:
		close(c.done)
	case left > 0:
		return nil
	}
	return context.Canceled
}

// Value hides the context of the test: context.Cause would ask that one instead of Err.
func (c *countingContext) Value(any) any { return nil }

// A copy that is stopped at any place has published nothing and registered no user, or it
// has done both completely. The next copy completes it.
func TestStoppedAnywhere(t *testing.T) {
	for n := int64(1); ; n++ {
		s := newSite(t, t.TempDir(), t.TempDir())
		testkit.Apply(t, s.source, mixedTree()...)
		_, err := s.runEnsure(cancelAfterChecks(t.Context(), n), withJobs(2))
		if err == nil {
			testkit.ExpectSame(t, s.source, s.publishedPath())
			if n < 20 {
				t.Errorf("got %d checks of the context, want at least 20", n)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped at check %d: got %v, want %v", n, err, context.Canceled)
		}
		s.expectNotPublished()
		s.mustCopy()
		s.mustRelease()
		if t.Failed() {
			t.Fatalf("the copy was stopped at check %d", n)
		}
	}
}

// flipBitOfFile changes one bit of a file in place.
func flipBitOfFile(t testing.TB, path string, off int64) {
	t.Helper()
	if err := flipBit(path, off); err != nil {
		t.Fatal(err)
	}
}

func flipBit(path string, off int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		return err
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], off); err != nil {
		return err
	}
	return f.Sync()
}

// A stageDamage changes a state dir that resumableTree was copied to.
type stageDamage struct {
	name   string
	damage []testkit.Step // below the state dir
	kept   bool           // whether a part of the stage is resumed
}

// stageDamages lists the ways in which the stage, the journal and the plan can be damaged.
func stageDamages() []stageDamage {
	garbage := func(name string, from int64) testkit.Step {
		return func(root string) error {
			st, err := os.Stat(filepath.Join(root, name))
			if err != nil {
				return err
			}
			return testkit.Write(name, from, strings.Repeat("garbage\xff", int(st.Size()-from)/8+1))(root)
		}
	}
	bit := func(name string, off int64) testkit.Step {
		return func(root string) error { return flipBit(filepath.Join(root, name), off) }
	}
	return []stageDamage{
		{"nothing", nil, true},
		{"bit in a block", []testkit.Step{bit("stage/huge", 1)}, true},
		{"bit in the last block", []testkit.Step{bit("stage/huge", hugeSize-1)}, true},
		{"bit in a small file", []testkit.Step{bit("stage/small0/3", 9)}, true},
		{"bit in the data of a sparse file", []testkit.Step{bit("stage/sparse", 2*mebi+1)}, true},
		{"bit in a hole", []testkit.Step{bit("stage/sparse", 9*mebi)}, true},
		{"small file deleted", []testkit.Step{testkit.Remove("stage/small0/3")}, true},
		{"small file emptied", []testkit.Step{testkit.Truncate("stage/small0/3", 0)}, true},
		{"small file cut", []testkit.Step{testkit.Truncate("stage/small0/3", 100)}, true},
		{"small file longer", []testkit.Step{testkit.Truncate("stage/small0/3", 90_000)}, true},
		{"empty file longer", []testkit.Step{testkit.Truncate("stage/nothing", 1)}, true},
		{"large file deleted", []testkit.Step{testkit.Remove("stage/huge")}, true},
		{"large file emptied", []testkit.Step{testkit.Truncate("stage/huge", 0)}, true},
		{"large file cut", []testkit.Step{testkit.Truncate("stage/huge", 7*mebi)}, true},
		{"large file longer", []testkit.Step{testkit.Truncate("stage/huge", hugeSize+mebi)}, true},
		{"large file of zeros", []testkit.Step{testkit.Truncate("stage/huge", 0), testkit.Truncate("stage/huge", hugeSize)}, true},
		{"large file of another mode", []testkit.Step{testkit.Chmod("stage/huge", 0)}, true},
		{"directory of another mode", []testkit.Step{testkit.Chmod("stage/small0", 0o555)}, true},
		{"directory emptied and removed", []testkit.Step{testkit.Remove("stage/empty")}, true},
		{"link elsewhere", []testkit.Step{testkit.Remove("stage/link"), testkit.Symlink("z", "stage/link")}, true},
		{"link removed", []testkit.Step{testkit.Remove("stage/link")}, true},
		{"journal deleted", []testkit.Step{testkit.Remove("journal")}, false},
		{"journal emptied", []testkit.Step{testkit.Truncate("journal", 0)}, false},
		{"journal cut in its header", []testkit.Step{testkit.Truncate("journal", 12)}, false},
		{"journal of nothing", []testkit.Step{testkit.Truncate("journal", 16)}, false},
		{"journal cut", []testkit.Step{testkit.Truncate("journal", 16+8*4+3)}, true},
		{"bit in the header of the journal", []testkit.Step{bit("journal", 9)}, false},
		{"bit in a sum of the journal", []testkit.Step{bit("journal", 16+8*2)}, true},
		{"garbage for a journal", []testkit.Step{garbage("journal", 0)}, false},
		{"garbage for the sums of the journal", []testkit.Step{garbage("journal", 16)}, false},
		{"plan deleted", []testkit.Step{testkit.Remove("plan")}, true},
		{"garbage for a plan", []testkit.Step{garbage("plan", 0)}, true},
		{"bit in the plan", []testkit.Step{bit("plan", 100)}, true},
		{"stage deleted", []testkit.Step{testkit.Remove("stage/huge"), removeTree("stage")}, false},
	}
}

// A power cut or another process may damage a stage, its journal or its plan. The damage
// must not reach the copy, and it must not prevent the copy.
func TestResumeOfADamagedStage(t *testing.T) {
	for _, c := range stageDamages() {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			testkit.MakeRemovable(t, s.source)
			testkit.MakeRemovable(t, s.ssd)
			testkit.Apply(t, s.source, resumableTree()...)
			s.interruptCopy(cancelAtCall(resumableReadBacks-1, (*hook).atReadBack), withJobs(1))
			testkit.Apply(t, s.stateDir(), c.damage...)
			r := s.mustCopy()
			if kept := r.ResumedBytes > 0; kept != c.kept {
				t.Errorf("got %d bytes resumed, want any: %v; log: %q", r.ResumedBytes, c.kept, s.log)
			}
			s.mustRelease()
		})
	}
}

func removeTree(name string) testkit.Step {
	return func(root string) error { return os.RemoveAll(filepath.Join(root, name)) }
}

// Only blocks that were found good count as resumed: a block that is copied again does not.
func TestDamagedBlocksAreNotCountedAsKept(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, testkit.File("huge", hugeSize, 1), testkit.File("small", 1000, 2))
	s.interruptCopy(cancelAtCall(6, (*hook).atReadBack), withJobs(1))
	flipBitOfFile(t, filepath.Join(s.stageDir(), "huge"), 13*mebi)
	if r := s.mustCopy(); r.ResumedBytes > hugeSize-4*mebi+1000 {
		t.Errorf("got %d bytes resumed, want a damaged block of 4 MiB less than %d", r.ResumedBytes, hugeSize+1000)
	}
}

// A source with any change since the interruption is copied from the beginning. Reading a
// file is not a change.
func TestSourceChangesBetweenTwoRuns(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []testkit.Step
		kept  bool
	}{
		{"size", []testkit.Step{testkit.Truncate("huge", hugeSize-1)}, false},
		{"one byte", []testkit.Step{testkit.Write("huge", 5, "x")}, false},
		{"one byte, mtime set back", []testkit.Step{testkit.Times("huge", time.Unix(5, 0), time.Unix(5, 0)), testkit.Write("huge", 5, "x"),
			testkit.Times("huge", time.Unix(5, 0), time.Unix(5, 0))}, false},
		{"entry added", []testkit.Step{testkit.TextFile("small0/new", "")}, false},
		{"entry removed", []testkit.Step{testkit.Remove("nothing")}, false},
		{"renamed", []testkit.Step{testkit.Rename("nothing", "nothing2")}, false},
		{"mode", []testkit.Step{testkit.Chmod("huge", 0o600)}, false},
		{"link target", []testkit.Step{testkit.Remove("link"), testkit.Symlink("z", "link")}, false},
		{"replaced by an equal file", []testkit.Step{replaceByEqualFile("huge")}, false},
		{"only read", []testkit.Step{readTree}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, t.TempDir(), t.TempDir())
			testkit.MakeRemovable(t, s.source)
			testkit.MakeRemovable(t, s.ssd)
			testkit.Apply(t, s.source, resumableTree()...)
			waitForClockTick(t, s.ssd)
			s.interruptCopy(cancelAtCall(60, (*hook).atCopied))
			testkit.Apply(t, s.source, c.steps...)
			if r := s.mustCopy(); (r.ResumedBytes > 0) != c.kept {
				t.Errorf("got %d bytes resumed, want any: %v; log: %q", r.ResumedBytes, c.kept, s.log)
			}
			if discarded := slices.ContainsFunc(s.log, isDiscarded); discarded == c.kept {
				t.Errorf("got a message about the discarded stage: %v, want %v; log: %q", discarded, !c.kept, s.log)
			}
			s.mustRelease()
		})
	}
}

// replaceByEqualFile replaces a file by another one with the same contents, mode and mtime.
func replaceByEqualFile(name string) testkit.Step {
	return func(root string) error {
		path := filepath.Join(root, name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(path+".new", data, info.Mode().Perm()),
			os.Chtimes(path+".new", info.ModTime(), info.ModTime()), os.Rename(path+".new", path))
	}
}

// When a file system writes a file back, the file may have more blocks than before. ext4
// counts the blocks of the extent tree, which a file with more than four extents needs.
// That is not a change of the source.
func TestWriteBackOfTheSourceIsNoChange(t *testing.T) {
	from := testkit.Mount(t, "ext4", 64<<20)
	s := newSite(t, from, t.TempDir())
	var extents []testkit.Extent
	for i := range int64(12) {
		extents = append(extents, testkit.Extent{Off: i * 2 * mebi, Len: 4096})
	}
	testkit.Apply(t, s.source, testkit.Sparse("sparse", 25*mebi, extents))
	file := filepath.Join(s.source, "sparse")
	before := lstatFile(t, file)
	s.interruptCopy(cancelAtCall(4, (*hook).atReadBack), withJobs(1))
	testkit.RunCommand(t, "sync", "-f", file)
	if after := lstatFile(t, file); after.Blocks == before.Blocks || after.Ctim != before.Ctim {
		t.Fatalf("write-back of %s: got %d blocks and ctime %v, want other than %d blocks and ctime %v", file,
			after.Blocks, after.Ctim, before.Blocks, before.Ctim)
	}
	if r := s.mustCopy(); r.ResumedBytes == 0 {
		t.Errorf("got no bytes resumed, want some: %q", s.log)
	}
	s.mustRelease()
}

func lstatFile(t testing.TB, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// readTree reads all files and directories, which changes access times.
func readTree(root string) error {
	testkit.SnapshotTree(root)
	return nil
}

func isDiscarded(line string) bool { return strings.HasPrefix(line, "Discarded an interrupted copy") }

func TestNoResume(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, testkit.File("huge", 20*mebi, 1), testkit.TextFile("small", "x"))
	s.interruptCopy(cancelAtCall(3, (*hook).atCopied))
	if r := s.mustCopy(withoutResume); r.ResumedBytes != 0 || !slices.ContainsFunc(s.log, isDiscarded) {
		t.Errorf("got %d bytes resumed, want 0 and a message about the discarded stage: %q", r.ResumedBytes, s.log)
	}
	s.mustRelease()
}

// Release removes the leftovers of an interrupted first copy.
func TestReleaseOfAnInterruptedCopy(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	testkit.Apply(t, s.source, testkit.File("huge", 20*mebi, 1))
	s.interruptCopy(cancelAtCall(3, (*hook).atCopied))
	if r, err := shardtossd.Release(t.Context(), s.releaseOptions()); err != nil || r.Outcome != shardtossd.NothingToDo {
		t.Errorf("Release: got %q, %v, want %q", r.Outcome, err, shardtossd.NothingToDo)
	}
	s.expectNothingLeft()
}

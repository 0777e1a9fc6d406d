package copier

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/internal/tree"
)

// emptyJournal is one in a directory of its own.
func emptyJournal(t testing.TB) *journal {
	t.Helper()
	state, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j, err := newJournal(state, 42)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(j.file.Close(), state.Close()); err != nil {
			t.Error(err)
		}
	})
	return j
}

// A scan finds the sums that are there, wherever they are and whatever pieces of
// the journal it is asked for.
func TestScanFindsEverySum(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		j, want := emptyJournal(t), []int64(nil)
		slot := int64(0)
		for range 200 {
			steps := []int64{1, 1, 1, 2, 500, 511, 512, scanned - 1, scanned, scanned + 1, 1 << 20, 1 << 31}
			if slot += steps[r.IntN(len(steps))]; slot >= 1<<36 {
				break
			}
			if err := j.put(slot, 1+r.Uint64()>>1); err != nil {
				t.Fatal(err)
			}
			want = append(want, slot)
		}
		last := slot + 1 + r.Int64N(1<<40)
		if r.IntN(2) == 0 { // a hole behind the last
			if err := j.file.Truncate(journalHeader + 8*last - int64(r.IntN(8))); err != nil {
				t.Fatal(err)
			}
		}
		if got := scanAll(t, j, r, last); !slices.Equal(got, want) {
			t.Errorf("seed %d: found %v, wanted %v", seed, got, want)
		}
	}
}

// scanAll asks for one range after the other, some of them with gaps between that
// no sum is in.
func scanAll(t *testing.T, j *journal, r *rand.Rand, last int64) (found []int64) {
	t.Helper()
	s := j.scan(t.Context())
	for from := int64(0); from < last; {
		lengths := []int64{1, 7, scanned, 1 << 22, 1 << 38}
		end := min(from+lengths[r.IntN(len(lengths))], last)
		if r.IntN(2) == 0 { // so that it is not asked 2^40 times for one
			end = last
		}
		for slot, err := s.next(from, end); slot < end; slot, err = s.next(slot+1, end) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, slot)
		}
		from = end
	}
	return found
}

// What looks at a copy of another process stops when it is told.
func TestProgressStops(t *testing.T) {
	p, state := planned(t, testkit.File("a", 2*block+1, 1), testkit.File("b", 5, 2))
	s, err := p.OpenStage(t.Context(), true, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.journal.put(0, 1), s.journal.put(2, 1), s.journal.put(4, 1)); err != nil {
		t.Fatal(err)
	}
	if done, total, err := Progress(t.Context(), state); done != block+1+5 || total != 2*block+1+5 || err != nil {
		t.Errorf("%d of %d, %v", done, total, err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	sums := s.journal.scan(ctx)
	if _, err := sums.next(0, 5); err != stopped {
		t.Errorf("a scan was stopped: %v", err)
	}
	if _, _, err := Progress(ctx, state); err != stopped {
		t.Errorf("stopped: %v", err)
	}
}

// What the journal costs: one put for each block and each small file, and what
// reads it again.
func BenchmarkJournal(b *testing.B) {
	const gib, files = int64(1 << 30 / tree.BlockSize), int64(60_000)
	for _, c := range []struct {
		name string
		puts int64
	}{{"put/GiB", gib}, {"put/60000files", files}} {
		b.Run(c.name, func(b *testing.B) {
			j := emptyJournal(b)
			b.ReportAllocs()
			for b.Loop() {
				for slot := range c.puts {
					if err := j.put(slot, 1); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(int64(b.N)*c.puts), "ns/put")
		})
	}
	full := func(b *testing.B) *journal {
		j := emptyJournal(b)
		for slot := range files {
			if err := j.put(slot, 1); err != nil {
				b.Fatal(err)
			}
		}
		return j
	}
	b.Run("get/60000files", func(b *testing.B) {
		j := full(b)
		b.ReportAllocs()
		for b.Loop() {
			for slot := range files {
				if sum, err := j.get(slot); sum != 1 || err != nil {
					b.Fatal(sum, err)
				}
			}
		}
	})
	b.Run("scan/60000files", func(b *testing.B) {
		j := full(b)
		b.ReportAllocs()
		for b.Loop() {
			s := j.scan(b.Context())
			for slot := range files {
				if at, err := s.next(slot, slot+1); at != slot || err != nil {
					b.Fatal(at, err)
				}
			}
		}
	})
}

// The state dir may hold anything under the names of the books.
func TestBooksThatAreNoFiles(t *testing.T) {
	odd := map[string]testkit.Step{}
	for _, name := range []string{planName, journalName} {
		odd[name+" a link"] = testkit.Symlink("../victim", name)
		odd[name+" a dangling link"] = testkit.Symlink("none", name)
		odd[name+" a FIFO"] = testkit.FIFO(name)
		odd[name+" a socket"] = testkit.Socket(name)
		odd[name+" a directory"] = testkit.Content(name+"/deep/x", "x")
	}
	for name, step := range odd {
		t.Run(name, func(t *testing.T) {
			_, state := planned(t, testkit.Content("a", "x"))
			if err := errors.Join(DropPlan(t.Context(), state), step(state.Path())); err != nil {
				t.Fatal(err)
			}
			if _, _, err := Progress(t.Context(), state); err == nil {
				t.Error("progress was read from it")
			}
			if j, kept, err := openJournal(state, 42); j != nil || kept || err != nil {
				t.Errorf("it was opened as a journal: %v, %v", kept, err)
			}
			if err := errors.Join(DropPlan(t.Context(), state), DropJournal(t.Context(), state)); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(state.Path()); len(left) > 0 || err != nil {
				t.Errorf("left: %v, %v", left, err)
			}
			if _, err := os.Lstat(filepath.Join(state.Path(), "../victim")); !os.IsNotExist(err) {
				t.Error(fmt.Errorf("made through the link: %w", err))
			}
		})
	}
}

// Sums that were put in runs, of slots that follow each other or not, are what Sum
// gives back, also across the pieces that it reads.
func TestRunsAreWhatSumReads(t *testing.T) {
	j, want := emptyJournal(t), map[int64]uint64{}
	r, sums := rand.New(rand.NewPCG(1, 0)), run{j: j}
	for slot := int64(0); slot < 3*scanned; slot += []int64{1, 1, 1, 1, 1, 1, 3, 200}[r.IntN(8)] {
		want[slot] = 1 + r.Uint64()>>1
		if err := sums.put(slot, want[slot]); err != nil {
			t.Fatal(err)
		}
	}
	if err := sums.flush(); err != nil {
		t.Fatal(err)
	}
	s := Stage{journal: j}
	for slot, sum := range want { // in any order
		it := Item{Record: tree.Record{Kind: tree.Regular, Size: 1}, slot: slot}
		if got, err := s.Sum(&it); got != sum || err != nil {
			t.Fatalf("slot %d: got %x, %v, wanted %x", slot, got, err, sum)
		}
	}
}

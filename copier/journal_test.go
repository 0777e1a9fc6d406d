package copier

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/internal/tree"
)

// emptyJournal makes a journal without sums, in a directory of its own.
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

// TestScanFindsEverySum writes sums at random slots and scans the journal in random ranges.
func TestScanFindsEverySum(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		j, want := emptyJournal(t), []int64(nil)
		slot := int64(0)
		for range 200 {
			steps := []int64{1, 1, 1, 2, 500, 511, 512, slotsPerScan - 1, slotsPerScan, slotsPerScan + 1, 1 << 20, 1 << 31}
			if slot += steps[r.IntN(len(steps))]; slot >= 1<<36 {
				break
			}
			if err := j.putSum(slot, 1+r.Uint64()>>1); err != nil {
				t.Fatal(err)
			}
			want = append(want, slot)
		}
		last := slot + 1 + r.Int64N(1<<40)
		if r.IntN(2) == 0 { // a hole after the last sum
			if err := j.file.Truncate(journalHeader + 8*last - int64(r.IntN(8))); err != nil {
				t.Fatal(err)
			}
		}
		if got := scanAll(t, j, r, last); !slices.Equal(got, want) {
			t.Errorf("seed %d: found sums in slots %v, want %v", seed, got, want)
		}
	}
}

// scanAll scans one random range after the other, from slot 0 to last.
func scanAll(t *testing.T, j *journal, r *rand.Rand, last int64) (found []int64) {
	t.Helper()
	s := j.newScan(t.Context())
	for from := int64(0); from < last; {
		lengths := []int64{1, 7, slotsPerScan, 1 << 22, 1 << 38}
		end := min(from+lengths[r.IntN(len(lengths))], last)
		if r.IntN(2) == 0 { // otherwise short ranges could take 2^40 calls
			end = last
		}
		for slot, err := s.nextSum(from, end); slot < end; slot, err = s.nextSum(slot+1, end) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, slot)
		}
		from = end
	}
	return found
}

// TestProgressStops cancels Progress and a scan.
func TestProgressStops(t *testing.T) {
	p, state := makePlanOf(t, testkit.File("a", 2*block+1, 1), testkit.File("b", 5, 2))
	s, err := p.OpenStage(t.Context(), StageOptions{Resume: true, Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.journal.putSum(0, 1), s.journal.putSum(2, 1), s.journal.putSum(4, 1)); err != nil {
		t.Fatal(err)
	}
	if done, total, err := StageProgress(t.Context(), state); done != block+1+5 || total != 2*block+1+5 || err != nil {
		t.Errorf("Progress = %d, %d, %v, want %d, %d, nil", done, total, err, block+1+5, 2*block+1+5)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	sums := s.journal.newScan(ctx)
	if _, err := sums.nextSum(0, 5); err != stopped {
		t.Errorf("canceled scan: got error %v, want %v", err, stopped)
	}
	if _, _, err := StageProgress(ctx, state); err != stopped {
		t.Errorf("canceled Progress: got error %v, want %v", err, stopped)
	}
}

// BenchmarkJournal measures the journal: one write for each block and each small file, and
// the reads of a resumed copy.
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
					if err := j.putSum(slot, 1); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(int64(b.N)*c.puts), "ns/put")
		})
	}
	b.Run("get/60000files", func(b *testing.B) {
		j := fullJournal(b, files)
		b.ReportAllocs()
		for b.Loop() {
			for slot := range files {
				if sum, err := j.sumAt(slot); sum != 1 || err != nil {
					b.Fatal(sum, err)
				}
			}
		}
	})
	b.Run("scan/60000files", func(b *testing.B) {
		j := fullJournal(b, files)
		b.ReportAllocs()
		for b.Loop() {
			s := j.newScan(b.Context())
			for slot := range files {
				if at, err := s.nextSum(slot, slot+1); at != slot || err != nil {
					b.Fatal(at, err)
				}
			}
		}
	})
}

// fullJournal makes a journal with sums in the first slots.
func fullJournal(b *testing.B, slots int64) *journal {
	b.Helper()
	j := emptyJournal(b)
	for slot := range slots {
		if err := j.putSum(slot, 1); err != nil {
			b.Fatal(err)
		}
	}
	return j
}

// TestRecordsOfOtherTypes puts entries of other types under the names of plan and journal.
func TestRecordsOfOtherTypes(t *testing.T) {
	odd := map[string]testkit.Step{}
	for _, name := range []string{planName, journalName} {
		odd[name+" a link"] = testkit.Symlink("../victim", name)
		odd[name+" a dangling link"] = testkit.Symlink("none", name)
		odd[name+" a FIFO"] = testkit.FIFO(name)
		odd[name+" a socket"] = testkit.Socket(name)
		odd[name+" a directory"] = testkit.TextFile(name+"/deep/x", "x")
	}
	for name, step := range odd {
		t.Run(name, func(t *testing.T) {
			_, state := makePlanOf(t, testkit.TextFile("a", "x"))
			if err := errors.Join(RemovePlan(t.Context(), state), step(state.Path())); err != nil {
				t.Fatal(err)
			}
			if _, _, err := StageProgress(t.Context(), state); err == nil {
				t.Error("Progress succeeded, want an error")
			}
			if j, found, err := openJournal(state, 42); j != nil || found || err != nil {
				t.Errorf("openJournal = %v, %v, %v, want nil, false, nil", j, found, err)
			}
			if err := errors.Join(RemovePlan(t.Context(), state), RemoveJournal(t.Context(), state)); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(state.Path()); len(left) > 0 || err != nil {
				t.Errorf("after RemovePlan and RemoveJournal: left %v, error %v, want nothing", left, err)
			}
			if _, err := os.Lstat(filepath.Join(state.Path(), "../victim")); !os.IsNotExist(err) {
				t.Errorf("a file was created through the link (%v)", err)
			}
		})
	}
}

// TestSumReadsBufferedSums writes sums with a sumWriter, with and without gaps between the
// slots, and reads them with Stage.FileSum, across the pieces that it reads.
func TestSumReadsBufferedSums(t *testing.T) {
	j, want := emptyJournal(t), map[int64]uint64{}
	r, sums := rand.New(rand.NewPCG(1, 0)), sumWriter{journal: j}
	for slot := int64(0); slot < 3*slotsPerScan; slot += []int64{1, 1, 1, 1, 1, 1, 3, 200}[r.IntN(8)] {
		want[slot] = 1 + r.Uint64()>>1
		if err := sums.addSum(slot, want[slot]); err != nil {
			t.Fatal(err)
		}
	}
	if err := sums.flush(); err != nil {
		t.Fatal(err)
	}
	s := Stage{journal: j}
	for slot, sum := range want { // in any order
		it := PlanEntry{Record: tree.Record{Kind: tree.Regular, Size: 1}, slot: slot}
		if got, err := s.FileSum(&it); got != sum || err != nil {
			t.Fatalf("slot %d: got %x, %v, want %x", slot, got, err, sum)
		}
	}
}

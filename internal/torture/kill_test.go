package torture

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// SIGKILL at every system call of every operation: the published shard is complete, and
// the next copy and the next removals work.
func TestKilledAtEveryCall(t *testing.T) {
	rounds(t, 0.3, func(t *testing.T, r *round) {
		on := newSweeps(t, r)
		for _, i := range r.Perm(len(operations)) {
			op, s := &operations[i], on(i)
			if !r.full {
				s.killSome(op, r)
				continue
			}
			for _, jobs := range []int{1, 4} {
				s.killAll(op, killing[r.IntN(2)], jobs, r)
			}
		}
		on(0).group.Wait()
	})
}

// SIGKILL in an operation, and again in the copy that recovers from it, at random pairs
// of calls.
func TestKilledWhileRecovering(t *testing.T) {
	rounds(t, 0.1, func(t *testing.T, r *round) {
		s := newSweep(t, sweepFS(t, r))
		pairs := 15
		if r.full {
			pairs = 1000
		}
		for range pairs {
			op := &operations[r.IntN(len(operations))]
			if op.kept || op.first != "" {
				continue // the next copy does not recover from it
			}
			again := fault{action: killing[r.IntN(2)], at: 1 + r.IntN(recovery)}
			s.startTrial(op, fault{action: killing[r.IntN(2)], at: 1 + r.IntN(len(s.baseCalls(op, 1)))}, 1+r.IntN(2), func(t *trial) error {
				return t.checkKilledTwice(again)
			})
		}
		s.group.Wait()
	})
}

// recovery is the number of calls of a copy that recovers; some have fewer.
const recovery = 600

func (t *trial) checkKilledTwice(again fault) error {
	count("SIGKILL while recovering from one", 1)
	c := t.h.command("-c", "other", t.op.recoverFlags()...)
	c.Env = again.environ("")
	second := runCommand(c)
	if second.status != 0 && second.status != 128+9 {
		return fmt.Errorf("recovering: %v: %v", again, second)
	}
	if err := t.op.checkSound(t.h, t.s.sourcePath("foreign")); err != nil {
		return fmt.Errorf("killed again (%v, %v): %w", again, second, err)
	}
	if err := t.op.checkRecovery(t.h); err != nil {
		return fmt.Errorf("killed again (%v, %v): %w", again, second, err)
	}
	return nil
}

// sweepFS mounts the file system of the round. A bounded round uses memory.
func sweepFS(t *testing.T, r *round) testkit.FS {
	t.Helper()
	kind := sweptKinds[(r.seed-1)%uint64(len(sweptKinds))]
	if !r.full {
		kind = "tmpfs"
	}
	return testkit.FS{Name: kind, Dir: testkit.Mount(t, kind, 2<<30)}
}

var sweptKinds = []string{"ext4", "tmpfs", "xfs", "btrfs"}

// newSweeps returns the sweep for an operation. A complete round has one sweep on each
// file system, and an operation moves to another one in the next round. A bounded round
// has one sweep in memory. All sweeps share the group and the places.
func newSweeps(t *testing.T, r *round) (on func(operation int) *sweep) {
	t.Helper()
	if !r.full {
		s := newSweep(t, sweepFS(t, r))
		return func(int) *sweep { return s }
	}
	var all []*sweep
	for _, kind := range sweptKinds {
		s := newSweep(t, testkit.FS{Name: kind, Dir: testkit.Mount(t, kind, 2<<30)})
		if len(all) > 0 {
			s.group, s.places = all[0].group, all[0].places
		}
		all = append(all, s)
	}
	return func(operation int) *sweep { return all[(operation+int(r.seed%4))%len(all)] }
}

// Killing after one call is like killing before the next, except for other threads
// between the two.
var killing = []string{"kill-before", "kill-after"}

// killSome kills an operation at a few random calls.
func (s *sweep) killSome(op *operation, r *round) {
	total := len(s.baseCalls(op, 1))
	for range killsOfOne {
		s.startTrial(op, fault{action: killing[r.IntN(2)], at: 1 + r.IntN(total)}, []int{1, 4}[r.IntN(2)], (*trial).checkKilled)
	}
}

// killsOfOne is the number of kills of one operation in a bounded round.
const killsOfOne = 4

// killAll kills at each call, until the operation has no further call.
func (s *sweep) killAll(op *operation, action string, jobs int, r *round) {
	total := len(s.baseCalls(op, jobs))
	for n := 1; n <= total && !r.over(); n++ {
		s.startTrial(op, fault{action: action, at: n}, jobs, (*trial).checkKilled)
	}
	s.group.Wait()
	for n := total + 1; !r.over(); n++ { // some runs have more calls than others
		if t := s.runTrial(op, fault{action: action, at: n}, jobs, (*trial).checkKilled); t == nil || len(actedCalls(t.calls)) == 0 {
			return
		}
	}
}

// checkUndisturbed checks a run without a fault.
func (t *trial) checkUndisturbed() error {
	want := 0
	if t.op.refused {
		want = 1
	}
	if t.status != want {
		return fmt.Errorf("without a fault: got status %d, want %d", t.status, want)
	}
	if err := t.op.checkSound(t.h, t.s.sourcePath("foreign")); err != nil {
		return err
	}
	if err := t.op.checkDone(t.h); err != nil {
		return err
	}
	return t.op.checkRecovery(t.h)
}

func (t *trial) checkKilled() error {
	count("SIGKILL at a system call, "+t.s.fs.Name, 1)
	if len(actedCalls(t.calls)) == 0 {
		return t.checkUndisturbed()
	}
	if t.status != 128+9 {
		return fmt.Errorf("after SIGKILL: got status %d, want 137", t.status)
	}
	if err := t.op.checkSound(t.h, t.s.sourcePath("foreign")); err != nil {
		return err
	}
	return t.op.checkRecovery(t.h)
}

// A run syncs the names that it relies on, even if a killed run made them without a
// sync. For a published shard, these are the names that lead to its manifest.
func TestNamesOfAKilledRunAreSynced(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 64<<20)})
	op := operation{name: "copy into a state dir that was made", source: "plain", mode: "-c", id: "a", after: []string{"a"}, there: true,
		prepare: func(h *host) error { return h.runKilled(fault{action: "kill-after", at: 2, only: "mkdir"}, "-c", "b") }}
	s.runTrial(&op, fault{}, 1, func(t *trial) error {
		synced := map[string]bool{}
		for _, c := range t.calls {
			switch {
			case c.op == "fsync":
				synced[c.path] = true
			case c.op == "rename" && filepath.Base(c.path) == "stage":
				if root := filepath.Dir(t.h.stateDir()); !synced[root] || !synced[t.h.stateDir()] {
					return fmt.Errorf("published before %s or the state dir in it was synced", root)
				}
				return t.checkUndisturbed()
			}
		}
		return errors.New("no rename published the shard")
	})
}

// A killed run may have renamed a shard into the trash without a sync. The next run
// deletes it only after it has synced the rename: otherwise a power cut could bring
// half a shard back under its public name.
func TestTrashOfAKilledRunIsDeletedDurably(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 64<<20)})
	for i := range operations {
		op := &operations[i]
		if op.name != "copy over trash" && op.name != "remove trash" && op.name != "remove" {
			continue
		}
		s.runTrial(op, fault{}, 1, func(t *trial) error {
			trash, synced := filepath.Join(t.h.stateDir(), "trash"), map[string]bool{}
			for _, c := range t.calls {
				switch {
				case c.op == "fsync":
					synced[c.path] = true
				case c.op == "unlink" && strings.HasPrefix(c.path, trash+"/"):
					if !synced[t.h.ssd] || !synced[t.h.stateDir()] {
						return fmt.Errorf("%v before both directories of the rename were synced", c)
					}
					return t.checkUndisturbed()
				}
			}
			return errors.New("nothing was deleted")
		})
	}
}

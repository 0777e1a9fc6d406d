package torture

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// SIGKILL at every system call of every operation: what is there then is whole,
// and the next copy and the next removals work.
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

// A copy that is to recover from a SIGKILL is killed as well: pairs of calls drawn
// at random.
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
				continue // that copy would not be one that recovers
			}
			again := fault{action: killing[r.IntN(2)], at: 1 + r.IntN(recovery)}
			s.each(op, fault{action: killing[r.IntN(2)], at: 1 + r.IntN(len(s.base(op, 1)))}, 1+r.IntN(2), func(t *trial) error {
				return t.survivesTwo(again)
			})
		}
		s.group.Wait()
	})
}

// recovery is how many calls a copy takes that recovers; some take less.
const recovery = 600

func (t *trial) survivesTwo(again fault) error {
	count("SIGKILL while recovering from one", 1)
	c := t.h.command("-c", "other", t.op.recoverFlags()...)
	c.Env = again.env("")
	second := run(c)
	if second.status != 0 && second.status != 128+9 {
		return fmt.Errorf("recovering: %v: %v", again, second)
	}
	if err := t.op.sound(t.h, t.s.source("foreign")); err != nil {
		return fmt.Errorf("killed again (%v, %v): %w", again, second, err)
	}
	if err := t.op.recovers(t.h); err != nil {
		return fmt.Errorf("killed again (%v, %v): %w", again, second, err)
	}
	return nil
}

// sweepFS is the round's file system: one in memory if there is to be one round
// only.
func sweepFS(t *testing.T, r *round) testkit.FS {
	t.Helper()
	kind := sweptKinds[(r.seed-1)%uint64(len(sweptKinds))]
	if !r.full {
		kind = "tmpfs"
	}
	return testkit.FS{Name: kind, Dir: testkit.Mount(t, kind, 2<<30)}
}

var sweptKinds = []string{"ext4", "tmpfs", "xfs", "btrfs"}

// newSweeps are one on each file system in a whole round, and of which an operation,
// by its number, is swept on another in the next round; otherwise one in memory. They
// share their group and places.
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

// After one call is before the next one, but for what other threads do meanwhile.
var killing = []string{"kill-before", "kill-after"}

// killSome kills at a few calls anywhere.
func (s *sweep) killSome(op *operation, r *round) {
	total := len(s.base(op, 1))
	for range killsOfOne {
		s.each(op, fault{action: killing[r.IntN(2)], at: 1 + r.IntN(total)}, []int{1, 4}[r.IntN(2)], (*trial).survivesKill)
	}
}

// killsOfOne is how often one operation is killed in a bounded round.
const killsOfOne = 5

// killAll kills at each call, until there is none to be killed at.
func (s *sweep) killAll(op *operation, action string, jobs int, r *round) {
	total := len(s.base(op, jobs))
	for n := 1; n <= total && !r.over(); n++ {
		s.each(op, fault{action: action, at: n}, jobs, (*trial).survivesKill)
	}
	s.group.Wait()
	for n := total + 1; !r.over(); n++ { // some runs take more calls than others
		if t := s.now(op, fault{action: action, at: n}, jobs, (*trial).survivesKill); t == nil || len(acted(t.calls)) == 0 {
			return
		}
	}
}

// undisturbed is what a run without a fault must be.
func (t *trial) undisturbed() error {
	want := 0
	if t.op.refused {
		want = 1
	}
	if t.status != want {
		return fmt.Errorf("without a fault it ends with status %d, wanted %d", t.status, want)
	}
	if err := t.op.sound(t.h, t.s.source("foreign")); err != nil {
		return err
	}
	if err := t.op.done(t.h); err != nil {
		return err
	}
	return t.op.recovers(t.h)
}

func (t *trial) survivesKill() error {
	count("SIGKILL at a system call, "+t.s.fs.Name, 1)
	if len(acted(t.calls)) == 0 {
		return t.undisturbed()
	}
	if t.status != 128+9 {
		return fmt.Errorf("SIGKILL was sent, and the status is %d", t.status)
	}
	if err := t.op.sound(t.h, t.s.source("foreign")); err != nil {
		return err
	}
	return t.op.recovers(t.h)
}

// A name that a killed run has made, and not synced, is synced by the run that
// relies on it: of a published shard, the way to its manifest.
func TestNamesOfAKilledRunAreSynced(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 64<<20)})
	op := operation{name: "copy into a state dir that was made", source: "plain", mode: "-c", id: "a", after: []string{"a"}, there: true,
		prepare: func(h *host) error { return h.killed(fault{action: "kill-after", at: 2, only: "mkdir"}, "-c", "b") }}
	s.now(&op, fault{}, 1, func(t *trial) error {
		synced := map[string]bool{}
		for _, c := range t.calls {
			switch {
			case c.op == "fsync":
				synced[c.path] = true
			case c.op == "rename" && filepath.Base(c.path) == "stage":
				if root := filepath.Dir(t.h.state()); !synced[root] || !synced[t.h.state()] {
					return fmt.Errorf("published, and %s or the state dir in it was not synced", root)
				}
				return t.undisturbed()
			}
		}
		return errors.New("it published nothing")
	})
}

// What a killed run has renamed away, and not synced, is deleted only when that is
// durable: a power cut would bring half a shard back under its public name.
func TestTrashOfAKilledRunIsDeletedDurably(t *testing.T) {
	s := newSweep(t, testkit.FS{Name: "tmpfs", Dir: testkit.Mount(t, "tmpfs", 64<<20)})
	for i := range operations {
		op := &operations[i]
		if op.name != "copy over trash" && op.name != "remove trash" && op.name != "remove" {
			continue
		}
		s.now(op, fault{}, 1, func(t *trial) error {
			trash, synced := filepath.Join(t.h.state(), "trash"), map[string]bool{}
			for _, c := range t.calls {
				switch {
				case c.op == "fsync":
					synced[c.path] = true
				case c.op == "unlink" && strings.HasPrefix(c.path, trash+"/"):
					if !synced[t.h.ssd] || !synced[t.h.state()] {
						return fmt.Errorf("%v, and not both ends of the rename were synced", c)
					}
					return t.undisturbed()
				}
			}
			return errors.New("it deleted nothing")
		})
	}
}

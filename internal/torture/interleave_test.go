package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/internal/testkit"
)

// interleaving is one process that is stopped before one of its system calls, and
// continued after others ran. Errors show in the final users and shard: two processes
// in the critical section, a lock on a deleted file, or a decision that relies on an
// outdated check.
type interleaving struct {
	before    []task
	first     task // its fault stops it
	meanwhile []task
	wait      bool // the others wait for the lock, or else only try to take it
	backwards bool // the process that stopped last continues first
}

func (c interleaving) String() string {
	return fmt.Sprintf("%v, then %v, meanwhile %v (waiting for the lock: %v; the last stopped continues first: %v)",
		c.before, c.first, c.meanwhile, c.wait, c.backwards)
}

// The states at the start, and the tasks that follow.
var (
	situations = [][]task{
		nil,
		{{do: "-c", id: "a"}},
		{{do: "-c", id: "a"}, {do: "-c", id: "b"}},
		{{do: "-c", id: "a"}, {do: "-r", id: "a", fault: "truncate:kill-before@1"}}, // an orphan
		{{do: "-c", id: "a"}, {do: "-r", id: "a", fault: "rmdir:kill-before@1"}},    // trash
		{{do: "-c", id: "a", fault: "rename:kill-before@3"}},                        // a stage
		{{do: "-c", id: "a"}, {do: "-r", id: "a", fault: "fsync:kill-before@3"}},
	}
	firsts     = []task{{do: "-c", id: "x"}, {do: "-c", id: "a"}, {do: "-r", id: "a"}, {do: "-r", id: "x"}}
	meanwhiles = [][]task{
		{{do: "-r", id: "a"}},
		{{do: "-c", id: "b"}},
		{{do: "-r", id: "a"}, {do: "-c", id: "b"}},
		{{do: "-c", id: "b"}, {do: "-r", id: "b"}},
		{{do: "-r", id: "a"}, {do: "-c", id: "b"}, {do: "-r", id: "b"}, {do: "-c", id: "a"}},
	}
)

// stops are the numbers of a process's system calls: those on the user file, others
// whose order matters, and the rest.
type stops struct{ userFile, telling, others []int }

// stopsOf runs the first process of an interleaving without stopping it.
func stopsOf(h *host, c interleaving) (all stops, err error) {
	log := filepath.Join(filepath.Dir(h.ssd), "log")
	w := newWitness(h)
	for _, k := range c.before {
		if _, err := w.runTask(k); err != nil {
			return all, err
		}
	}
	first := w.command(c.first)
	first.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT_LOG="+log)
	if o := runCommand(first); o.status != 0 {
		return all, fmt.Errorf("%v: %v", c, o)
	}
	text, err := os.ReadFile(log)
	for line := range strings.Lines(string(text)) {
		field := strings.Split(strings.TrimSpace(line), "\t")
		n, op := 0, field[1]
		fmt.Sscan(field[0], &n)
		switch {
		case strings.HasSuffix(field[2], "/"+shardName+`.lock"`) && op != "close":
			all.userFile = append(all.userFile, n)
		case slices.Contains([]string{"flock", "mkdir", "rename", "rmdir", "link", "unlock"}, op),
			strings.HasSuffix(field[2], "/"+shardName+`"`) && op == "stat":
			all.telling = append(all.telling, n)
		default:
			all.others = append(all.others, n)
		}
	}
	return all, err
}

// pickStop draws one of them.
func (s stops) pickStop(r *rand.Rand) int {
	from := [][]int{s.userFile, s.userFile, s.telling, s.others}[r.IntN(4)]
	if len(from) == 0 {
		from = s.userFile
	}
	return from[r.IntN(len(from))]
}

// runOn runs the interleaving on a host, and checks that an order explains the results.
func (c interleaving) runOn(h *host) error {
	w := newWitness(h)
	for _, k := range c.before {
		if _, err := w.runTask(k); err != nil {
			return err
		}
	}
	var all []*process
	for i, k := range append([]task{c.first}, c.meanwhile...) {
		if i > 0 && !c.wait {
			k.flags = []string{"--lock-timeout", "0"}
		}
		p, err := w.startProcess(k)
		if err != nil {
			return err
		}
		p.waitSettled()
		all = append(all, p)
		w.statShard(0)
		if err := w.readUserFile(0); err != nil {
			return err
		}
	}
	if c.backwards {
		slices.Reverse(all)
	}
	for _, p := range all {
		if err := p.resume(); err != nil {
			return err
		}
	}
	if err := waitAll(all); err != nil {
		return err
	}
	w.statShard(0)
	if err := w.readUserFile(0); err != nil {
		return err
	}
	return w.explain()
}

// waitAll waits for the end of all processes. A process that waited for the lock may
// stop only now.
func waitAll(all []*process) error {
	var ends errgroup.Group
	for _, p := range all {
		ends.Go(func() error {
			select {
			case <-p.halted:
				p.Process.Signal(syscall.SIGCONT)
				<-p.ended
			case <-p.ended:
			}
			return p.failed
		})
	}
	return ends.Wait()
}

// interleavings runs interleavings, each on its own host.
type interleavings struct {
	t      *testing.T
	dir    string
	number int
	known  map[string]stops
}

func (x *interleavings) nextHost() *host {
	x.number++
	h := newHost(x.t, faulty(x.t), filepath.Join(x.dir, "from"), filepath.Join(x.dir, fmt.Sprint(x.number)))
	return h
}

func (x *interleavings) stops(c interleaving) stops {
	key := fmt.Sprint(c.before, c.first)
	if _, known := x.known[key]; !known {
		s, err := stopsOf(x.nextHost(), c)
		if err != nil {
			x.t.Fatal(err)
		}
		x.known[key] = s
	}
	return x.known[key]
}

func (x *interleavings) tryOne(c interleaving, at int) {
	c.first.fault = fmt.Sprint("stop-before@", at)
	h := x.nextHost()
	err := c.runOn(h)
	if err == nil && x.number%8 == 0 {
		err = checkCleared(h)
	}
	if err != nil {
		x.t.Errorf("%v: %v", c, err)
	}
	count("orders of stopped processes and others", 1)
	os.RemoveAll(filepath.Dir(h.ssd))
}

// randomOne draws an interleaving. Every third has a second process that stops
// somewhere.
func (x *interleavings) randomOne(r *round) interleaving {
	c := interleaving{
		before:    situations[r.IntN(len(situations))],
		first:     firsts[r.IntN(len(firsts))],
		meanwhile: slices.Clone(meanwhiles[r.IntN(len(meanwhiles))]),
		wait:      r.IntN(2) == 0,
		backwards: r.IntN(2) == 0,
	}
	if r.IntN(3) == 0 {
		c.meanwhile[0].fault = fmt.Sprint("stop-before@", 1+r.IntN(60))
	}
	return c
}

// Processes are stopped at any call while others run. Always tried: a copy, with the
// user file removed and recreated around each of its calls, and a removal during a
// copy. All other combinations are sampled.
func TestInterleavings(t *testing.T) {
	rounds(t, 0.1, func(t *testing.T, r *round) {
		x := &interleavings{t, testkit.Mount(t, "tmpfs", 256<<20), 0, map[string]stops{}}
		testkit.Apply(t, filepath.Dir(x.nextHost().source), testkit.TextFile(shardName+"/a", "one"))
		for _, c := range []interleaving{
			{before: situations[1], first: firsts[0], meanwhile: meanwhiles[2]},
			{before: situations[1], first: firsts[2], meanwhile: meanwhiles[1]},
		} {
			for _, at := range x.stops(c).userFile {
				x.tryOne(c, at)
			}
		}
		sample := 20
		if r.full {
			sample = 400
		}
		for range sample {
			c := x.randomOne(r)
			x.tryOne(c, x.stops(c).pickStop(r.Rand))
		}
	})
}

// A user file was lost, or never made. -r clears the leftovers of a killed copy while
// -c starts a new one: only the lock of the state dir separates them. Each is stopped
// around its use of that lock.
func TestClearingWithoutUserFile(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		x := &interleavings{t, testkit.Mount(t, "tmpfs", 256<<20), 0, nil}
		testkit.Apply(t, filepath.Dir(x.nextHost().source), testkit.TextFile(shardName+"/a", "one"))
		for _, copyStops := range []string{"flock:stop-before@3", "flock:stop-after@3"} {
			for _, op := range []string{"flock", "unlink", "rmdir"} {
				for at := 1; at <= 3; at++ {
					removeStops := fmt.Sprintf("%s:stop-before@%d", op, at)
					if err := clearWithoutUserFile(x.nextHost(), removeStops, copyStops); err != nil {
						t.Errorf("-r with %s, -c with %s: %v", removeStops, copyStops, err)
					}
					count("orders of stopped processes and others", 1)
				}
			}
		}
	})
}

func clearWithoutUserFile(h *host, removeStops, copyStops string) error {
	w := newWitness(h)
	if _, err := w.runTask(task{do: "-c", id: "a", fault: "rename:kill-before@3"}); err != nil {
		return err
	}
	if err := os.Remove(h.userFile()); err != nil {
		return err
	}
	var both []*process
	for _, k := range []task{{do: "-r", id: "x", fault: removeStops}, {do: "-c", id: "b", fault: copyStops}} {
		p, err := w.startProcess(k)
		if err != nil {
			return err
		}
		p.waitSettled()
		both = append(both, p)
	}
	for _, p := range both {
		if err := p.resume(); err != nil {
			return err
		}
		if p.failed != nil {
			return p.failed
		}
	}
	if err := h.checkSound([]string{"b"}); err != nil {
		return err
	}
	if o := runCommand(h.command("--verify", "")); o.status != 0 {
		return fmt.Errorf("afterwards: %v", o)
	}
	return checkCleared(h)
}

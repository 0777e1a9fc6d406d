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

// interleaving is one process that is stopped before one of its system calls while
// others run, and then goes on: two in the critical section, a lock on a file that
// has no name any more, and an answer to what was asked too early show in what the
// users and the shard are afterwards.
type interleaving struct {
	before    []task
	first     task // with a fault that stops it
	meanwhile []task
	wait      bool // for the lock, if the first has it; else they only try
}

func (c interleaving) String() string {
	return fmt.Sprintf("%v, then %v is stopped, and meanwhile (waiting for the lock: %v) %v", c.before, c.first, c.wait, c.meanwhile)
}

// The situations to begin with, and what may come then.
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

// stops are the numbers of a process's system calls, those first of which the order
// matters to others.
type stops struct{ telling, others []int }

// stopsOf runs the first process of an interleaving without stopping it.
func stopsOf(h *host, c interleaving) (all stops, err error) {
	log := filepath.Join(filepath.Dir(h.ssd), "log")
	w := watch(h)
	for _, k := range c.before {
		if _, err := w.perform(k); err != nil {
			return all, err
		}
	}
	first := w.command(c.first)
	first.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT_LOG="+log)
	if o := run(first); o.status != 0 {
		return all, fmt.Errorf("%v: %v", c, o)
	}
	text, err := os.ReadFile(log)
	for line := range strings.Lines(string(text)) {
		field := strings.Split(strings.TrimSpace(line), "\t")
		n, op := 0, field[1]
		fmt.Sscan(field[0], &n)
		switch {
		case strings.Contains(field[2], shardName+".lock") && op != "close",
			slices.Contains([]string{"flock", "mkdir", "rename", "rmdir", "link", "unlock"}, op),
			strings.HasSuffix(field[2], "/"+shardName+`"`) && op == "stat":
			all.telling = append(all.telling, n)
		default:
			all.others = append(all.others, n)
		}
	}
	return all, err
}

// pick takes one of them.
func (s stops) pick(r *rand.Rand) int {
	if r.IntN(4) == 0 && len(s.others) > 0 {
		return s.others[r.IntN(len(s.others))]
	}
	return s.telling[r.IntN(len(s.telling))]
}

// run lets it all happen, and asks whether it can be explained.
func (c interleaving) run(h *host) error {
	w := watch(h)
	for _, k := range c.before {
		if _, err := w.perform(k); err != nil {
			return err
		}
	}
	first, err := w.start(c.first)
	if err != nil {
		return err
	}
	if _, err := first.stopped(); err != nil {
		return err
	}
	var others errgroup.Group
	for _, k := range c.meanwhile {
		if err := c.beside(w, k, &others); err != nil {
			return err
		}
	}
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	if _, err := w.end(first); err != nil {
		return err
	}
	if err := others.Wait(); err != nil {
		return err
	}
	w.stat(0)
	if err := w.read(0); err != nil {
		return err
	}
	return w.explain()
}

// beside runs one of the others to its end, or until it waits for the lock.
func (c interleaving) beside(w *witness, k task, others *errgroup.Group) error {
	if !c.wait {
		k.flags = []string{"--lock-timeout", "0"}
	}
	p, err := w.start(k)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	others.Go(func() error {
		defer close(ended)
		_, err := w.end(p)
		return err
	})
	select {
	case <-p.waits:
	case <-ended:
	}
	w.stat(0)
	return w.read(0)
}

// interleavings tries some, on a host of its own each.
type interleavings struct {
	t      *testing.T
	dir    string
	number int
	known  map[string]stops
}

func (x *interleavings) host() *host {
	x.number++
	h := newHost(x.t, faulty(x.t), filepath.Join(x.dir, "from"), filepath.Join(x.dir, fmt.Sprint(x.number)))
	return h
}

func (x *interleavings) stops(c interleaving) stops {
	key := fmt.Sprint(c.before, c.first)
	if _, known := x.known[key]; !known {
		s, err := stopsOf(x.host(), c)
		if err != nil {
			x.t.Fatal(err)
		}
		x.known[key] = s
	}
	return x.known[key]
}

func (x *interleavings) try(c interleaving, at int) {
	c.first.fault = fmt.Sprint("stop-before@", at)
	h := x.host()
	err := c.run(h)
	if err == nil && x.number%5 == 0 {
		err = cleared(h)
	}
	if err != nil {
		x.t.Errorf("%v: %v", c, err)
	}
	count("orders of a stopped process and others", 1)
	os.RemoveAll(filepath.Dir(h.ssd))
}

// A process stopped anywhere, and others meanwhile: always one whose lock file is
// removed and made anew around each of its calls, and a sample of all else.
func TestInterleavings(t *testing.T) {
	rounds(t, 0.08, func(t *testing.T, r *round) {
		x := &interleavings{t, testkit.Mount(t, "tmpfs", 256<<20), 0, map[string]stops{}}
		testkit.Apply(t, filepath.Dir(x.host().source), testkit.Content(shardName+"/a", "one"))
		c := interleaving{before: situations[1], first: firsts[0], meanwhile: meanwhiles[2]}
		for _, at := range x.stops(c).telling {
			x.try(c, at)
		}
		sample := 25
		if r.full {
			sample = 400
		}
		for range sample {
			c := interleaving{
				before:    situations[r.IntN(len(situations))],
				first:     firsts[r.IntN(len(firsts))],
				meanwhile: meanwhiles[r.IntN(len(meanwhiles))],
				wait:      r.IntN(2) == 0,
			}
			x.try(c, x.stops(c).pick(r.Rand))
		}
	})
}

package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/internal/testkit"
)

// fire is many processes on a few shards of one host.
type fire struct {
	*witness
	workers int
	tasks   int // of each worker
	holds   []*hold
}

// hold is one service's registration. Whoever was told that the shard is there
// relies on it until he begins to remove himself, and a reader looks meanwhile.
type hold struct {
	mu    sync.RWMutex // a reader holds it as long as he looks
	shard int
	id    string
	held  bool
}

// newFire makes the shards on a file system in dir.
func newFire(t *testing.T, dir string, workers, tasks int) *fire {
	t.Helper()
	var shards []*host
	for _, name := range []string{"tide", "crowd", "few"} {
		h := newHost(t, program(t), filepath.Join(dir, "from"), dir)
		h.source = filepath.Join(dir, "from", name)
		testkit.Apply(t, filepath.Dir(h.source),
			testkit.Dir(name, 0o755), testkit.Content(name+"/a", "one "+name), testkit.File(name+"/sub/b", 300_000, 7),
			testkit.Content(name+"/sub/deep/c", ""), testkit.Symlink("sub/b", name+"/link"))
		shards = append(shards, h)
	}
	f := &fire{witness: watch(shards...), workers: workers, tasks: tasks}
	for i := range workers {
		for s := range shards {
			f.holds = append(f.holds, &hold{shard: s, id: fmt.Sprint("worker", i)})
		}
	}
	return f
}

// work is one service after the other, each of them a process of the same id.
func (f *fire) work(worker int, r *rand.Rand) error {
	for n := range f.tasks {
		k := f.choose(worker, n, r)
		h := f.holds[worker*len(f.shards)+k.shard]
		own := h.id == k.id
		if own && strings.HasSuffix(k.do, "-r") {
			h.mu.Lock()
			h.held = false
			h.mu.Unlock()
		}
		o, err := f.perform(k)
		if err != nil {
			return err
		}
		if own && o.status == 0 && strings.HasSuffix(k.do, "-c") {
			h.mu.Lock()
			h.held = true
			h.mu.Unlock()
		}
	}
	return nil
}

// choose makes a task. Of the shard "tide" all are one service, so that its user
// file comes and goes; of "crowd" all want it, or nobody, in turn.
func (f *fire) choose(worker, n int, r *rand.Rand) task {
	k := task{shard: r.IntN(len(f.shards)), id: fmt.Sprint("worker", worker)}
	wanted := 0.5
	switch f.shards[k.shard].name() {
	case "tide":
		k.id = "everybody"
	case "crowd":
		wanted = []float64{0.9, 0.15}[n/10%2]
	case "few":
		wanted = 0.3
	}
	if r.IntN(8) == 0 {
		k.id = fmt.Sprint("shared", r.IntN(2))
	}
	k.do = "-r"
	if r.Float64() < wanted {
		k.do = "-c"
	}
	switch {
	case f.old != "" && r.IntN(5) == 0:
		k.do = "old " + k.do // never killed, see TestFireWithTheOlderScript
		return k
	case r.IntN(12) == 0:
		return task{shard: k.shard, do: []string{"--list", "--verify"}[r.IntN(2)]}
	case r.IntN(8) == 0:
		k.flags = []string{"--lock-timeout", fmt.Sprint(r.IntN(3)*r.IntN(10), "ms")}
	}
	if r.IntN(4) == 0 {
		k.signal = []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}[r.IntN(5)]
		k.after = time.Duration(r.IntN(60_000)) * time.Microsecond
	}
	return k
}

// spy looks, without a lock, at user files, at shards, and into the shards of
// those who have been told that they are there.
func (f *fire) spy(stop <-chan struct{}, r *rand.Rand) error {
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		var err error
		switch shard := r.IntN(len(f.shards)); r.IntN(3) {
		case 0:
			err = f.read(shard)
		case 1:
			f.stat(shard)
		case 2:
			err = f.relied(f.holds[r.IntN(len(f.holds))])
		}
		if err != nil {
			return err
		}
	}
}

// relied says in what a shard that somebody relies on is not whole.
func (f *fire) relied(h *hold) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.held {
		return nil
	}
	count("looks into a shard that somebody relies on", 1)
	shard := f.shards[h.shard]
	_, err := os.Lstat(shard.published())
	if err == nil {
		err = shard.whole()
	}
	if err != nil {
		return fmt.Errorf("%s relies on shard %s: %w", h.id, shard.name(), err)
	}
	return nil
}

// burn runs all workers to their end, and then says whether what everybody saw can
// be explained, and whether the tool can still clean up.
func (f *fire) burn(r *rand.Rand) error {
	var workers, watchers errgroup.Group
	stop := make(chan struct{})
	for range 2 {
		of := rand.New(rand.NewPCG(r.Uint64(), 0))
		watchers.Go(func() error { return f.spy(stop, of) })
	}
	for i := range f.workers {
		of := rand.New(rand.NewPCG(r.Uint64(), 0))
		workers.Go(func() error { return f.work(i, of) })
	}
	err := workers.Wait()
	close(stop)
	err = errors.Join(err, watchers.Wait())
	for i := range f.shards {
		f.stat(i)
		err = errors.Join(err, f.read(i))
	}
	return errors.Join(err, f.explain(), cleared(f.shards...))
}

// cleared removes every user, and then nothing may be left of anything.
func cleared(shards ...*host) error {
	for _, h := range shards {
		users, err := h.users()
		if err != nil {
			return err
		}
		for _, id := range slices.Concat([]string{"other"}, users, []string{"other"}) {
			mode := "-r"
			if id == "other" && !slices.Contains(users, id) {
				mode, users = "-c", append(users, id)
			}
			if o := run(h.command(mode, id)); o.status != 0 {
				return fmt.Errorf("%s %s of %s at the end: %v", mode, id, h.name(), o)
			}
		}
	}
	for _, h := range shards {
		if err := h.recovers(); err != nil {
			return fmt.Errorf("shard %s at the end: %w", h.name(), err)
		}
	}
	return nil
}

// place is where a round burns: memory, or in a long run any file system.
func place(t *testing.T, r *round) string {
	kinds := []string{"tmpfs"}
	if r.full {
		kinds = []string{"tmpfs", "tmpfs", "ext4", "xfs", "btrfs"}
	}
	kind := kinds[r.IntN(len(kinds))]
	t.Log("on", kind)
	return testkit.Mount(t, kind, 400<<20)
}

// Many processes copy and remove a few shards, and some are killed. What they were
// told, and what others saw meanwhile, must be what one order of them does.
func TestFire(t *testing.T) {
	rounds(t, 0.08, func(t *testing.T, r *round) {
		if err := newFire(t, place(t, r), 12, 35).burn(r.Rand); err != nil {
			t.Error(err)
		}
	})
}

// The same with the older script among them. It looks whether it has locked the
// right file, since without that it can enter beside us (design.md, 'Not promised'),
// and it is never killed, since then it leaves halves and registers them: it copies
// into the public name, does not prove what it copied, and removes in place. What is
// still promised is that both see one list and one shard, and that one whom either
// has told that the shard is there finds it whole: no copy here goes wrong, and the
// older script registers after copying, under the lock.
func TestFireWithTheOlderScript(t *testing.T) {
	rounds(t, 0.05, func(t *testing.T, r *round) {
		f := newFire(t, place(t, r), 8, 15)
		f.old = testkit.OldScript(t)
		if err := f.burn(r.Rand); err != nil {
			t.Error(err)
		}
	})
}

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
	tasks   int // per worker
	holds   []*hold
}

// hold is the registration of one service. From the report that the shard is present
// until its removal begins, the service relies on the shard. A reader checks the shard
// in that time.
type hold struct {
	mu    sync.RWMutex // a reader holds it during its check
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
			testkit.Dir(name, 0o755), testkit.TextFile(name+"/a", "one "+name), testkit.File(name+"/sub/b", 300_000, 7),
			testkit.TextFile(name+"/sub/deep/c", ""), testkit.Symlink("sub/b", name+"/link"))
		shards = append(shards, h)
	}
	f := &fire{witness: newWitness(shards...), workers: workers, tasks: tasks}
	for i := range workers {
		for s := range shards {
			f.holds = append(f.holds, &hold{shard: s, id: fmt.Sprint("worker", i)})
		}
	}
	return f
}

// runWorker runs the tasks of a worker, one process after the other, as one service.
func (f *fire) runWorker(worker int, r *rand.Rand) error {
	for n := range f.tasks {
		k := f.chooseTask(worker, n, r)
		h := f.holds[worker*len(f.shards)+k.shard]
		own := h.id == k.id
		if own && strings.HasSuffix(k.do, "-r") {
			h.mu.Lock()
			h.held = false
			h.mu.Unlock()
		}
		o, err := f.runTask(k)
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

// chooseTask draws a task. For the shard "tide" there is only one service, so that its
// user file is made and deleted again and again. For "crowd", in turn, all services
// copy and all remove.
func (f *fire) chooseTask(worker, n int, r *rand.Rand) task {
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
		k.do = "old " + k.do // the script is never killed, see TestFireWithTheOlderScript
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

// observeShards reads user files and shards without a lock, and checks the shards of
// services that rely on them.
func (f *fire) observeShards(stop <-chan struct{}, r *rand.Rand) error {
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
			err = f.readUserFile(shard)
		case 1:
			f.statShard(shard)
		case 2:
			err = f.checkRelied(f.holds[r.IntN(len(f.holds))])
		}
		if err != nil {
			return err
		}
	}
}

// checkRelied compares a shard that a service relies on with its source.
func (f *fire) checkRelied(h *hold) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.held {
		return nil
	}
	count("looks into a shard that a service relies on", 1)
	shard := f.shards[h.shard]
	_, err := os.Lstat(shard.published())
	if err == nil {
		err = shard.checkWhole()
	}
	if err != nil {
		return fmt.Errorf("%s relies on shard %s: %w", h.id, shard.name(), err)
	}
	return nil
}

// runWorkers runs all workers to their end. Then an order must explain all
// observations, and the tool must be able to clean up.
func (f *fire) runWorkers(r *rand.Rand) error {
	var workers, watchers errgroup.Group
	stop := make(chan struct{})
	for range 2 {
		of := rand.New(rand.NewPCG(r.Uint64(), 0))
		watchers.Go(func() error { return f.observeShards(stop, of) })
	}
	for i := range f.workers {
		of := rand.New(rand.NewPCG(r.Uint64(), 0))
		workers.Go(func() error { return f.runWorker(i, of) })
	}
	err := workers.Wait()
	close(stop)
	err = errors.Join(err, watchers.Wait())
	for i := range f.shards {
		f.statShard(i)
		err = errors.Join(err, f.readUserFile(i))
	}
	return errors.Join(err, f.explain(), checkCleared(f.shards...))
}

// checkCleared removes every user, after which nothing may be left.
func checkCleared(shards ...*host) error {
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
			if o := runCommand(h.command(mode, id)); o.status != 0 {
				return fmt.Errorf("%s %s of %s at the end: %v", mode, id, h.name(), o)
			}
		}
	}
	for _, h := range shards {
		if err := h.checkRecovery(); err != nil {
			return fmt.Errorf("shard %s at the end: %w", h.name(), err)
		}
	}
	return nil
}

// fireDir returns the directory of a round: in memory, or in a long run on any file
// system.
func fireDir(t *testing.T, r *round) string {
	kinds := []string{"tmpfs"}
	if r.full {
		kinds = []string{"tmpfs", "tmpfs", "ext4", "xfs", "btrfs"}
	}
	kind := kinds[r.IntN(len(kinds))]
	t.Log("on", kind)
	return testkit.Mount(t, kind, 400<<20)
}

// Many processes copy and remove a few shards, and some are killed. One order of them
// must explain their results and the observations of readers.
func TestFire(t *testing.T) {
	rounds(t, 0.08, func(t *testing.T, r *round) {
		if err := newFire(t, fireDir(t, r), 12, 35).runWorkers(r.Rand); err != nil {
			t.Error(err)
		}
	})
}

// The same with the older script. Two restrictions apply. The script checks that it has
// locked the current user file, because without that check it can enter the critical
// section together with this tool. It is never killed, because then it leaves half a
// shard and registers it: it copies into the public name, does not prove the copy, and
// removes in place. The promise is: both programs see one list and one shard, and a
// service that either of them registered finds a complete shard. No copy fails here,
// and the script registers after copying, under the lock.
func TestFireWithTheOlderScript(t *testing.T) {
	rounds(t, 0.05, func(t *testing.T, r *round) {
		f := newFire(t, fireDir(t, r), 8, 15)
		f.old = testkit.OldScript(t)
		if err := f.runWorkers(r.Rand); err != nil {
			t.Error(err)
		}
	})
}

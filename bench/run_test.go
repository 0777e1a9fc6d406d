package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
)

// tiny is a run that measures everything, and nothing of which means anything.
func tiny(target string) Config {
	return Config{Target: target, Size: leastSize, Engines: []copier.Engine{copier.Direct, copier.Buffered},
		Blocks: []int64{256 * kib, 4 * mib}, Jobs: []int{4}, Samples: 2, Reading: 100 * time.Millisecond, Seed: 1, Yes: true, Version: "test"}
}

// tinyCeilings is what it is told of its ceilings.
const tinyCeilings = "ceilings are of as few as 4 requests, 16 at once: a larger size makes them more"

// heard is a Progress that remembers.
type heard struct {
	mu    sync.Mutex
	steps []string
	nexts []string
	last  int // of how many
	moved counter
	begun func(step int)

	rests      int // how often it was told how long the rest takes
	processors int // the most that Go had in a copy
}

func (h *heard) Begin(step, steps int, what, next string) {
	h.mu.Lock()
	h.steps, h.nexts, h.last = append(h.steps, what), append(h.nexts, next), steps
	h.mu.Unlock()
	if h.begun != nil {
		h.begun(step)
	}
}

func (h *heard) Moved(bytes int64) {
	h.moved.add(bytes)
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(h.steps[len(h.steps)-1], "copy ") {
		h.processors = max(h.processors, runtime.GOMAXPROCS(0))
	}
}

func (h *heard) Rest(time.Duration) {
	h.mu.Lock()
	h.rests++
	h.mu.Unlock()
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v %v", dir, left, err)
	}
}

// A whole run has every sample it says, in numbers that can be, and leaves nothing.
func TestRunMeasuresEverything(t *testing.T) {
	dir := t.TempDir()
	testkit.Apply(t, dir, testkit.Dir("target", 0o755), testkit.File("real/large", 9*mib, 1), testkit.File("real/small", 100, 2))
	c := tiny(filepath.Join(dir, "target"))
	c.Source = filepath.Join(dir, "real")
	told, progress, processors := Cost{}, &heard{}, runtime.GOMAXPROCS(0)
	c.Tell, c.Progress = func(cost Cost) { told = cost }, progress
	var warned []string
	c.Warn = func(w string) { warned = append(warned, w) }
	c.Watch = func(target string, hide bool) (func() Facts, error) {
		return func() Facts { return Facts{Model: &target, CPUs: 7} }, nil
	}
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	expectEmpty(t, c.Target)
	if !slices.Equal(r.Warnings, []string{tinyCeilings}) || !slices.Equal(warned, r.Warnings) {
		t.Errorf("warnings %q, told of %q", r.Warnings, warned)
	}
	if !r.Complete || r.Version != ResultVersion || r.Seconds <= 0 {
		t.Errorf("complete %v, version %d, %v s", r.Complete, r.Version, r.Seconds)
	}
	if r.Written != told.Writes {
		t.Errorf("wrote %d bytes, told %d", r.Written, told.Writes)
	}
	if len(progress.steps) != progress.last {
		t.Errorf("%d steps, %d were told: %q", len(progress.steps), progress.last, progress.steps)
	}
	for i, next := range progress.nexts {
		last := i+1 == len(progress.steps)
		named := strings.HasPrefix(next, "ceiling:") || strings.HasPrefix(next, "copy ") // others are about
		if (next == "") != last || (named && progress.steps[i+1] != next) {
			t.Errorf("after %q comes %q", progress.steps[i:min(i+2, len(progress.steps))], next)
		}
	}
	// Streams have twice as many as requests; a copy has what production gives it.
	if want := max(processors, c.Jobs[0]); progress.processors != want || runtime.GOMAXPROCS(0) != processors {
		t.Errorf("copies had %d processors, wanted %d; there were %d before, and now are %d", progress.processors, want, processors, runtime.GOMAXPROCS(0))
	}
	if progress.rests < progress.last || r.Facts.CPUs != 7 || *r.Facts.Model != c.Target {
		t.Errorf("told of the rest %d times; facts %+v", progress.rests, r.Facts)
	}
	if len(r.Ceilings) != 3*2 {
		t.Errorf("%d ceilings", len(r.Ceilings))
	}
	for _, ceiling := range r.Ceilings {
		if len(ceiling.Rates) != 2 || len(ceiling.Latency) != 2 {
			t.Errorf("samples of ceiling %+v", ceiling)
		}
	}
	seen := map[string]int{}
	for _, one := range r.Cases {
		seen[one.Workload]++
		expectCase(t, one)
	}
	if fmt.Sprint(seen) != "map[huge:4 many:2 mixed:4 source:4]" {
		t.Errorf("cases %v", seen)
	}
	if p := r.Readers; p == nil || p.Alone.Count == 0 || p.Beside.Count == 0 || p.Rate <= 0 {
		t.Errorf("readers %+v", p)
	}
}

func expectCase(t *testing.T, c Case) {
	t.Helper()
	if c.Refused != "" || len(c.Samples) != 2 || c.Ceiling <= 0 {
		t.Errorf("%s, %s: refused %q, %d samples, ceiling %v", c.Workload, c.Engine, c.Refused, len(c.Samples), c.Ceiling)
	}
	for _, s := range c.Samples {
		inOrder := 0 < s.FirstDone && s.FirstDone <= s.LastDone && 0 < s.Copied && s.Copied <= s.LastDone &&
			s.LastDone <= s.Durable && s.Durable <= s.Verified
		if !inOrder || s.CPU <= 0 || s.Memory <= 0 || s.Cached == nil || *s.Cached != 0 {
			t.Errorf("%s, %s: %+v", c.Workload, c.Engine, s)
		}
		if s.File.Count != c.Files || s.Block.Count < c.Files || s.Sync.Count == 0 {
			t.Errorf("%s, %s: latencies of %d files: %+v", c.Workload, c.Engine, c.Files, s)
		}
	}
}

// Wherever a run is stopped, nothing is left of it, and what was measured is there.
func TestRunStoppedLeavesNothing(t *testing.T) {
	why := errors.New("told to stop")
	for _, step := range []int{1, 2, 8, 10, 11, 18, 21} {
		c := tiny(t.TempDir())
		c.Samples = 1
		ctx, cancel := context.WithCancelCause(t.Context())
		c.Progress = &heard{begun: func(n int) {
			if n == step {
				cancel(why)
			}
		}}
		r, err := Run(ctx, c)
		if !errors.Is(err, why) || r == nil || r.Complete {
			t.Errorf("stopped at step %d: %v, with a result: %v", step, err, r != nil)
		}
		expectEmpty(t, c.Target)
	}
}

// Nothing is written where there is no space for it, or where it would cost more than
// was allowed.
func TestRunRefusesWhatItMayNot(t *testing.T) {
	small := testkit.Mount(t, "ext4", 64*mib)
	r := []struct {
		name   string
		change func(*Config)
		want   func(error) bool
	}{
		{"no space", func(c *Config) { c.Target = small }, func(err error) bool {
			short := new(SpaceError)
			return errors.As(err, &short)
		}},
		{"a tenth", func(c *Config) { c.Yes, c.Share = false, 0.5 }, func(err error) bool {
			cost := new(CostError)
			return errors.As(err, &cost)
		}},
		{"no target", func(c *Config) { c.Target = "" }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"not there", func(c *Config) { c.Target += "/none" }, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		{"odd block", func(c *Config) { c.Blocks = []int64{3 * mib} }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"large block", func(c *Config) { c.Blocks = []int64{8 * mib} }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"small size", func(c *Config) { c.Size = mib }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"no profile", func(c *Config) { c.Profile = "fast" }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"no jobs", func(c *Config) { c.Jobs = []int{0} }, func(err error) bool { return errors.Is(err, ErrUsage) }},
	}
	for _, one := range r {
		c := tiny(t.TempDir())
		target, progress := c.Target, &heard{}
		c.Progress = progress
		one.change(&c)
		_, err := Run(t.Context(), c)
		if !one.want(err) || len(progress.steps) > 0 {
			t.Errorf("%s: %v after %q", one.name, err, progress.steps)
		}
		expectEmpty(t, target)
	}
	expectEmpty(t, small)
}

// An engine that shares extents moves nothing: that is no result, whether it says so
// (clone) or the file system does it by itself (range). One that does not work here is
// none either.
func TestSharedExtentsAreNoResult(t *testing.T) {
	for _, fs := range testkit.FileSystemsOf(t, gib) {
		if fs.Name == "tmpfs" || fs.Name == "tempdir" {
			continue
		}
		shares := fs.Name != "ext4"
		c := tiny(fs.Dir)
		c.Engines = []copier.Engine{copier.Auto, copier.Clone, copier.Range, copier.Direct}
		c.Samples, c.Blocks = 1, []int64{4 * mib}
		r, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range r.Cases {
			want := ""
			switch {
			case shares && one.Engine != "direct":
				want = "extents are shared"
			case one.Engine == "clone":
				want = "does not work here"
			}
			if !strings.Contains(one.Refused, want) || (one.Refused == "") != (want == "") || (len(one.Samples) == 0) != (want != "") {
				t.Errorf("%s: %s with %s: %d samples, refused %q, wanted %q", fs.Name, one.Workload, one.Engine, len(one.Samples), one.Refused, want)
			}
		}
		expectEmpty(t, fs.Dir)
	}
}

// A file system that does not tell of extents does not prove that all of them moved; it
// is said once.
func TestRunWhereExtentsAreNotTold(t *testing.T) {
	c := tiny(testkit.Mount(t, "tmpfs", gib))
	c.Engines, c.Blocks, c.Samples = []copier.Engine{copier.Buffered}, []int64{4 * mib}, 1
	r, err := Run(t.Context(), c)
	if err != nil || len(r.Cases) != 3 || len(r.Cases[0].Samples) != 1 {
		t.Fatalf("%v, %+v", err, r)
	}
	if n := strings.Count(strings.Join(r.Warnings, "\n"), "does not tell whether files have extents in common"); n != 1 {
		t.Errorf("said %d times in %q", n, r.Warnings)
	}
}

// Each round is of all, in an order of its own, and what comes next is told.
func TestRoundsAreShuffled(t *testing.T) {
	const many, n = 6, 12
	var order, next []int
	err := rounds(1, many, n, func(i, after int) error {
		order, next = append(order, i), append(next, after)
		return nil
	})
	if err != nil || len(order) != many*n || !slices.Equal(next, append(order[1:len(order):len(order)], -1)) {
		t.Fatalf("%v: %v, next %v", err, order, next)
	}
	seen := map[string]bool{}
	for round := range slices.Chunk(order, n) {
		seen[fmt.Sprint(round)] = true
		if slices.IsSorted(round) || !slices.Equal(slices.Sorted(slices.Values(round)), slices.Sorted(slices.Values(order[:n]))) {
			t.Errorf("round %v", round)
		}
	}
	if len(seen) != many {
		t.Errorf("%d orders in %d rounds", len(seen), many)
	}
	again := []int(nil)
	rounds(1, many, n, func(i, _ int) error { again = append(again, i); return nil }) //nolint:errcheck // returns none
	if !slices.Equal(order, again) {
		t.Errorf("the same seed gives %v and %v", order, again)
	}
}

// left is a Progress that only hears of the rest.
type left struct{ time.Duration }

func (l *left) Begin(int, int, string, string) {}
func (l *left) Moved(int64)                    {}
func (l *left) Rest(d time.Duration)           { l.Duration = d }

// What is left takes as long for its bytes as what was.
func TestTimeLeft(t *testing.T) {
	l := &left{}
	at := tracker{to: l, started: time.Now().Add(-time.Minute), planned: 400, steps: 2}
	at.begin(200, "one", "two")
	if l.Duration != 0 {
		t.Errorf("%v are left, and nothing was moved", l.Duration)
	}
	at.nextToTell.Store(0)
	at.moved(100)
	if l.Round(time.Second) != 3*time.Minute {
		t.Errorf("%v are left of what took a minute for a quarter", l.Duration)
	}
	at.begin(200, "two", "") // and all of the first step is done
	if l.Round(time.Second) != time.Minute {
		t.Errorf("%v are left of what took a minute for a half", l.Duration)
	}
}

// A shard that is in the page cache is not after cooling, by either way, and what stays
// is counted.
func TestCoolAndProve(t *testing.T) {
	for _, how := range []string{coldAll, coldEach} {
		dir := t.TempDir()
		testkit.Apply(t, dir, testkit.Dir("plan", 0o755), testkit.File("shard/a", 3*mib, 1), testkit.File("shard/b/c", 5000, 2))
		s, err := openShard(t.Context(), "x", filepath.Join(dir, "shard"), openDir(t, filepath.Join(dir, "plan")))
		if err != nil {
			t.Fatal(err)
		}
		warm := func() {
			for _, name := range []string{"a", "b/c"} {
				if _, err := os.ReadFile(filepath.Join(dir, "shard", name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		warm()
		c := &cooler{how: how, warn: func(w string) { t.Log(w) }}
		if cached, err := c.cool(t.Context(), s); err != nil || *cached != 0 {
			t.Errorf("%s: %d bytes are cached, %v", how, cached, err)
		}
		warm()
		c.how = "not at all"
		if cached, err := c.cool(t.Context(), s); err != nil || *cached != 3*mib+8192 {
			t.Errorf("%s: %d bytes are cached, %v, wanted all", how, cached, err)
		}
		s.plan.Close()
		s.src.Close()
	}
}

// A source that was just written, on a file system of its own, is cold too.
func TestCoolSourceElsewhere(t *testing.T) {
	elsewhere := testkit.Mount(t, "ext4", 64<<20)
	testkit.Apply(t, elsewhere, testkit.File("shard/a", 3*mib, 1))
	s, err := openShard(t.Context(), "x", filepath.Join(elsewhere, "shard"), openDir(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	c := &cooler{how: coldEach, warn: func(w string) { t.Error(w) }}
	if cached, err := c.cool(t.Context(), s); err != nil || *cached != 0 {
		t.Errorf("%d bytes are cached, %v", cached, err)
	}
}

// A source that stays in memory whatever is emptied, as all of a tmpfs does, is no cold
// one: each sample says how much was there, and the result warns.
func TestRunWarnsOfAWarmSource(t *testing.T) {
	source := testkit.Mount(t, "tmpfs", 64*mib)
	testkit.Apply(t, source, testkit.File("a", 9*mib, 1))
	c := tiny(t.TempDir())
	c.Source, c.Engines, c.Blocks, c.Samples = source, []copier.Engine{copier.Buffered}, []int64{4 * mib}, 1
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range r.Cases {
		want := int64(0)
		if one.Workload == sourceWorkload {
			want = 9 * mib
		}
		if len(one.Samples) != 1 || *one.Samples[0].Cached != want {
			t.Errorf("%s: %d bytes were cached, wanted %d", one.Workload, *one.Samples[0].Cached, want)
		}
	}
	if len(r.Warnings) != 2 || !strings.Contains(r.Warnings[1], "source: 9MiB of it were in the page cache") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

// Who is not root goes on file by file, and says so.
func TestCoolWithoutRoot(t *testing.T) {
	said := []string{}
	c := &cooler{how: coldAll, warn: func(w string) { said = append(said, w) }}
	if err := c.mayNot(&os.PathError{Op: "open", Path: "drop_caches", Err: unix.EACCES}); err != nil {
		t.Error(err)
	}
	if c.how != coldEach || len(said) != 1 || !strings.Contains(said[0], "only root") {
		t.Errorf("%s, %q", c.how, said)
	}
	if err := c.mayNot(&os.PathError{Op: "open", Path: "drop_caches", Err: unix.EIO}); !sys.Is(err, unix.EIO) {
		t.Errorf("another error: %v", err)
	}
}

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

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
)

// tinyConfig makes a run that measures everything, too briefly for meaningful numbers.
func tinyConfig(target string) Config {
	return Config{Target: target, Size: minSize, Engines: []string{"direct", "buffered"},
		Blocks: []int64{256 * kib, 4 * mib}, Jobs: []int{4}, Samples: 2, ReadAlone: 100 * time.Millisecond, Seed: 1, AllowCostly: true, Version: "test"}
}

// fewRequestsWarning is the warning about the ceilings of tinyConfig.
const fewRequestsWarning = "some ceilings have only 4 requests, 16 at a time: a larger size gives more"

// recordedProgress is a Progress that records its calls.
type recordedProgress struct {
	mu    sync.Mutex
	steps []string
	nexts []string
	total int // steps
	moved counter
	begun func(step int)

	rests      int // calls of TimeLeft
	processors int // highest GOMAXPROCS during a copy
}

func (h *recordedProgress) BeginStep(step, steps int, what, next string) {
	h.mu.Lock()
	h.steps, h.nexts, h.total = append(h.steps, what), append(h.nexts, next), steps
	h.mu.Unlock()
	if h.begun != nil {
		h.begun(step)
	}
}

func (h *recordedProgress) BytesMoved(bytes int64) {
	h.moved.add(bytes)
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(h.steps[len(h.steps)-1], "copy ") {
		h.processors = max(h.processors, runtime.GOMAXPROCS(0))
	}
}

func (h *recordedProgress) TimeLeft(time.Duration) {
	h.mu.Lock()
	h.rests++
	h.mu.Unlock()
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%s: got %v, %v, want an empty directory", dir, left, err)
	}
}

// A complete run has all samples, with plausible numbers, and leaves no file.
func TestRunMeasuresEverything(t *testing.T) {
	dir := t.TempDir()
	testkit.Apply(t, dir, testkit.Dir("target", 0o755), testkit.File("real/large", 9*mib, 1), testkit.File("real/small", 100, 2))
	c := tinyConfig(filepath.Join(dir, "target"))
	c.Source = filepath.Join(dir, "real")
	announced, progress, processors := Cost{}, &recordedProgress{}, runtime.GOMAXPROCS(0)
	c.OnCost, c.Progress = func(cost Cost) { announced = cost }, progress
	var warned []string
	c.OnWarning = func(w string) { warned = append(warned, w) }
	c.SetProcessors = func(n int) { runtime.GOMAXPROCS(n) }
	c.WatchFacts = func(target string) (func() Facts, error) {
		return func() Facts { return Facts{Model: &target, CPUs: 7} }, nil
	}
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	expectEmpty(t, c.Target)
	if !slices.Equal(r.Warnings, []string{fewRequestsWarning}) || !slices.Equal(warned, r.Warnings) {
		t.Errorf("got warnings %q, reported %q, want %q", r.Warnings, warned, fewRequestsWarning)
	}
	if !r.Complete || r.Version != ResultVersion || r.Seconds <= 0 {
		t.Errorf("got complete %v, version %d, %v s", r.Complete, r.Version, r.Seconds)
	}
	if r.Written != announced.Writes {
		t.Errorf("wrote %d bytes, announced %d", r.Written, announced.Writes)
	}
	expectSteps(t, progress)
	// Streams use two processors for each request. A copy must have as many as in
	// production.
	if want := max(processors, c.Jobs[0]); progress.processors != want || runtime.GOMAXPROCS(0) != processors {
		t.Errorf("copies had %d processors, want %d; %d before the run, %d after it", progress.processors, want, processors, runtime.GOMAXPROCS(0))
	}
	if progress.rests < progress.total || r.Facts.CPUs != 7 || *r.Facts.Model != c.Target {
		t.Errorf("got %d estimates of the time left, facts %+v", progress.rests, r.Facts)
	}
	expectMeasurements(t, r)
}

// expectSteps checks that each step was announced.
func expectSteps(t *testing.T, progress *recordedProgress) {
	t.Helper()
	if len(progress.steps) != progress.total {
		t.Errorf("got %d steps, announced %d: %q", len(progress.steps), progress.total, progress.steps)
	}
	for i, next := range progress.nexts {
		last := i+1 == len(progress.steps)
		named := strings.HasPrefix(next, "ceiling:") || strings.HasPrefix(next, "copy ") // the others are not exact
		if (next == "") != last || (named && progress.steps[i+1] != next) {
			t.Errorf("the step after %q was announced as %q", progress.steps[i:min(i+2, len(progress.steps))], next)
		}
	}
}

// expectMeasurements checks the numbers of TestRunMeasuresEverything.
func expectMeasurements(t *testing.T, r *Result) {
	t.Helper()
	if len(r.Ceilings) != 3*2 {
		t.Errorf("got %d ceilings, want 6", len(r.Ceilings))
	}
	for _, ceiling := range r.Ceilings {
		if len(ceiling.Rates) != 2 || len(ceiling.Latency) != 2 {
			t.Errorf("got ceiling %+v, want two samples", ceiling)
		}
	}
	seen := map[string]int{}
	for _, one := range r.Cases {
		seen[one.Workload]++
		expectCase(t, one)
	}
	if fmt.Sprint(seen) != "map[huge:4 many:2 mixed:4 source:4]" {
		t.Errorf("got cases %v", seen)
	}
	if p := r.Readers; p == nil || p.Alone.Count == 0 || p.Beside.Count == 0 || p.Rate <= 0 {
		t.Errorf("got readers %+v", p)
	}
}

func expectCase(t *testing.T, c Case) {
	t.Helper()
	if c.Refused != "" || len(c.Samples) != 2 || c.Ceiling <= 0 {
		t.Errorf("%s, %s: got refused %q, %d samples, ceiling %v", c.Workload, c.Engine, c.Refused, len(c.Samples), c.Ceiling)
	}
	for _, s := range c.Samples {
		inOrder := 0 < s.FirstDone && s.FirstDone <= s.LastDone && 0 < s.Copied && s.Copied <= s.LastDone &&
			s.LastDone <= s.Durable && s.Durable <= s.Verified
		if !inOrder || s.CPU <= 0 || s.Memory <= 0 || s.Cached == nil || *s.Cached != 0 {
			t.Errorf("%s, %s: wrong sample %+v", c.Workload, c.Engine, s)
		}
		if s.File.Count != c.Files || s.Block.Count < c.Files || s.Sync.Count == 0 {
			t.Errorf("%s, %s: wrong number of latencies for %d files: %+v", c.Workload, c.Engine, c.Files, s)
		}
	}
}

// A run that is stopped at any step leaves no file, and returns the measurements until
// then.
func TestRunStoppedLeavesNothing(t *testing.T) {
	why := errors.New("stop")
	for _, step := range []int{1, 2, 8, 10, 11, 18, 21} {
		c := tinyConfig(t.TempDir())
		c.Samples = 1
		ctx, cancel := context.WithCancelCause(t.Context())
		c.Progress = &recordedProgress{begun: func(n int) {
			if n == step {
				cancel(why)
			}
		}}
		r, err := Run(ctx, c)
		if !errors.Is(err, why) || r == nil || r.Complete {
			t.Errorf("stopped at step %d: got error %v, result %v; want an incomplete result", step, err, r != nil)
		}
		expectEmpty(t, c.Target)
	}
}

// A run writes nothing if there is not enough space, or if it costs more than is allowed.
func TestRunRefusals(t *testing.T) {
	small := testkit.Mount(t, "ext4", 64*mib)
	refusals := []struct {
		name   string
		change func(*Config)
		want   func(error) bool
	}{
		{"no space", func(c *Config) { c.Target = small }, func(err error) bool {
			short := new(SpaceError)
			return errors.As(err, &short)
		}},
		{"a tenth", func(c *Config) { c.AllowCostly, c.Share = false, 0.5 }, func(err error) bool {
			cost := new(CostError)
			return errors.As(err, &cost)
		}},
		{"no target", func(c *Config) { c.Target = "" }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"missing target", func(c *Config) { c.Target += "/none" }, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		{"odd block", func(c *Config) { c.Blocks = []int64{3 * mib} }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"large block", func(c *Config) { c.Blocks = []int64{8 * mib} }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"small size", func(c *Config) { c.Size = mib }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"no profile", func(c *Config) { c.Profile = "fast" }, func(err error) bool { return errors.Is(err, ErrUsage) }},
		{"no jobs", func(c *Config) { c.Jobs = []int{0} }, func(err error) bool { return errors.Is(err, ErrUsage) }},
	}
	for _, one := range refusals {
		c := tinyConfig(t.TempDir())
		target, progress := c.Target, &recordedProgress{}
		c.Progress = progress
		one.change(&c)
		_, err := Run(t.Context(), c)
		if !one.want(err) || len(progress.steps) > 0 {
			t.Errorf("%s: got error %v after steps %q", one.name, err, progress.steps)
		}
		expectEmpty(t, target)
	}
	expectEmpty(t, small)
}

// An engine that shares extents moves no data, so there is no result: neither if the
// engine reports it (clone) nor if the file system does it (range). An engine that does
// not work here has no result either.
func TestSharedExtentsAreNoResult(t *testing.T) {
	for _, fs := range testkit.FileSystemsOf(t, gib) {
		if fs.Name == "tmpfs" || fs.Name == "tempdir" {
			continue
		}
		shares := fs.Name != "ext4"
		c := tinyConfig(fs.Dir)
		c.Engines = []string{"auto", "clone", "range", "direct"}
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
				t.Errorf("%s: %s with %s: got %d samples, refused %q, want %q", fs.Name, one.Workload, one.Engine, len(one.Samples), one.Refused, want)
			}
		}
		expectEmpty(t, fs.Dir)
	}
}

// If a file system does not report shared extents, it is not proven that all bytes moved.
// There is one warning about it.
func TestRunWithUnknownExtents(t *testing.T) {
	c := tinyConfig(testkit.Mount(t, "tmpfs", gib))
	c.Engines, c.Blocks, c.Samples = []string{"buffered"}, []int64{4 * mib}, 1
	r, err := Run(t.Context(), c)
	if err != nil || len(r.Cases) != 3 || len(r.Cases[0].Samples) != 1 {
		t.Fatalf("got error %v, result %+v", err, r)
	}
	if n := strings.Count(strings.Join(r.Warnings, "\n"), "does not report shared extents"); n != 1 {
		t.Errorf("got the warning %d times in %q, want once", n, r.Warnings)
	}
}

// Each round has all indexes in a new order, and next is the following index.
func TestRoundsAreShuffled(t *testing.T) {
	const many, n = 6, 12
	var order, next []int
	err := forEachShuffled(1, many, n, func(i, after int) error {
		order, next = append(order, i), append(next, after)
		return nil
	})
	if err != nil || len(order) != many*n || !slices.Equal(next, append(order[1:len(order):len(order)], -1)) {
		t.Fatalf("got error %v, order %v, next %v", err, order, next)
	}
	seen := map[string]bool{}
	for round := range slices.Chunk(order, n) {
		seen[fmt.Sprint(round)] = true
		if slices.IsSorted(round) || !slices.Equal(slices.Sorted(slices.Values(round)), slices.Sorted(slices.Values(order[:n]))) {
			t.Errorf("got round %v, want a shuffled one of all", round)
		}
	}
	if len(seen) != many {
		t.Errorf("got %d orders in %d rounds", len(seen), many)
	}
	again := []int(nil)
	_ = forEachShuffled(1, many, n, func(i, _ int) error { again = append(again, i); return nil })
	if !slices.Equal(order, again) {
		t.Errorf("the same seed gave %v and %v", order, again)
	}
}

// timeLeftOnly is a Progress that records only the time left.
type timeLeftOnly struct{ time.Duration }

func (l *timeLeftOnly) BeginStep(int, int, string, string) {}
func (l *timeLeftOnly) BytesMoved(int64)                   {}
func (l *timeLeftOnly) TimeLeft(d time.Duration)           { l.Duration = d }

// The bytes that are left take as long as those before, in proportion.
func TestTimeLeft(t *testing.T) {
	l := &timeLeftOnly{}
	at := tracker{to: l, started: time.Now().Add(-time.Minute), planned: 400, steps: 2}
	at.begin(200, "one", "two")
	if l.Duration != 0 {
		t.Errorf("got %v left before any byte was moved", l.Duration)
	}
	at.nextReport.Store(0)
	at.moved(100)
	if l.Round(time.Second) != 3*time.Minute {
		t.Errorf("got %v left after a minute for a quarter, want 3m", l.Duration)
	}
	at.begin(200, "two", "") // this counts all bytes of the first step
	if l.Round(time.Second) != time.Minute {
		t.Errorf("got %v left after a minute for a half, want 1m", l.Duration)
	}
}

// A shard in the page cache is no longer there after either method, and the bytes that
// stay are counted.
func TestCoolAndProve(t *testing.T) {
	for _, how := range []string{dropAllCaches, evictEachFile} {
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
			t.Errorf("%s: got %v bytes cached, %v, want 0", how, cached, err)
		}
		warm()
		c.how = "none"
		if cached, err := c.cool(t.Context(), s); err != nil || *cached != 3*mib+8192 {
			t.Errorf("without cooling, after %s: got %v bytes cached, %v, want all", how, cached, err)
		}
		s.plan.Close()
		s.src.Close()
	}
}

// A source that was just written, on another file system, is cold after cooling.
func TestCoolSourceElsewhere(t *testing.T) {
	elsewhere := testkit.Mount(t, "ext4", 64<<20)
	testkit.Apply(t, elsewhere, testkit.File("shard/a", 3*mib, 1))
	s, err := openShard(t.Context(), "x", filepath.Join(elsewhere, "shard"), openDir(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	c := &cooler{how: evictEachFile, warn: func(w string) { t.Error(w) }}
	if cached, err := c.cool(t.Context(), s); err != nil || *cached != 0 {
		t.Errorf("got %v bytes cached, %v, want 0", cached, err)
	}
}

// A source on tmpfs always stays in memory, so it is never cold. Each sample has the
// number of cached bytes, and the result has a warning.
func TestRunWarnsOfAWarmSource(t *testing.T) {
	source := testkit.Mount(t, "tmpfs", 64*mib)
	testkit.Apply(t, source, testkit.File("a", 9*mib, 1))
	c := tinyConfig(t.TempDir())
	c.Source, c.Engines, c.Blocks, c.Samples = source, []string{"buffered"}, []int64{4 * mib}, 1
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
			t.Errorf("%s: got %d bytes cached, want %d", one.Workload, *one.Samples[0].Cached, want)
		}
	}
	if len(r.Warnings) != 2 || !strings.Contains(r.Warnings[1], "source: 9MiB were in the page cache") {
		t.Errorf("got warnings %q, want two, the second about the page cache", r.Warnings)
	}
}

// A user who is not root empties the page cache of each file, with a warning.
func TestCoolWithoutRoot(t *testing.T) {
	warnings := []string{}
	c := &cooler{how: dropAllCaches, warn: func(w string) { warnings = append(warnings, w) }}
	if err := c.fallBackToFiles(&os.PathError{Op: "open", Path: "drop_caches", Err: unix.EACCES}); err != nil {
		t.Error(err)
	}
	if c.how != evictEachFile || len(warnings) != 1 || !strings.Contains(warnings[0], "only root") {
		t.Errorf("got method %s, warnings %q", c.how, warnings)
	}
	if err := c.fallBackToFiles(&os.PathError{Op: "open", Path: "drop_caches", Err: unix.EIO}); !sys.IsErrno(err, unix.EIO) {
		t.Errorf("got error %v, want EIO", err)
	}
}

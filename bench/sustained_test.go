package bench

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shard_to_ssd/internal/faultfs"
	"shard_to_ssd/internal/testkit"
)

// A disk with a fast cache: it takes so many bytes fast, and then it is slow, until it
// has rested, which here is when a new file is made.
func cachedDisk(t *testing.T, size, cache, fast, slow int64) *faultfs.FS {
	t.Helper()
	disk := faultfs.New(t, size)
	disk.SetRate(0, fast)
	var taken atomic.Int64
	disk.Watch(func(c faultfs.Call) {
		switch c.Op {
		case faultfs.Create:
			taken.Store(0)
			disk.SetRate(0, fast)
		case faultfs.Write:
			if n := taken.Add(c.Len); n >= cache && n-c.Len < cache {
				disk.SetRate(0, slow)
			}
		}
	})
	return disk
}

// The first file stays until the drive had its pause, as a shard does. A reader is not
// measured while files are made or deleted.
func TestWhatALongWriteIsMeasuredWith(t *testing.T) {
	testkit.NeedRoot(t)
	disk := faultfs.New(t, 256*mib)
	disk.SetRate(0, 64*mib)
	r := newRunner(t, disk.Dir)
	type event struct {
		what        string
		first, last time.Time
	}
	var mu sync.Mutex
	var events []event
	disk.Watch(func(c faultfs.Call) {
		does := map[faultfs.Op]string{faultfs.Create: "make", faultfs.Unlink: "delete", faultfs.Write: "write", faultfs.Read: "read"}[c.Op]
		name, now := filepath.Base(c.Path), time.Now()
		if does == "" || name != sustainedFile && name != readersFile {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		what := does + " " + name
		if n := len(events); n == 0 || events[n-1].what != what {
			events = append(events, event{what, now, now})
		}
		events[len(events)-1].last = now
	})
	const pause = time.Second
	if _, err := r.measureSustained(t.Context(), 32*mib, pause, 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	var order []string
	for _, e := range events {
		order = append(order, e.what)
	}
	first := []string{"make sustained", "write sustained", "delete sustained", "make sustained", "write sustained", "delete sustained", "make readers"}
	if len(order) < len(first) || !slices.Equal(order[:len(first)], first) {
		t.Fatalf("it does %v", order)
	}
	if rested := events[2].first.Sub(events[1].last); rested < pause {
		t.Errorf("deleted %v after it was written, before it had rested", rested)
	}
	last := func(what string) int { return len(order) - 1 - slices.Index(reversed(order), what) }
	if slices.Index(order, "read readers") < last("make sustained") || last("read readers") > last("delete sustained") {
		t.Errorf("it is read while files are made or deleted: %v", order)
	}
}

func reversed(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// newRunner is a runner with nothing but a work directory.
func newRunner(t *testing.T, target string) *runner {
	t.Helper()
	work, err := makeWorkDir(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := work.remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return &runner{Config: &Config{Seed: 1}, work: work, result: &Result{}, sustainedBlock: mib, tracker: tracker{started: time.Now()}}
}

// The cliff of a disk that really becomes slower is where its cache is full, before and
// after the rates are the disk's, and it recovers when it has rested.
func TestSustainedFindsTheCliffOfADisk(t *testing.T) {
	testkit.NeedRoot(t)
	const cache, fast, slow = int64(64 << 20), int64(16 << 20), int64(3 << 20)
	disk := cachedDisk(t, 256*mib, cache, fast, slow)
	r := newRunner(t, disk.Dir)
	s, err := r.measureSustained(t.Context(), 80*mib, time.Millisecond, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	near := func(got, want float64) bool { return math.Abs(got-want) < want/4 }
	// Up to a block of each of the writers is not counted before it is through.
	if c := s.Cliff; c == nil || !near(float64(c.Offset), float64(cache-8*mib)) || !near(c.Before, float64(fast)) || !near(c.After, float64(slow)) {
		t.Fatalf("cliff %+v of %v", c, s.Points)
	}
	if !s.Complete || len(s.Cliffs) != 1 || s.WorstSecond == nil || *s.WorstSecond > float64(slow)*1.5 {
		t.Errorf("cliffs %v, worst second %v", s.Cliffs, s.WorstSecond)
	}
	if s.Recovery == nil || !near(*s.Recovery, float64(cache-8*mib)) {
		t.Errorf("recovered for %v bytes, wanted %d, of %v", s.Recovery, cache, s.AfterIt)
	}
	if want := s.Pause * float64(s.Cliff.Offset) / *s.Recovery; s.RecoverySeconds == nil || *s.RecoverySeconds != want || s.Recovered {
		t.Errorf("recovered, or would have after %v s, wanted %v: %+v", s.RecoverySeconds, want, s)
	}
	// With a reader beside it as much is written, and it was read before and meanwhile.
	if end(s.Beside) != end(s.AfterIt) || s.Readers == nil || s.Readers.Alone.Count == 0 || s.Readers.Beside.Count <= s.Readers.Alone.Count {
		t.Errorf("beside a reader %v, %+v", s.Beside, s.Readers)
	}
	if rate := float64(end(s.Beside)) / s.Beside[len(s.Beside)-1].Second; s.Readers.Rate != rate {
		t.Errorf("beside a reader %v bytes a second, wanted %v", s.Readers.Rate, rate)
	}
}

// Of what came after the pause only a whole write says how the drive recovers, and one
// that was fast to its end that the pause was long enough.
func TestJudgeRecovery(t *testing.T) {
	cliff := &Cliff{Offset: 100e9, Before: 1000e6, After: 100e6}
	for _, c := range []struct {
		name      string
		after     []Point
		again     int64
		want      float64 // bytes; -1: null
		recovered bool
		seconds   float64 // 0: null
	}{
		{"nothing", nil, 10e9, -1, false, 0},
		{"ended early", series(0, 1, stretch{4, 1000}), 10e9, -1, false, 0},
		{"fast to the end", series(0, 1, stretch{20, 1000}), 10e9, 10e9, true, 60},
		{"for a while", series(0, 1, stretch{10, 1000}, stretch{100, 100}), 10e9, 5e9, false, 60 * 100 / 5},
		{"not at all", series(0, 1, stretch{200, 100}), 10e9, 0, false, 0},
	} {
		s := Sustained{Cliff: cliff, Pause: 60, AfterIt: c.after}
		s.judgeRecovery(c.again)
		if (s.Recovery == nil) != (c.want < 0) || s.Recovery != nil && *s.Recovery != c.want || s.Recovered != c.recovered {
			t.Errorf("%s: recovered for %v, to the end %v", c.name, s.Recovery, s.Recovered)
		}
		if (s.RecoverySeconds == nil) != (c.seconds == 0) || s.RecoverySeconds != nil && *s.RecoverySeconds != c.seconds {
			t.Errorf("%s: seconds %v", c.name, s.RecoverySeconds)
		}
	}
}

// A write that is over before a cliff could have been found says so.
func TestSustainedThatIsShort(t *testing.T) {
	testkit.NeedRoot(t)
	disk := faultfs.New(t, 256*mib)
	r := newRunner(t, disk.Dir)
	s, err := r.measureSustained(t.Context(), 16*mib, time.Millisecond, time.Millisecond)
	if err != nil || !s.Complete || s.Telling() || len(r.result.Warnings) != 1 || !strings.Contains(r.result.Warnings[0], "too short for a cliff") {
		t.Errorf("%v, %+v, %q", err, s, r.result.Warnings)
	}
}

// A write that begins slower than short ones were may have met a cache that is full.
func TestSustainedThatBeginsSlow(t *testing.T) {
	for _, c := range []struct {
		name  string
		rates []stretch
		warns bool
	}{
		{"as fast", []stretch{{20, 1000}}, false},
		{"somewhat slower", []stretch{{20, 800}}, false},
		{"slow", []stretch{{20, 300}}, true},
		{"slow later", []stretch{{20, 1000}, {20, 300}}, false},
	} {
		r := &runner{Config: &Config{}, result: &Result{Ceilings: []Ceiling{{Way: Write, Rates: []float64{1000e6}}, {Way: Read, Rates: []float64{9000e6}}}}}
		r.doubt(&Sustained{Complete: true, Points: series(0, 1, c.rates...)})
		if said := strings.Join(r.result.Warnings, " "); (said != "") != c.warns || c.warns && !strings.Contains(said, "began at 300 MB/s, and short ones had 1000") {
			t.Errorf("%s: %q", c.name, said)
		}
	}
}

// end is how much was written.
func end(points []Point) int64 { return points[len(points)-1].Offset }

// What was measured before a signal is judged, and nobody takes it for a drive without a
// cliff.
func TestSustainedThatIsInterrupted(t *testing.T) {
	testkit.NeedRoot(t)
	disk := faultfs.New(t, 256*mib)
	disk.SetRate(0, 16*mib)
	r := newRunner(t, disk.Dir)
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("a signal")
	disk.Watch(func(c faultfs.Call) {
		if c.Op == faultfs.Write && c.Off >= 48*mib {
			stop(why)
		}
	})
	s, err := r.measureSustained(ctx, 128*mib, time.Millisecond, time.Millisecond)
	if !errors.Is(err, why) || s.Complete || s.Rate == 0 || s.WorstSecond == nil || len(s.Points) == 0 || len(s.AfterIt) > 0 {
		t.Errorf("%v, %+v", err, s)
	}
}

// A long flush at the end is no slow second of writing.
func TestSustainedWithALongFlush(t *testing.T) {
	testkit.NeedRoot(t)
	disk := faultfs.New(t, 256*mib)
	disk.SetRate(0, 16*mib)
	r := newRunner(t, disk.Dir)
	flushed := make(chan struct{})
	flush := disk.Inject(faultfs.Fault{Op: faultfs.Sync, Name: "/" + sustainedFile, Hang: flushed, Times: 1})
	go func() {
		<-flush.Met()
		time.AfterFunc(4*tick, func() { close(flushed) })
	}()
	points, err := r.writeOn(t.Context(), 64*mib)
	if err != nil || offset(points) != 64*mib {
		t.Fatalf("%v, %v", err, points)
	}
	for _, p := range points {
		if p.Rate < 4*float64(mib) {
			t.Errorf("%v bytes a second in %v", p.Rate, points)
		}
	}
}

// When others fill the file system up, the write ends before it is full, and what was
// measured stays.
func TestSustainedKeepsTheReserve(t *testing.T) {
	testkit.NeedRoot(t)
	disk := faultfs.New(t, 256*mib)
	r := newRunner(t, disk.Dir)
	var once atomic.Bool
	disk.Watch(func(c faultfs.Call) {
		if c.Op == faultfs.Write && c.Off >= 32*mib && once.CompareAndSwap(false, true) {
			disk.SetRate(0, 4*mib)
			disk.SetSize(disk.Used()+r.work.reserve/2, false) // what is written has its space already
		}
	})
	points, err := r.writeOn(t.Context(), 128*mib)
	if err != nil || len(points) == 0 || points[len(points)-1].Offset > 64*mib {
		t.Errorf("%v, points %v", err, points)
	}
	if len(r.result.Warnings) != 1 || !strings.Contains(r.result.Warnings[0], "are kept free") {
		t.Errorf("warnings %q", r.result.Warnings)
	}
}

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

// cachedDisk returns a disk with a fast cache: it is slow after so many bytes, until it
// has rested. Here it has rested when a new file is made.
func cachedDisk(t *testing.T, size, cache, fast, slow int64) *faultfs.FS {
	t.Helper()
	disk := faultfs.New(t, size)
	disk.SetRate(0, fast)
	var taken atomic.Int64
	disk.WatchCalls(func(c faultfs.Call) {
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

// The first file stays until the drive had its pause, as a shard does. The reader does
// not read while files are made or deleted.
func TestOrderOfALongWrite(t *testing.T) {
	testkit.RequireRoot(t)
	disk := faultfs.New(t, 256*mib)
	disk.SetRate(0, 64*mib)
	r := newRunner(t, disk.Dir)
	type event struct {
		what        string
		first, last time.Time
	}
	var mu sync.Mutex
	var events []event
	disk.WatchCalls(func(c faultfs.Call) {
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
		t.Fatalf("got calls %v, want first %v", order, first)
	}
	if rested := events[2].first.Sub(events[1].last); rested < pause {
		t.Errorf("the first file was deleted %v after the write, before the end of the pause", rested)
	}
	last := func(what string) int { return len(order) - 1 - slices.Index(reversedCopy(order), what) }
	if slices.Index(order, "read readers") < last("make sustained") || last("read readers") > last("delete sustained") {
		t.Errorf("the reader reads while files are made or deleted: %v", order)
	}
}

func reversedCopy(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// newRunner returns a runner that has only a work directory.
func newRunner(t *testing.T, target string) *runner {
	t.Helper()
	work, err := makeWorkDir(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := work.removeAll(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return &runner{Config: &Config{Seed: 1}, work: work, result: &Result{}, sustainedBlock: mib, tracker: tracker{started: time.Now()}}
}

// The cliff of a disk that gets slower is at the size of its cache, the rates are those
// of the disk, and the disk recovers after a rest.
func TestSustainedFindsTheCliffOfADisk(t *testing.T) {
	testkit.RequireRoot(t)
	const cache, fast, slow = int64(64 << 20), int64(16 << 20), int64(3 << 20)
	disk := cachedDisk(t, 256*mib, cache, fast, slow)
	r := newRunner(t, disk.Dir)
	s, err := r.measureSustained(t.Context(), 80*mib, time.Millisecond, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	near := func(got, want float64) bool { return math.Abs(got-want) < want/4 }
	// The last block of each worker counts only when it is complete.
	if c := s.Cliff; c == nil || !near(float64(c.Offset), float64(cache-8*mib)) || !near(c.Before, float64(fast)) || !near(c.After, float64(slow)) {
		t.Fatalf("got cliff %+v of %v", c, s.Points)
	}
	if !s.Complete || len(s.Cliffs) != 1 || s.WorstSecond == nil || *s.WorstSecond > float64(slow)*1.5 {
		t.Errorf("got cliffs %v, worst second %v", s.Cliffs, s.WorstSecond)
	}
	if s.Recovery == nil || !near(*s.Recovery, float64(cache-8*mib)) {
		t.Errorf("got recovery of %v bytes, want %d, of %v", s.Recovery, cache, s.AfterPause)
	}
	if want := s.Pause * float64(s.Cliff.Offset) / *s.Recovery; s.RecoverySeconds == nil || *s.RecoverySeconds != want || s.Recovered {
		t.Errorf("got recovery after %v s, want %v, and Recovered false: %+v", s.RecoverySeconds, want, s)
	}
	// The third write has the size of the second, and the reader reads before it and
	// beside it.
	if lastOffset(s.BesideReader) != lastOffset(s.AfterPause) || s.Readers == nil || s.Readers.Alone.Count == 0 || s.Readers.Beside.Count <= s.Readers.Alone.Count {
		t.Errorf("beside a reader: got points %v, readers %+v", s.BesideReader, s.Readers)
	}
	if rate := float64(lastOffset(s.BesideReader)) / s.BesideReader[len(s.BesideReader)-1].Second; s.Readers.Rate != rate {
		t.Errorf("beside a reader: got %v bytes a second, want %v", s.Readers.Rate, rate)
	}
}

// Only a complete second write shows how the drive recovers. Only one that was fast until
// its end shows that the pause was long enough.
func TestSummarizeRecovery(t *testing.T) {
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
		{"ended early", makeSeries(0, 1, stretch{4, 1000}), 10e9, -1, false, 0},
		{"fast to the end", makeSeries(0, 1, stretch{20, 1000}), 10e9, 10e9, true, 60},
		{"for a while", makeSeries(0, 1, stretch{10, 1000}, stretch{100, 100}), 10e9, 5e9, false, 60 * 100 / 5},
		{"not at all", makeSeries(0, 1, stretch{200, 100}), 10e9, 0, false, 0},
	} {
		s := Sustained{Cliff: cliff, Pause: 60, AfterPause: c.after}
		s.summarizeRecovery(c.again)
		if (s.Recovery == nil) != (c.want < 0) || s.Recovery != nil && *s.Recovery != c.want || s.Recovered != c.recovered {
			t.Errorf("%s: got recovery %v, Recovered %v", c.name, s.Recovery, s.Recovered)
		}
		if (s.RecoverySeconds == nil) != (c.seconds == 0) || s.RecoverySeconds != nil && *s.RecoverySeconds != c.seconds {
			t.Errorf("%s: got %v seconds, want %v", c.name, s.RecoverySeconds, c.seconds)
		}
	}
}

// A write that is too short to find a cliff gives a warning.
func TestSustainedThatIsShort(t *testing.T) {
	testkit.RequireRoot(t)
	disk := faultfs.New(t, 256*mib)
	r := newRunner(t, disk.Dir)
	s, err := r.measureSustained(t.Context(), 16*mib, time.Millisecond, time.Millisecond)
	if err != nil || !s.Complete || s.IsConclusive() || len(r.result.Warnings) != 1 || !strings.Contains(r.result.Warnings[0], "too short to find a cliff") {
		t.Errorf("got error %v, %+v, warnings %q", err, s, r.result.Warnings)
	}
}

// A write that begins slower than short writes may have met a full cache.
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
		r.warnIfInconclusive(&Sustained{Complete: true, Points: makeSeries(0, 1, c.rates...)})
		if text := strings.Join(r.result.Warnings, " "); (text != "") != c.warns || c.warns && !strings.Contains(text, "began at 300 MB/s, short writes reached 1000") {
			t.Errorf("%s: got warnings %q, want some: %v", c.name, text, c.warns)
		}
	}
}

// lastOffset returns the offset of the last point.
func lastOffset(points []Point) int64 { return points[len(points)-1].Offset }

// The measurements before a signal are summarized, and the drive does not count as one
// without a cliff.
func TestSustainedThatIsInterrupted(t *testing.T) {
	testkit.RequireRoot(t)
	disk := faultfs.New(t, 256*mib)
	disk.SetRate(0, 16*mib)
	r := newRunner(t, disk.Dir)
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("a signal")
	disk.WatchCalls(func(c faultfs.Call) {
		if c.Op == faultfs.Write && c.Off >= 48*mib {
			stop(why)
		}
	})
	s, err := r.measureSustained(ctx, 128*mib, time.Millisecond, time.Millisecond)
	if !errors.Is(err, why) || s.Complete || s.Rate == 0 || s.WorstSecond == nil || len(s.Points) == 0 || len(s.AfterPause) > 0 {
		t.Errorf("got error %v, %+v, want the points until the signal", err, s)
	}
}

// A long flush at the end does not make a slow second of writing.
func TestSustainedWithALongFlush(t *testing.T) {
	testkit.RequireRoot(t)
	disk := faultfs.New(t, 256*mib)
	disk.SetRate(0, 16*mib)
	r := newRunner(t, disk.Dir)
	flushed := make(chan struct{})
	flush := disk.Inject(faultfs.Fault{Op: faultfs.Sync, Name: "/" + sustainedFile, Hang: flushed, Times: 1})
	go func() {
		<-flush.Triggered()
		time.AfterFunc(4*tick, func() { close(flushed) })
	}()
	points, err := r.writeSustained(t.Context(), 64*mib)
	if err != nil || bytesWritten(points) != 64*mib {
		t.Fatalf("got error %v, points %v", err, points)
	}
	for _, p := range points {
		if p.Rate < 4*float64(mib) {
			t.Errorf("got %v bytes a second in %v", p.Rate, points)
		}
	}
}

// If other programs fill the file system, the write ends before it is full and keeps its
// points.
func TestSustainedKeepsTheReserve(t *testing.T) {
	testkit.RequireRoot(t)
	disk := faultfs.New(t, 256*mib)
	r := newRunner(t, disk.Dir)
	var once atomic.Bool
	disk.WatchCalls(func(c faultfs.Call) {
		if c.Op == faultfs.Write && c.Off >= 32*mib && once.CompareAndSwap(false, true) {
			disk.SetRate(0, 4*mib)
			disk.SetSize(disk.UsedBytes()+r.work.reserve/2, false) // the written file keeps its reserved space
		}
	})
	points, err := r.writeSustained(t.Context(), 128*mib)
	if err != nil || len(points) == 0 || points[len(points)-1].Offset > 64*mib {
		t.Errorf("got error %v, points %v", err, points)
	}
	if len(r.result.Warnings) != 1 || !strings.Contains(r.result.Warnings[0], "must stay free") {
		t.Errorf("got warnings %q, want one about the reserve", r.result.Warnings)
	}
}

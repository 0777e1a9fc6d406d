package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	shardtossd "shard_to_ssd"
)

// runInBubble runs an operation in a synctest bubble, where only passTime lets time
// pass. It returns standard error.
func runInBubble(t *testing.T, columns int, args []string, work func(settings)) string {
	t.Helper()
	// The goroutine of package signal starts at its first use and never ends, so it
	// must not start in the bubble.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	signal.Stop(signals)

	var stdout, stderr strings.Builder
	o := func(_ context.Context, o settings) (*jsonResult, error) {
		work(o)
		return nil, nil
	}
	synctest.Test(t, func(t *testing.T) {
		status := run(args, host{
			getenv: noEnv, stdout: &stdout, stderr: &stderr,
			columns:    func() int { return columns },
			operations: map[mode]operation{modeCopy: o, modeVerify: o, modeVerifyAll: o},
		})
		if status != 0 || stdout.Len() > 0 {
			t.Errorf("status %d, standard output %q", status, stdout.String())
		}
	})
	return stderr.String()
}

// passTime lets seconds pass, and waits until everything due is drawn.
func passTime(seconds int) {
	time.Sleep(time.Duration(seconds) * time.Second)
	synctest.Wait()
}

var copyArgs = []string{"-c", "-i", "a", "s"}

const mib = 1 << 20

func TestPlain(t *testing.T) {
	got := runInBubble(t, 0, copyArgs, func(o settings) {
		passTime(60) // waits for the lock: no progress
		o.Observer.Planned(4, 1000*mib)
		passTime(5)
		o.Observer.Copied(300 * mib)
		o.Observer.ReadBack(100 * mib)
		o.Observer.FileDone()
		passTime(6)
		o.Observer.Copied(700 * mib)
		passTime(9)
		o.Observer.ReadBack(900 * mib)
		passTime(2)
	})
	want := "INFO:root:progress: 20%, 300.0 MiB of 1000.0 MiB copied, 100.0 MiB read back, 1 of 4 files, 40.0 MiB/s, 40s left\n" +
		"INFO:root:progress: 100%, 1000.0 MiB of 1000.0 MiB copied, 1000.0 MiB read back, 1 of 4 files, 160.0 MiB/s, finishing\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlainOfVerify(t *testing.T) {
	got := runInBubble(t, 0, []string{"--verify", "s"}, func(o settings) {
		o.Observer.Planned(4, 1000*mib)
		passTime(1)
		o.Observer.ReadBack(500 * mib)
		passTime(10)
	})
	want := "INFO:root:progress: 50%, 500.0 MiB of 1000.0 MiB read back, 4 files, 50.0 MiB/s, 10s left\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPlainOfVerifyAll changes the plan: all shards have one, and it shrinks when a
// shard is removed meanwhile.
func TestPlainOfVerifyAll(t *testing.T) {
	got := runInBubble(t, 0, []string{"--verify", "--all"}, func(o settings) {
		o.Observer.Planned(40, 2000*mib)
		passTime(1)
		o.Observer.ReadBack(500 * mib)
		o.Observer.Planned(10, 1000*mib)
		passTime(10)
	})
	want := "INFO:root:progress: 50%, 500.0 MiB of 1000.0 MiB read back, 10 files, 50.0 MiB/s, 10s left\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNoProgress ensures that a run under ten seconds logs no progress without a
// terminal, and that --progress=none never does.
func TestNoProgress(t *testing.T) {
	long := func(seconds int) func(o settings) {
		return func(o settings) {
			o.Observer.Planned(1, 1)
			passTime(seconds)
		}
	}
	if got := runInBubble(t, 0, copyArgs, long(9)); got != "" {
		t.Errorf("9 s: logged %q", got)
	}
	if got := runInBubble(t, 80, append([]string{"--progress=none"}, copyArgs...), long(60)); got != "" {
		t.Errorf("none: logged %q", got)
	}
}

// TestBar ensures that a terminal has a bar, with lines above it, until the end.
func TestBar(t *testing.T) {
	got := runInBubble(t, 84, copyArgs, func(o settings) {
		passTime(1) // no plan yet: no bar
		o.Observer.Planned(4, 1000*mib)
		passTime(1)
		o.Observer.Copied(1000 * mib)
		passTime(10)
		o.Log.Log(shardtossd.Info, "root", "a line")
	})
	first := "   0% [..................] 0 B/1000.0 MiB, 0/4 files, 0 B/s, time left unknown"
	last := "  50% [========>.........] 500.0 MiB/1000.0 MiB, 0/4 files, 100.0 MiB/s, 10s left"
	if begin := clearLine + first + clearLine; !strings.HasPrefix(got, begin) {
		t.Errorf("begin: got %q, want %q", got[:min(len(got), 200)], begin)
	}
	if end := clearLine + last + clearLine + "INFO:root:a line\n" + last + clearLine; !strings.HasSuffix(got, end) {
		t.Errorf("end: got %q, want %q", got[max(0, len(got)-300):], end)
	}
}

// TestNarrowBar ensures that a narrow terminal loses the files first, then the bar.
func TestNarrowBar(t *testing.T) {
	s := snapshot{copies: true, work: 2 * mib, done: mib, bytes: mib, files: 9, rate: mib, left: time.Second}
	for columns, want := range map[int]string{
		80: "  50% [==========>...........] 512.0 KiB/1.0 MiB, 0/9 files, 1.0 MiB/s, 1s left",
		60: "  50% [====>.....] 512.0 KiB/1.0 MiB, 1.0 MiB/s, 1s left",
		50: "  50% 512.0 KiB/1.0 MiB, 1.0 MiB/s, 1s left",
	} {
		if got := barLine(s, columns); got != want {
			t.Errorf("%d columns: got %q, want %q", columns, got, want)
		}
	}
}

// TestBarFits ensures that no line is wrapped by the terminal.
func TestBarFits(t *testing.T) {
	for columns := range 200 {
		for _, s := range []snapshot{
			{copies: true, work: 2, done: 1, bytes: 1, left: -1},
			{copies: true, work: 2, done: 2, bytes: 1},
			{work: 0, bytes: 0, filesDone: 1, files: 1 << 40, rate: 1 << 50},
			{work: 1 << 62, done: 1 << 61, bytes: 1 << 62, rate: 1, left: 1e6 * time.Second},
		} {
			limit := columns - 1
			if columns == 0 {
				limit = 79
			}
			if line := barLine(s, columns); len(line) > limit {
				t.Errorf("%d columns: got %d in %q", columns, len(line), line)
			}
		}
	}
	if line := barLine(snapshot{work: 1, done: 1, bytes: 1}, 120); !strings.HasPrefix(line, " 100% ["+strings.Repeat("=", 40)+"] ") {
		t.Errorf("complete bar: got %q", line)
	}
}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		mode    progressStyle
		columns int
		want    progressStyle
	}{
		{progressAuto, 80, progressBar}, {progressAuto, 0, progressPlain},
		{progressBar, 0, progressBar}, {progressPlain, 80, progressPlain}, {progressNone, 80, progressNone},
	} {
		if got := test.mode.resolveAuto(test.columns); got != test.want {
			t.Errorf("%s on %d columns: got %s, want %s", test.mode, test.columns, got, test.want)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		done, work int64
		want       int
	}{{0, 0, 100}, {0, 1, 0}, {999, 1000, 99}, {1000, 1000, 100}, {2, 1, 100}, {1 << 61, 1 << 62, 50}} {
		if got := percent(test.done, test.work); got != test.want {
			t.Errorf("%d of %d: got %d%%, want %d%%", test.done, test.work, got, test.want)
		}
	}
}

// TestSnapshotIsClamped ensures that more work than planned counts as all of it.
func TestSnapshotIsClamped(t *testing.T) {
	var c counters
	c.Planned(1, 10)
	c.Copied(50)
	if s := c.takeSnapshot(modeCopy); s.done != 10 || s.work != 20 {
		t.Errorf("copy: got %d of %d, want 10 of 20", s.done, s.work)
	}
	c.ReadBack(50)
	if s := c.takeSnapshot(modeVerify); s.done != 10 || s.work != 10 {
		t.Errorf("verify: got %d of %d, want 10 of 10", s.done, s.work)
	}
}

func TestFormatSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 123 * time.Second: "2m03s", 3723 * time.Second: "1h02m03s", 360000 * time.Second: "100h00m00s",
	} {
		if got := formatSpan(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

// TestTimeLeft ensures that an unknown time left is reported as unknown.
func TestTimeLeft(t *testing.T) {
	start := time.Unix(1e9, 0)
	for name, test := range map[string]struct {
		done, work int64
		after      time.Duration
		left       time.Duration
	}{
		"steady":     {1, 10, time.Second, 9 * time.Second},
		"no time":    {1, 10, 0, -1},
		"stalled":    {0, 10, time.Second, -1},
		"clock back": {1, 10, -time.Second, -1},
		"astronomic": {1, 1 << 62, 5 * time.Second, -1},
		"nothing":    {0, 0, time.Second, -1},
	} {
		var m rateMeter
		m.addSample(start, &snapshot{work: test.work})
		s := snapshot{done: test.done, work: test.work}
		if m.addSample(start.Add(test.after), &s); s.left != test.left {
			t.Errorf("%s: got %v left, want %v", name, s.left, test.left)
		}
	}
}

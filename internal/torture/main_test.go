package torture

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"shard_to_ssd/internal/testkit"
)

var (
	torture = flag.Duration("torture", 0, "go on for about this long in all; 0: one bounded round of each test")
	seed    = flag.Uint64("seed", 1, "of the first round")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// A background job of a script ignores SIGINT, and one under nohup SIGHUP. So do the
	// programs that it starts, unless this process handles the signals.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	began := time.Now()
	status := m.Run()
	fmt.Print(counted.table(time.Since(began)))
	if builds.dir != "" {
		os.RemoveAll(builds.dir)
	}
	os.Exit(status)
}

// round is one pass of a test.
type round struct {
	*rand.Rand
	seed uint64
	full bool // try everything; otherwise a sample that takes seconds
	end  time.Time
}

// over reports whether the time of a long pass has ended. Such a pass has tried a
// sample, and the next run begins with another one.
func (r *round) over() bool { return !r.end.IsZero() && time.Now().After(r.end) }

// wholeRound is the value of -torture for one complete pass of each test, without a
// time limit.
const wholeRound = time.Millisecond

// allShares is the sum of the shares of all tests. TestSharesAddUp checks it.
const allShares = 1.97

// rounds runs one pass of a test. With -torture it runs passes for its share of that
// time, each with a seed of its own. If a pass fails, it logs the command that repeats
// it.
func rounds(t *testing.T, share float64, one func(t *testing.T, r *round)) {
	t.Helper()
	end := time.Now().Add(time.Duration(share / allShares * float64(*torture)))
	for s := *seed; ; s++ {
		r := &round{Rand: rand.New(rand.NewPCG(s, 0)), seed: s, full: *torture > 0}
		if *torture > wholeRound {
			r.end = end
		}
		ok := t.Run(fmt.Sprint("seed ", s), func(t *testing.T) { one(t, r) })
		if !ok {
			t.Fatalf("repeat it with: TMPDIR=%s go test ./internal/torture -run '^%s$' -seed %d -torture %v",
				os.TempDir(), t.Name(), s, min(*torture, wholeRound))
		}
		if !time.Now().Before(end) {
			return
		}
	}
}

// rounds divides the time of -torture by allShares, so this must be the real sum.
func TestSharesAddUp(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`rounds\(t, (0\.\d+), func`).FindAllStringSubmatch(string(text), -1) {
			share, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += share
		}
	}
	if math.Abs(sum-allShares) > 1e-9 {
		t.Errorf("the shares add up to %v, want allShares = %v", sum, allShares)
	}
}

// counts holds the number of trials of each kind.
type counts struct {
	mu sync.Mutex
	of map[string]int
}

var counted = counts{of: map[string]int{}}

// count adds n trials of a kind.
func count(kind string, n int) {
	counted.mu.Lock()
	defer counted.mu.Unlock()
	counted.of[kind] += n
}

func (c *counts) table(took time.Duration) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := ""
	for _, kind := range slices.Sorted(maps.Keys(c.of)) {
		text += fmt.Sprintf("tried: %8d %s\n", c.of[kind], kind)
	}
	if text != "" {
		text += fmt.Sprintf("tried: in %v\n", took.Round(time.Second))
	}
	return text
}

// builds are the programs; each is built once.
var builds struct {
	mu  sync.Mutex
	dir string
}

// program builds the released program. faulty builds it with the layer of internal/sys
// that counts system calls and makes them fail or kill the process.
func program(t testing.TB) string { return build(t, "release") }
func faulty(t testing.TB) string  { return build(t, "faults") }

func build(t testing.TB, tag string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "torture")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir = dir
	}
	bin := filepath.Join(builds.dir, tag, "shard_to_ssd")
	if _, err := os.Stat(bin); err != nil {
		testkit.RunCommand(t, "env", "CGO_ENABLED=0", "go", "build", "-buildvcs=false", "-tags", tag, "-o", bin, "shard_to_ssd/cmd/shard_to_ssd")
	}
	return bin
}

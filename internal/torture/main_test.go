package torture

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
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
}

// rounds runs one pass of a test, or, with -torture, passes for share of that
// time, each with a seed of its own. A pass that fails is repeated by the command
// that is logged.
func rounds(t *testing.T, share float64, one func(t *testing.T, r *round)) {
	t.Helper()
	end := time.Now().Add(time.Duration(share * float64(*torture)))
	for s := *seed; ; s++ {
		r := &round{Rand: rand.New(rand.NewPCG(s, 0)), seed: s, full: *torture > 0}
		ok := t.Run(fmt.Sprint("seed ", s), func(t *testing.T) { one(t, r) })
		if !ok {
			t.Fatalf("repeat it with: go test ./internal/torture -run '^%s$' -seed %d -torture %v", t.Name(), s, min(*torture, time.Millisecond))
		}
		if !time.Now().Before(end) {
			return
		}
	}
}

// counts is how much of each kind was tried.
type counts struct {
	mu sync.Mutex
	of map[string]int
}

var counted = counts{of: map[string]int{}}

// count adds n to what was tried of a kind.
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

// builds are the programs, each built once.
var builds struct {
	mu  sync.Mutex
	dir string
}

// program is the real binary; faulty is the same with the counting, failing and
// killing layer of internal/sys in it.
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
		testkit.Command(t, "go", "build", "-buildvcs=false", "-tags", tag, "-o", bin, "shard_to_ssd/cmd/shard_to_ssd")
	}
	return bin
}

package copier_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/faultfs"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/internal/tree"
	"shard_to_ssd/verify"
)

// countingTimer is a Timer that counts its calls and records impossible durations.
type countingTimer struct {
	blocks, files, syncs atomic.Int64
	wrong                sync.Map
}

func (c *countingTimer) Block(took time.Duration) { c.record(&c.blocks, "block", took) }
func (c *countingTimer) File(took time.Duration)  { c.record(&c.files, "file", took) }
func (c *countingTimer) Sync(took time.Duration)  { c.record(&c.syncs, "sync", took) }

func (c *countingTimer) record(n *atomic.Int64, part string, took time.Duration) {
	n.Add(1)
	if took <= 0 || took > time.Minute {
		c.wrong.Store(part, took)
	}
}

type readBack struct{ *verify.DeviceReader }

func (r readBack) Open(dir *sys.File, name string, size int64) (copier.BlockReader, error) {
	return r.DeviceReader.Open(dir, name, size)
}

// copyOnce copies the tree at from into the directory at to.
func copyOnce(t *testing.T, from, to string, o copier.Options, request int) {
	t.Helper()
	src, err := copier.OpenSource(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	state, err := sys.OpenDir(to)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	plan, err := copier.MakePlan(t.Context(), src, state)
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	stage, err := plan.OpenStage(t.Context(), copier.StageOptions{Jobs: o.Jobs})
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	if o.ReadBack == nil {
		o.ReadBack = readBack{&verify.DeviceReader{Exclusive: true, MaxRequest: request}}
	}
	o.MaxRequest = request
	if _, err := plan.Copy(t.Context(), stage, o); err != nil {
		t.Fatal(err)
	}
	for _, line := range testkit.CompareTrees(from, filepath.Join(to, copier.StageName)) {
		t.Error(line)
	}
}

// TestTimerIsCompletelyCalled checks that a Timer receives each block and each file once,
// empty files included, and the flushes.
func TestTimerIsCompletelyCalled(t *testing.T) {
	dir := t.TempDir()
	steps := []testkit.Step{testkit.Dir("to", 0o755), testkit.File("from/large", 3*tree.BlockSize+1, 1),
		testkit.File("from/empty", 0, 1), testkit.File("from/middling", 1<<20, 2)}
	const many = sys.BatchAfter + 200 // enough for batch reads
	for i := range many {
		steps = append(steps, testkit.File(filepath.Join("from/many", string(rune('a'+i%26)), time.Duration(i).String()), 100, uint64(i)))
	}
	testkit.Apply(t, dir, steps...)
	if err := testkit.EvictTree(dir); err != nil { // cached files are not read in batches
		t.Fatal(err)
	}
	timer := &countingTimer{}
	copyOnce(t, filepath.Join(dir, "from"), filepath.Join(dir, "to"), copier.Options{Jobs: 4, Timer: timer}, 0)
	if b, f := timer.blocks.Load(), timer.files.Load(); b != 4+2+many || f != 3+many || timer.syncs.Load() == 0 {
		t.Errorf("got %d blocks, %d files, %d flushes, want %d, %d, at least 1", b, f, timer.syncs.Load(), 4+2+many, 3+many)
	}
	timer.wrong.Range(func(part, took any) bool {
		t.Errorf("a %v took %v, want more than 0 and at most a minute", part, took)
		return true
	})
}

// countingLimit is a rate limit that counts bytes and never waits.
type countingLimit struct{ bytes atomic.Int64 }

func (a *countingLimit) Begin(bytes int) (int, error) { a.bytes.Add(int64(bytes)); return bytes, nil }
func (a *countingLimit) End()                         {}

// TestRateLimitCountsEveryByte checks that each byte of small and large files passes the rate limit
// once: read from the source, written to the copy, and read back. Range reads the source
// twice: for the sums, and in the kernel. The test covers the engines that move data; auto
// uses one of them, or clones.
func TestRateLimitCountsEveryByte(t *testing.T) {
	const many, small, large = sys.BatchAfter + 200, sys.Align, 2*tree.BlockSize + sys.Align
	dir := t.TempDir()
	steps := []testkit.Step{testkit.File("from/large", large, 1)}
	for i := range many {
		steps = append(steps, testkit.File(filepath.Join("from/many", string(rune('a'+i%26)), time.Duration(i).String()), small, uint64(i)))
	}
	testkit.Apply(t, dir, steps...)
	for engine, times := range map[copier.Engine]int64{copier.Direct: 2, copier.Buffered: 2, copier.Range: 3} {
		testkit.Apply(t, dir, testkit.Dir("to "+string(engine), 0o755))
		if err := testkit.EvictTree(dir); err != nil { // cached files are not read in batches
			t.Fatal(err)
		}
		copied, back := &countingLimit{}, &countingLimit{}
		copyOnce(t, filepath.Join(dir, "from"), filepath.Join(dir, "to "+string(engine)), copier.Options{Jobs: 4, Engine: engine, RateLimit: copied,
			ReadBack: readBack{&verify.DeviceReader{Exclusive: true, RateLimit: back}}}, 0)
		const all = many*small + large
		if got := copied.bytes.Load(); got != times*all {
			t.Errorf("%s: copying passed %d bytes, want %d", engine, got, times*all)
		}
		if got := back.bytes.Load(); got != all {
			t.Errorf("%s: reading back passed %d bytes, want %d", engine, got, all)
		}
	}
}

// earlyCounter is an Observer that counts the bytes that are read back while others are not
// copied yet.
type earlyCounter struct {
	copier.NopObserver
	left, early atomic.Int64 // bytes
}

func (o *earlyCounter) Copied(bytes int64) { o.left.Add(-bytes) }

func (o *earlyCounter) ReadBack(bytes int64) {
	if o.left.Load() > 0 {
		o.early.Add(bytes)
	}
}

// TestReadBackBeginsWhileCopying checks that segments of a large file, and rounds of small
// files, are read back while the rest is still copied.
func TestReadBackBeginsWhileCopying(t *testing.T) {
	const segments, dirs, files = 4, 6, 8
	var small []testkit.Step
	for i := range dirs * files {
		small = append(small, testkit.File(fmt.Sprintf("from/%d/%d", i%dirs, i), 1<<20, uint64(i)))
	}
	for name, c := range map[string]struct {
		steps []testkit.Step
		bytes int64
		limit sys.RateLimiter
	}{
		"a large file": {[]testkit.Step{testkit.Sparse("from/large", segments*256<<20, []testkit.Extent{{Off: 0, Len: 1 << 20}})}, segments * 256 << 20, nil},
		"small files":  {small, dirs * files << 20, &countingLimit{}}, // rounds of 8 MiB
	} {
		dir := t.TempDir()
		testkit.Apply(t, dir, append(c.steps, testkit.Dir("to", 0o755))...)
		o := &earlyCounter{}
		o.left.Store(c.bytes)
		copyOnce(t, filepath.Join(dir, "from"), filepath.Join(dir, "to"), copier.Options{Jobs: 2, Engine: copier.Direct, Observer: o, RateLimit: c.limit}, 0)
		if o.left.Load() != 0 || o.early.Load() == 0 {
			t.Errorf("%s: got %d bytes read back early and %d bytes not reported, want more than 0 and 0", name, o.early.Load(), o.left.Load())
		}
	}
}

// TestRequestBoundsEveryCall checks that no call moves more than AcquireOptions.MaxRequest bytes:
// reading the source, writing the copy, and reading back.
func TestRequestBoundsEveryCall(t *testing.T) {
	testkit.RequireRoot(t)
	for _, engine := range []copier.Engine{copier.Direct, copier.Range} {
		disk := faultfs.New(t, 64<<20)
		testkit.Apply(t, disk.Dir, testkit.File("from/large", 2*tree.BlockSize+4097, 1), testkit.File("from/middling", 1<<20, 2))
		if err := os.Mkdir(filepath.Join(disk.Dir, "to"), 0o755); err != nil {
			t.Fatal(err)
		}
		disk.DropCache()
		const request = 128 << 10
		var most, moved atomic.Int64
		disk.WatchCalls(func(c faultfs.Call) {
			if (c.Op == faultfs.Read || c.Op == faultfs.Write) && c.Direct || c.Op == faultfs.CopyRange {
				moved.Add(c.Len)
				for old := most.Load(); c.Len > old && !most.CompareAndSwap(old, c.Len); old = most.Load() {
				}
			}
		})
		copyOnce(t, filepath.Join(disk.Dir, "from"), filepath.Join(disk.Dir, "to"), copier.Options{Jobs: 2, Engine: engine}, request)
		disk.WatchCalls(nil)
		if most.Load() != request || moved.Load() < 2*tree.BlockSize {
			t.Errorf("%s: the largest call moved %d of %d bytes, want %d", engine, most.Load(), moved.Load(), request)
		}
	}
}

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

// counted is a Timer that counts, and notes what cannot be.
type counted struct {
	blocks, files, syncs atomic.Int64
	wrong                sync.Map
}

func (c *counted) Block(took time.Duration) { c.heard(&c.blocks, "block", took) }
func (c *counted) File(took time.Duration)  { c.heard(&c.files, "file", took) }
func (c *counted) Sync(took time.Duration)  { c.heard(&c.syncs, "sync", took) }

func (c *counted) heard(n *atomic.Int64, what string, took time.Duration) {
	n.Add(1)
	if took <= 0 || took > time.Minute {
		c.wrong.Store(what, took)
	}
}

type readBack struct{ *verify.Medium }

func (r readBack) Open(dir *sys.File, name string, size int64) (copier.BlockReader, error) {
	return r.Medium.Open(dir, name, size)
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
	stage, err := plan.OpenStage(t.Context(), false, o.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	if o.ReadBack == nil {
		o.ReadBack = readBack{&verify.Medium{Own: true, Request: request}}
	}
	o.Request = request
	if _, err := plan.Copy(t.Context(), stage, o); err != nil {
		t.Fatal(err)
	}
	for _, line := range testkit.Compare(from, filepath.Join(to, copier.StageName)) {
		t.Error(line)
	}
}

// A Timer hears of every block and every file once, also of empty ones, and of the
// flushes.
func TestTimerHearsOfEverything(t *testing.T) {
	dir := t.TempDir()
	steps := []testkit.Step{testkit.Dir("to", 0o755), testkit.File("from/large", 3*tree.BlockSize+1, 1),
		testkit.File("from/empty", 0, 1), testkit.File("from/middling", 1<<20, 2)}
	const many = sys.BatchAfter + 200 // so that some are read many at once
	for i := range many {
		steps = append(steps, testkit.File(filepath.Join("from/many", string(rune('a'+i%26)), time.Duration(i).String()), 100, uint64(i)))
	}
	testkit.Apply(t, dir, steps...)
	if err := testkit.Evict(dir); err != nil { // what is cached is not read many at once
		t.Fatal(err)
	}
	heard := &counted{}
	copyOnce(t, filepath.Join(dir, "from"), filepath.Join(dir, "to"), copier.Options{Jobs: 4, Timer: heard}, 0)
	if b, f := heard.blocks.Load(), heard.files.Load(); b != 4+2+many || f != 3+many || heard.syncs.Load() == 0 {
		t.Errorf("heard of %d blocks, %d files and %d flushes, wanted %d, %d, some", b, f, heard.syncs.Load(), 4+2+many, 3+many)
	}
	heard.wrong.Range(func(what, took any) bool {
		t.Errorf("a %v took %v", what, took)
		return true
	})
}

// asked is a Pace that never waits, and counts.
type asked struct{ bytes atomic.Int64 }

func (a *asked) Begin(bytes int) (int, error) { a.bytes.Add(int64(bytes)); return bytes, nil }
func (a *asked) End()                         {}

// A Pace is asked once for every byte of small and large files, of the source, the copy,
// and reading it back, by each engine that moves data; auto takes one of these, or clones. Range
// reads the source for its sums, and the kernel reads it once more.
func TestPaceIsAskedForEveryByte(t *testing.T) {
	const many, small, large = sys.BatchAfter + 200, sys.Align, 2*tree.BlockSize + sys.Align
	dir := t.TempDir()
	steps := []testkit.Step{testkit.File("from/large", large, 1)}
	for i := range many {
		steps = append(steps, testkit.File(filepath.Join("from/many", string(rune('a'+i%26)), time.Duration(i).String()), small, uint64(i)))
	}
	testkit.Apply(t, dir, steps...)
	for engine, times := range map[copier.Engine]int64{copier.Direct: 2, copier.Buffered: 2, copier.Range: 3} {
		testkit.Apply(t, dir, testkit.Dir("to "+string(engine), 0o755))
		if err := testkit.Evict(dir); err != nil { // what is cached is not read many at once
			t.Fatal(err)
		}
		copied, back := &asked{}, &asked{}
		copyOnce(t, filepath.Join(dir, "from"), filepath.Join(dir, "to "+string(engine)), copier.Options{Jobs: 4, Engine: engine, Pace: copied,
			ReadBack: readBack{&verify.Medium{Own: true, Pace: back}}}, 0)
		const all = many*small + large
		if got := copied.bytes.Load(); got != times*all {
			t.Errorf("%s: copying asked for %d bytes, wanted %d", engine, got, times*all)
		}
		if got := back.bytes.Load(); got != all {
			t.Errorf("%s: reading back asked for %d bytes, wanted %d", engine, got, all)
		}
	}
}

// order is an Observer that hears how much is read back before everything is copied.
type order struct {
	copier.Nobody
	left, early atomic.Int64 // bytes
}

func (o *order) Copied(bytes int64) { o.left.Add(-bytes) }

func (o *order) ReadBack(bytes int64) {
	if o.left.Load() > 0 {
		o.early.Add(bytes)
	}
}

// What is copied is read back while the rest is still copied: segments of a large file,
// and rounds of small ones.
func TestReadBackBeginsWhileCopying(t *testing.T) {
	const segments, dirs, files = 4, 6, 8
	var small []testkit.Step
	for i := range dirs * files {
		small = append(small, testkit.File(fmt.Sprintf("from/%d/%d", i%dirs, i), 1<<20, uint64(i)))
	}
	for name, c := range map[string]struct {
		steps []testkit.Step
		bytes int64
		pace  sys.Pace
	}{
		"a large file": {[]testkit.Step{testkit.Sparse("from/large", segments*256<<20, []testkit.Extent{{Off: 0, Len: 1 << 20}})}, segments * 256 << 20, nil},
		"small files":  {small, dirs * files << 20, &asked{}}, // rounds of 8 MiB
	} {
		dir := t.TempDir()
		testkit.Apply(t, dir, append(c.steps, testkit.Dir("to", 0o755))...)
		o := &order{}
		o.left.Store(c.bytes)
		copyOnce(t, filepath.Join(dir, "from"), filepath.Join(dir, "to"), copier.Options{Jobs: 2, Engine: copier.Direct, Observer: o, Pace: c.pace}, 0)
		if o.left.Load() != 0 || o.early.Load() == 0 {
			t.Errorf("%s: %d bytes were read back while others were copied, %d were not heard of", name, o.early.Load(), o.left.Load())
		}
	}
}

// With a Request, no call moves more than that: of the source, the copy, and reading it
// back.
func TestRequestBoundsEveryCall(t *testing.T) {
	testkit.NeedRoot(t)
	for _, engine := range []copier.Engine{copier.Direct, copier.Range} {
		disk := faultfs.New(t, 64<<20)
		testkit.Apply(t, disk.Dir, testkit.File("from/large", 2*tree.BlockSize+4097, 1), testkit.File("from/middling", 1<<20, 2))
		if err := os.Mkdir(filepath.Join(disk.Dir, "to"), 0o755); err != nil {
			t.Fatal(err)
		}
		disk.DropCache()
		const request = 128 << 10
		var most, moved atomic.Int64
		disk.Watch(func(c faultfs.Call) {
			if (c.Op == faultfs.Read || c.Op == faultfs.Write) && c.Direct || c.Op == faultfs.CopyRange {
				moved.Add(c.Len)
				for old := most.Load(); c.Len > old && !most.CompareAndSwap(old, c.Len); old = most.Load() {
				}
			}
		})
		copyOnce(t, filepath.Join(disk.Dir, "from"), filepath.Join(disk.Dir, "to"), copier.Options{Jobs: 2, Engine: engine}, request)
		disk.Watch(nil)
		if most.Load() != request || moved.Load() < 2*tree.BlockSize {
			t.Errorf("%s: %d bytes in one call of %d in all, wanted %d", engine, most.Load(), moved.Load(), request)
		}
	}
}

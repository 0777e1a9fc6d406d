package shardtossd_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/testkit"
)

// planRecorder is an Observer that records the plans and counts the bytes read back.
type planRecorder struct {
	copier.NopObserver
	plans [][2]int64
	bytes atomic.Int64
}

func (p *planRecorder) Planned(files, bytes int64) { p.plans = append(p.plans, [2]int64{files, bytes}) }
func (p *planRecorder) ReadBack(bytes int64)       { p.bytes.Add(bytes) }

// publishShards publishes n shards on the site, each with one file of the given size.
func (s *site) publishShards(n int, bytes int64) {
	s.t.Helper()
	for i := range n {
		name := fmt.Sprint("shard", i)
		testkit.Apply(s.t, filepath.Dir(s.source), testkit.File(name+"/file", bytes, uint64(i)))
		o := s.ensureOptions()
		o.Shard = filepath.Join(filepath.Dir(s.source), name)
		if _, err := shardtossd.Ensure(s.t.Context(), o); err != nil {
			s.t.Fatal(err)
		}
	}
}

// A scrub reports one plan for all shards, without those that it skips. The last plan
// equals the work done, even if a shard disappears meanwhile. All shards share one rate limit.
func TestScrubIsOneRun(t *testing.T) {
	const shards, size, perSecond = 6, 200 << 10, 4 << 20
	s := newSite(t, t.TempDir(), t.TempDir())
	s.publishShards(shards, size)
	one := s.verifyOptions()
	one.Shard = "shard3"
	if _, err := shardtossd.Verify(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	seen, told := &planRecorder{}, map[string]shardtossd.Outcome{}
	all := shardtossd.ScrubOptions{Host: s.newHost(), MaxAge: time.Hour}
	all.Observer, all.Bandwidth = seen, perSecond
	all.OnShard = func(r *shardtossd.VerifyResult, err error) {
		if told[r.Shard] = r.Outcome; err != nil {
			t.Errorf("%s: %v", r.Shard, err)
		}
		if len(told) == 1 { // another goes before its turn
			gone := s.releaseOptions()
			gone.Shard = "shard5"
			if _, err := shardtossd.Release(t.Context(), gone); err != nil {
				t.Error(err)
			}
		}
	}
	began, descriptors := time.Now(), openDescriptors(t)
	r, err := shardtossd.Scrub(t.Context(), all)
	took := time.Since(began)
	if now := openDescriptors(t); err != nil || !slices.Equal(now, descriptors) {
		t.Errorf("%v; descriptors open before: %q, after: %q", err, descriptors, now)
	}
	want := map[string]shardtossd.Outcome{"shard3": shardtossd.Skipped, "shard5": shardtossd.Gone}
	for _, i := range []int{0, 1, 2, 4} {
		want[fmt.Sprint("shard", i)] = shardtossd.Verified
	}
	if !maps.Equal(told, want) {
		t.Errorf("told %v, wanted %v", told, want)
	}
	if first, last := seen.plans[0], seen.plans[len(seen.plans)-1]; first != [2]int64{5, 5 * size} || last != [2]int64{4, 4 * size} || seen.bytes.Load() != 4*size {
		t.Errorf("planned %v, and read %d bytes", seen.plans, seen.bytes.Load())
	}
	if least := slices.MinFunc(seen.plans, func(a, b [2]int64) int { return int(a[1] - b[1]) }); least[1] != 4*size {
		t.Errorf("planned %v in between", least)
	}
	if r.Files != 4 || r.Bytes != 4*size || r.BytesRead != r.Bytes || r.Counts != (shardtossd.ScrubCounts{Shards: 6, Verified: 4, Skipped: 1, Gone: 1}) {
		t.Errorf("got %+v", r)
	}
	// Each shard alone would be through at once: that much is not waited for.
	if least := time.Second * time.Duration(4*size-pool.PieceSize(perSecond)) / perSecond; took < least {
		t.Errorf("%d bytes at %d a second took %v, wanted %v or more", r.Bytes, perSecond, took, least)
	}
}

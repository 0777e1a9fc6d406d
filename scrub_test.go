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
	recorder, outcomes := &planRecorder{}, map[string]shardtossd.Outcome{}
	all := shardtossd.ScrubOptions{Host: s.newHost(), MaxAge: time.Hour}
	all.Observer, all.Bandwidth = recorder, perSecond
	all.OnShard = func(r *shardtossd.VerifyResult, err error) {
		if outcomes[r.Shard] = r.Outcome; err != nil {
			t.Errorf("%s: %v", r.Shard, err)
		}
		if len(outcomes) == 1 { // the last shard disappears before its turn
			s.releaseShard("shard5")
		}
	}
	began, descriptors := time.Now(), openDescriptors(t)
	r, err := shardtossd.Scrub(t.Context(), all)
	took := time.Since(began)
	if now := openDescriptors(t); err != nil || !slices.Equal(now, descriptors) {
		t.Errorf("Scrub: %v; got descriptors %q, want those from before, %q", err, now, descriptors)
	}
	want := map[string]shardtossd.Outcome{"shard3": shardtossd.Skipped, "shard5": shardtossd.Gone}
	for _, i := range []int{0, 1, 2, 4} {
		want[fmt.Sprint("shard", i)] = shardtossd.Verified
	}
	if !maps.Equal(outcomes, want) {
		t.Errorf("outcomes: got %v, want %v", outcomes, want)
	}
	recorder.expectPlans(t, [2]int64{5, 5 * size}, [2]int64{4, 4 * size})
	if r.Files != 4 || r.Bytes != 4*size || r.BytesRead != r.Bytes || r.Counts != (shardtossd.ScrubCounts{Shards: 6, Verified: 4, Skipped: 1, Gone: 1}) {
		t.Errorf("Scrub: got %+v, want 4 files and %d bytes, 6 shards: 4 verified, 1 skipped, 1 gone", r, 4*size)
	}
	// The first piece does not wait. If each shard had a limit of its own, the first piece of
	// each shard would not wait either.
	if least := time.Second * time.Duration(4*size-pool.PieceSize(perSecond)) / perSecond; took < least {
		t.Errorf("%d bytes at %d a second: got %v, want %v or more", r.Bytes, perSecond, took, least)
	}
}

// releaseShard removes one of several shards. It may be called during a scrub.
func (s *site) releaseShard(name string) {
	s.t.Helper()
	o := s.releaseOptions()
	o.Shard = name
	if _, err := shardtossd.Release(s.t.Context(), o); err != nil {
		s.t.Error(err)
	}
}

// expectPlans checks the first plan and the last one, that no plan is smaller than the last,
// and that as many bytes were read as the last one says.
func (p *planRecorder) expectPlans(t *testing.T, first, last [2]int64) {
	t.Helper()
	if got := p.plans[0]; got != first {
		t.Errorf("first plan: got %v, want %v", got, first)
	}
	if got := p.plans[len(p.plans)-1]; got != last || p.bytes.Load() != last[1] {
		t.Errorf("last plan: got %v and %d bytes read, want %v", got, p.bytes.Load(), last)
	}
	if least := slices.MinFunc(p.plans, func(a, b [2]int64) int { return int(a[1] - b[1]) }); least[1] != last[1] {
		t.Errorf("smallest plan: got %v, want %d bytes", least, last[1])
	}
}

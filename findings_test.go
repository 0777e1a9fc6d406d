package shardtossd

import (
	"testing"
	"time"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// What is skipped was found as published, lately, and not damaged since.
func TestRecent(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) *finding { return &finding{when: now.Add(-ago)} }
	for name, test := range map[string]struct {
		found  findings
		maxAge time.Duration
		recent bool
	}{
		"never":               {findings{}, time.Hour, false},
		"lately":              {findings{passed: at(time.Minute)}, time.Hour, true},
		"too long ago":        {findings{passed: at(2 * time.Hour)}, time.Hour, false},
		"still to come":       {findings{passed: at(-time.Hour)}, 3 * time.Hour, false},
		"no age":              {findings{passed: at(0)}, 0, false},
		"damaged since":       {findings{at(2 * time.Minute), at(time.Minute)}, time.Hour, false},
		"damaged at once":     {findings{at(time.Minute), at(time.Minute)}, time.Hour, false},
		"damaged before":      {findings{at(time.Minute), at(2 * time.Minute)}, time.Hour, true},
		"damaged, not passed": {findings{damaged: at(2 * time.Minute)}, time.Hour, false},
	} {
		op := &operation{Options: Options{MaxAge: test.maxAge}}
		if got := op.recent(test.found.since()); got != test.recent {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// Records are of one very copy, neither takes the other's place, and damage counts for
// more than the pass before it, also with a clock that was set back.
func TestFindingsAreKept(t *testing.T) {
	ssd, err := sys.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer ssd.Close() //nolint:errcheck // opened for reading
	state, err := makeState(ssd, "shard")
	if err != nil {
		t.Fatal(err)
	}
	defer state.close() //nolint:errcheck // opened for reading
	now := time.Now()
	this := &verify.Manifest{Header: verify.Header{Root: verify.Root{Ino: 7, Btime: sys.Time{Sec: 1, Nsec: 2}}, Time: now.Add(-time.Hour)}}
	sameInode, later := *this, *this
	sameInode.Root.Btime.Nsec++
	later.Time = now
	look := func(m *verify.Manifest) (passed, damaged bool, since time.Time) {
		t.Helper()
		f, err := state.findings(m)
		if err != nil {
			t.Fatal(err)
		}
		return f.passed != nil, f.damaged != nil, f.since()
	}
	for _, step := range []struct {
		f               finding
		passed, damaged bool
		whole           bool
	}{
		{finding{when: now, mode: verify.FromDevice}, true, false, true},
		{finding{when: now.Add(-time.Minute), differences: 3}, true, true, false},
		{finding{when: now.Add(time.Minute), mode: verify.FromCache}, true, true, true},
	} {
		if err := state.record(this, step.f); err != nil {
			t.Fatal(err)
		}
		if passed, damaged, since := look(this); passed != step.passed || damaged != step.damaged || since.IsZero() == step.whole {
			t.Errorf("after %+v: %v, %v, %v", step.f, passed, damaged, since)
		}
	}
	for _, other := range []*verify.Manifest{&sameInode, &later} {
		if passed, damaged, _ := look(other); passed || damaged {
			t.Errorf("of another copy: %v, %v", passed, damaged)
		}
	}
	if names, err := state.Names(make([]byte, 4096)); err != nil || len(names) != 2 {
		t.Errorf("in the state dir are %q, %v", names, err)
	}
}

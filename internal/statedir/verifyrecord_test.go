package statedir

import (
	"slices"
	"testing"
	"time"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// A verification is skipped after a recent pass, and only if no damage was found
// since.
func TestRecentPass(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) *VerifyRecord { return &VerifyRecord{Time: now.Add(-ago)} }
	for name, test := range map[string]struct {
		records VerifyRecords
		maxAge  time.Duration
		want    bool
	}{
		"never":               {VerifyRecords{}, time.Hour, false},
		"a minute ago":        {VerifyRecords{Passed: at(time.Minute)}, time.Hour, true},
		"too long ago":        {VerifyRecords{Passed: at(2 * time.Hour)}, time.Hour, false},
		"in the future":       {VerifyRecords{Passed: at(-time.Hour)}, 3 * time.Hour, false},
		"no age":              {VerifyRecords{Passed: at(0)}, 0, false},
		"damaged since":       {VerifyRecords{at(2 * time.Minute), at(time.Minute)}, time.Hour, false},
		"damaged at once":     {VerifyRecords{at(time.Minute), at(time.Minute)}, time.Hour, false},
		"damaged before":      {VerifyRecords{at(time.Minute), at(2 * time.Minute)}, time.Hour, true},
		"damaged, not passed": {VerifyRecords{Damaged: at(2 * time.Minute)}, time.Hour, false},
	} {
		if got := IsRecent(test.records.LastGood(), test.maxAge); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// A record belongs to one copy, the two records do not replace each other, and damage
// counts for more than the pass before it, even if the clock was set back.
func TestVerifyRecordsAreKept(t *testing.T) {
	state := openTest(t)
	now := time.Now()
	this := &verify.Manifest{Header: verify.Header{Root: verify.RootIdentity{Ino: 7, Btime: sys.Time{Sec: 1, Nsec: 2}}, Time: now.Add(-time.Hour)}}
	sameInode, later := *this, *this
	sameInode.Root.Btime.Nsec++
	later.Time = now
	read := func(m *verify.Manifest) (passed, damaged bool, lastGood time.Time) {
		t.Helper()
		r, err := state.VerifyRecords(m)
		if err != nil {
			t.Fatal(err)
		}
		return r.Passed != nil, r.Damaged != nil, r.LastGood()
	}
	for _, step := range []struct {
		record          VerifyRecord
		passed, damaged bool
		good            bool
	}{
		{VerifyRecord{Time: now, Mode: verify.FromDevice}, true, false, true},
		{VerifyRecord{Time: now.Add(-time.Minute), Differences: 3}, true, true, false},
		{VerifyRecord{Time: now.Add(time.Minute), Mode: verify.FromCache}, true, true, true},
	} {
		if err := state.RecordVerify(this, step.record); err != nil {
			t.Fatal(err)
		}
		if passed, damaged, good := read(this); passed != step.passed || damaged != step.damaged || good.IsZero() == step.good {
			t.Errorf("after %+v: passed %v, damaged %v, last good %v", step.record, passed, damaged, good)
		}
	}
	for _, other := range []*verify.Manifest{&sameInode, &later} {
		if passed, damaged, _ := read(other); passed || damaged {
			t.Errorf("another copy: passed %v, damaged %v, want neither", passed, damaged)
		}
	}
	if got := names(t, state); !slices.Equal(got, []string{damagedName, verifiedName}) {
		t.Errorf("the state dir contains %q, want the two records", got)
	}
}

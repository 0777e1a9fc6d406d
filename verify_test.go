package shardtossd

import (
	"strings"
	"testing"

	"shard_to_ssd/verify"
)

// All differences are counted, and no more of them kept than there is memory for.
func TestDifferencesAreBounded(t *testing.T) {
	const all = 50_000
	for path, kept := range map[string]int{"a": maxDifferences, strings.Repeat("d/", 128<<10): 64} {
		op := &operation{}
		for range all {
			op.differs(verify.Difference{Path: path, Kind: verify.Missing})
		}
		if got := len(op.result.Differences); got != kept || op.result.DifferenceCount != all {
			t.Errorf("paths of %d bytes: kept %d of %d, wanted %d of %d", len(path), got, op.result.DifferenceCount, kept, all)
		}
	}
}

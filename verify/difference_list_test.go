package verify

import (
	"strings"
	"testing"
)

// All differences are counted, and no more of them are kept than there is memory for.
func TestDifferencesAreBounded(t *testing.T) {
	const all = 50_000
	for path, want := range map[string]int{"a": MaxKept, strings.Repeat("d/", 128<<10): 64} {
		var l DifferenceList
		for range all {
			l.Add(Difference{Path: path, Kind: Missing})
		}
		if len(l.Kept) != want || l.Count != all {
			t.Errorf("paths of %d bytes: kept %d of %d, want %d of %d", len(path), len(l.Kept), l.Count, want, all)
		}
	}
}

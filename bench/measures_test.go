package bench

import "testing"

// A percentile of too few measurements would be their maximum.
func TestPercentilesOfFew(t *testing.T) {
	for count, want := range map[int64]int{0: 0, 1: 2, 9: 2, 10: 3, 99: 3, 100: 4, 999: 4, 1000: 5} {
		l := Latency{Count: count, P50: 1, P90: 2, P99: 3, P999: 4, Max: 5}
		if got := l.percentileValues(""); len(got) != want {
			t.Errorf("%d measurements: got %v, want %d values", count, got, want)
		}
	}
}

package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram can tell apart: three digits, of times from 100 ns to an hour. A
// longer time counts as an hour.
const (
	shortest = 100 * time.Nanosecond
	longest  = time.Hour
	digits   = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortest), int64(longest), digits)
}

func record(h *hdrhistogram.Histogram, took time.Duration) {
	h.RecordValue(int64(min(max(took, shortest), longest))) //nolint:errcheck // within its bounds
}

// latencyOf are the percentiles of a histogram.
func latencyOf(h *hdrhistogram.Histogram) Latency {
	at := func(percent float64) float64 { return time.Duration(h.ValueAtQuantile(percent)).Seconds() }
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{Count: h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Max: time.Duration(h.Max()).Seconds()}
}

// times is a histogram for many goroutines.
type times struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func (t *times) add(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	record(t.h, took)
}

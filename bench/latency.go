package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The resolution of a histogram: three digits, from 100 ns to one hour. A longer time
// counts as one hour.
const (
	shortest = 100 * time.Nanosecond
	longest  = time.Hour
	digits   = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortest), int64(longest), digits)
}

func record(h *hdrhistogram.Histogram, took time.Duration) {
	_ = h.RecordValue(int64(min(max(took, shortest), longest))) // cannot fail within the bounds
}

// latencyOf returns the percentiles of a histogram, in seconds.
func latencyOf(h *hdrhistogram.Histogram) Latency {
	at := func(percent float64) float64 { return time.Duration(h.ValueAtQuantile(percent)).Seconds() }
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{Count: h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Max: time.Duration(h.Max()).Seconds()}
}

// sharedHistogram is a histogram for many goroutines.
type sharedHistogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func (t *sharedHistogram) recordTime(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	record(t.h, took)
}

package bench

import (
	"sync/atomic"
	"time"
)

// tracker tells a Progress how far a run is. What is left is as fast as what was.
type tracker struct {
	to         Progress
	started    time.Time
	step       int
	steps      int
	planned    int64        // bytes that all steps move
	begun      int64        // bytes that the steps begun so far move
	total      atomic.Int64 // bytes moved
	nextToTell atomic.Int64 // nanoseconds after started
}

// tellEvery is how often what is left is told.
const tellEvery = int64(time.Second / 2)

// begin says what is done now, how many bytes that moves, and what will be after it.
func (t *tracker) begin(bytes int64, what, next string) {
	t.total.Store(t.begun) // what a step moves is known only about
	t.step++
	t.begun += bytes
	if t.to != nil {
		t.to.Begin(t.step, max(t.steps, t.step), what, next)
		t.rest()
	}
}

// skip leaves a step out.
func (t *tracker) skip(bytes int64) {
	t.step++
	t.begun += bytes
}

// moved is told of bytes as they are moved, by many goroutines.
func (t *tracker) moved(bytes int64) {
	t.total.Add(bytes)
	if t.to == nil {
		return
	}
	t.to.Moved(bytes)
	due := t.nextToTell.Load()
	if now := int64(time.Since(t.started)); now >= due && t.nextToTell.CompareAndSwap(due, now+tellEvery) {
		t.rest()
	}
}

func (t *tracker) rest() {
	done, took := t.total.Load(), time.Since(t.started)
	if done <= 0 || done > t.planned {
		return
	}
	t.to.Rest(time.Duration(float64(took) / float64(done) * float64(t.planned-done)))
}

package bench

import (
	"sync/atomic"
	"time"
)

// tracker reports the progress of a run. It estimates the time left from the bytes that
// are left, at the mean rate so far.
type tracker struct {
	to         Progress
	started    time.Time
	step       int
	steps      int
	planned    int64        // bytes of all steps
	begun      int64        // bytes of all steps that have begun
	total      atomic.Int64 // bytes moved
	nextReport atomic.Int64 // nanoseconds after started
}

// reportEvery is the interval of the reports of the time left.
const reportEvery = int64(time.Second / 2)

// begin reports the next step, the bytes that it will move, and the name of the step
// after it.
func (t *tracker) begin(bytes int64, what, next string) {
	t.total.Store(t.begun) // the bytes of the step before are only an estimate
	t.step++
	t.begun += bytes
	if t.to == nil {
		return
	}
	t.to.BeginStep(t.step, max(t.steps, t.step), what, next)
	t.reportTimeLeft()
}

// skipStep leaves a step out.
func (t *tracker) skipStep(bytes int64) {
	t.step++
	t.begun += bytes
}

// moved counts bytes that were moved. Many goroutines may call it.
func (t *tracker) moved(bytes int64) {
	t.total.Add(bytes)
	if t.to == nil {
		return
	}
	t.to.BytesMoved(bytes)
	due := t.nextReport.Load()
	if now := int64(time.Since(t.started)); now >= due && t.nextReport.CompareAndSwap(due, now+reportEvery) {
		t.reportTimeLeft()
	}
}

func (t *tracker) reportTimeLeft() {
	done, took := t.total.Load(), time.Since(t.started)
	if done <= 0 || done > t.planned {
		return
	}
	t.to.TimeLeft(time.Duration(float64(took) / float64(done) * float64(t.planned-done)))
}

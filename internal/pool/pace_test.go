package pool

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/internal/sys"
)

// What all workers move together takes as long as the rate says, in virtual time, in
// pieces, and two at a time.
func TestPace(t *testing.T) {
	for _, each := range []time.Duration{0, 10 * time.Millisecond} { // that moving takes
		synctest.Test(t, func(t *testing.T) {
			const perSecond, pieces, workers = 1 << 20, 16, 4
			pace, size := NewPace(t.Context(), perSecond), int64(PieceOf(perSecond))
			began := time.Now()
			var moving atomic.Int64
			var g errgroup.Group
			for range workers {
				g.Go(func() error {
					for range pieces {
						n, err := pace.Begin(4 << 20)
						if err != nil {
							return err
						}
						if at := moving.Add(1); int64(n) != size || at > PiecesAtOnce {
							t.Errorf("%d bytes, %d times at once", n, at)
						}
						time.Sleep(each)
						moving.Add(-1)
						pace.End()
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			moved := workers * pieces * size
			want := time.Second * time.Duration(moved-size) / perSecond // the first piece is free
			if took := time.Since(began); took < want || took > want+each+time.Millisecond {
				t.Errorf("%d bytes took %v, wanted %v", moved, took, want)
			}
		})
	}
}

func TestPieceOf(t *testing.T) {
	for perSecond, want := range map[int64]int{
		1: leastPiece, 100e6: leastPiece, 400e6: 64 << 10, 800e6: 128 << 10, 1.3e9: 128 << 10, 2e9: largestPiece, 1 << 62: largestPiece,
	} {
		if got := PieceOf(perSecond); got != want || got%(2*sys.Align) != 0 {
			t.Errorf("%d bytes a second: %d at once, wanted %d", perSecond, got, want)
		}
	}
}

// A context with a deadline does not end the waiting before it is over: what fails
// meanwhile would be taken for a fault of the device.
func TestPaceWaitsForItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		pace, began := NewPace(ctx, 1), time.Now()
		for err := error(nil); err == nil; { // the second piece takes hours
			if _, err = pace.Begin(leastPiece); err == nil {
				pace.End()
			} else if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		}
	})
}

// The end of its context ends the waiting for bytes, and for a call that hangs.
func TestPaceEndsWithItsContext(t *testing.T) {
	for _, perSecond := range []int64{1, 1 << 40} { // a piece takes hours, or no time
		synctest.Test(t, func(t *testing.T) {
			cause := errors.New("told to stop")
			ctx, cancel := context.WithCancelCause(t.Context())
			pace := NewPace(ctx, perSecond)
			time.AfterFunc(time.Second, func() { cancel(cause) })
			began := time.Now()
			for n := range PiecesAtOnce + 1 {
				if _, err := pace.Begin(leastPiece); err != nil && !errors.Is(err, cause) || err == nil && n == PiecesAtOnce {
					t.Errorf("got %v", err)
				}
			}
			if time.Since(began) != time.Second {
				t.Errorf("it waited for %v, and its context had ended after a second", time.Since(began))
			}
		})
	}
}

func TestNoPace(t *testing.T) {
	if NewPace(t.Context(), 0) != nil {
		t.Error("a pace for no limit")
	}
}

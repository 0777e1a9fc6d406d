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

// All workers together move their bytes at the rate, in pieces, two at a time. The time
// is virtual.
func TestRateLimit(t *testing.T) {
	for _, each := range []time.Duration{0, 10 * time.Millisecond} { // the time to move a piece
		synctest.Test(t, func(t *testing.T) {
			const perSecond, pieces, workers = 1 << 20, 16, 4
			limit, size := NewRateLimiter(t.Context(), perSecond), int64(PieceSize(perSecond))
			began := time.Now()
			var moving atomic.Int64
			var g errgroup.Group
			for range workers {
				g.Go(func() error {
					for range pieces {
						n, err := limit.Begin(4 << 20)
						if err != nil {
							return err
						}
						if at := moving.Add(1); int64(n) != size || at > PiecesAtOnce {
							t.Errorf("got %d bytes, %d pieces at a time, want %d bytes, at most %d pieces", n, at, size, PiecesAtOnce)
						}
						time.Sleep(each)
						moving.Add(-1)
						limit.End()
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			moved := workers * pieces * size
			want := time.Second * time.Duration(moved-size) / perSecond // the first piece need not wait
			if took := time.Since(began); took < want || took > want+each+time.Millisecond {
				t.Errorf("%d bytes took %v, want %v", moved, took, want)
			}
		})
	}
}

func TestPieceOf(t *testing.T) {
	for perSecond, want := range map[int64]int{
		1: smallestPiece, 100e6: smallestPiece, 400e6: 64 << 10, 800e6: 128 << 10, 1.3e9: 128 << 10, 2e9: largestPiece, 1 << 62: largestPiece,
	} {
		if got := PieceSize(perSecond); got != want || got%(2*sys.Align) != 0 {
			t.Errorf("%d bytes a second: got a piece of %d bytes, want %d", perSecond, got, want)
		}
	}
}

// Waiting does not fail before the deadline of its context. The caller would take such
// an early error for a fault of the device.
func TestWaitingLastsUntilTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		limit, began := NewRateLimiter(ctx, 1), time.Now()
		if _, err := limit.Begin(smallestPiece); err != nil {
			t.Fatal(err)
		}
		limit.End()
		_, err := limit.Begin(smallestPiece) // takes hours
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: got %v, want %v after a second", time.Since(began), err, context.DeadlineExceeded)
		}
	})
}

// When the context ends, waiting ends: for bytes, and for a call that hangs.
func TestWaitingEndsWithItsContext(t *testing.T) {
	for _, perSecond := range []int64{1, 1 << 40} { // a piece waits for hours, or not at all
		synctest.Test(t, func(t *testing.T) {
			cause := errors.New("stop")
			ctx, cancel := context.WithCancelCause(t.Context())
			limit := NewRateLimiter(ctx, perSecond)
			time.AfterFunc(time.Second, func() { cancel(cause) })
			began := time.Now()
			for n := range PiecesAtOnce + 1 {
				if _, err := limit.Begin(smallestPiece); err != nil && !errors.Is(err, cause) || err == nil && n == PiecesAtOnce {
					t.Errorf("Begin %d: got %v, want %v", n, err, cause)
				}
			}
			if time.Since(began) != time.Second {
				t.Errorf("waited for %v, want one second", time.Since(began))
			}
		})
	}
}

func TestNoRateLimit(t *testing.T) {
	if NewRateLimiter(t.Context(), 0) != nil {
		t.Error("got a rate limiter for 0 bytes a second, want nil")
	}
}

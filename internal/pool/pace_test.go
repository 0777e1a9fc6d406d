package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"shard_to_ssd/internal/sys"
)

// What all workers move together takes as long as the rate says, in virtual time.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, pieces, workers = 1 << 20, 16, 4
		pace := Pace(t.Context(), perSecond)
		began := time.Now()
		var g errgroup.Group
		for range workers {
			g.Go(func() error {
				for range pieces {
					if err := pace(sys.PaceSize); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		const moved = workers * pieces * sys.PaceSize
		want := time.Second * (moved - sys.PaceSize) / perSecond // the first piece is free
		if took := time.Since(began); took < want || took > want+time.Millisecond {
			t.Errorf("%d bytes took %v, wanted %v", moved, took, want)
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("told to stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		pace := Pace(ctx, 1) // a piece takes days
		time.AfterFunc(time.Second, func() { cancel(cause) })
		began := time.Now()
		for range 2 {
			if err := pace(sys.PaceSize); err != nil && !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
		}
		if time.Since(began) != time.Second {
			t.Errorf("it waited for %v after its context had ended", time.Since(began))
		}
	})
}

func TestNoPace(t *testing.T) {
	if Pace(t.Context(), 0) != nil {
		t.Error("a pace for no limit")
	}
}

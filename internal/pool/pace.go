package pool

import (
	"context"

	"golang.org/x/time/rate"

	"shard_to_ssd/internal/sys"
)

// Pace bounds the bytes a second that all files which have it move together; it is
// what sys.File takes. It is nil, no bound, for 0 bytes a second. The end of ctx ends
// the waiting.
func Pace(ctx context.Context, bytesPerSecond int64) func(bytes int) error {
	if bytesPerSecond <= 0 {
		return nil
	}
	bucket := rate.NewLimiter(rate.Limit(bytesPerSecond), sys.PaceSize)
	return func(bytes int) error {
		err := bucket.WaitN(ctx, bytes)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
}

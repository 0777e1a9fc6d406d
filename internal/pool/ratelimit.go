package pool

import (
	"context"
	"math/bits"
	"time"

	"golang.org/x/time/rate"

	"shard_to_ssd/internal/sys"
)

// A rateLimiter limits how many bytes a second all its files move together. They move
// the bytes in pieces, two at a time, so that another reader of the device waits at most
// for two pieces.
type rateLimiter struct {
	ctx     context.Context
	bucket  *rate.Limiter
	started chan struct{} // an element for each piece under way
	piece   int           // bytes
}

// The rate moves a piece in 0.1 to 0.2 ms, except that a piece stays within these bounds.
// A reader beside a copy waits for the bytes under way. With more than two pieces of
// 256 KiB it waited half as long again. With two pieces of 128 KiB, at half of the rate
// of the device, it waited less, but only three quarters of the limit were reached
// (docs/how-it-is-fast.md).
const (
	// PiecesAtOnce is the most pieces under way at a time.
	PiecesAtOnce    = 2
	piecesPerSecond = 5000
	smallestPiece   = 32 << 10
	largestPiece    = 256 << 10
)

// NewRateLimiter returns a limit of a number of bytes a second, or nil for 0, which is no
// limit. When ctx ends, waiting ends with its cause.
func NewRateLimiter(ctx context.Context, bytesPerSecond int64) sys.RateLimiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	piece := PieceSize(bytesPerSecond)
	return &rateLimiter{ctx, rate.NewLimiter(rate.Limit(bytesPerSecond), piece), make(chan struct{}, PiecesAtOnce), piece}
}

// PieceSize returns the size of a piece at a rate, in bytes: a power of two.
func PieceSize(bytesPerSecond int64) int {
	power := 1 << max(bits.Len64(uint64(bytesPerSecond/piecesPerSecond))-1, 0)
	return min(max(power, smallestPiece), largestPiece)
}

// Begin implements sys.RateLimiter.
func (p *rateLimiter) Begin(bytes int) (int, error) {
	bytes = min(bytes, p.piece)
	// WaitN would fail at once if it knew that the context ends before the turn.
	turn := p.bucket.ReserveN(time.Now(), bytes)
	wait := time.NewTimer(turn.Delay())
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-p.ctx.Done():
	}
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	select {
	case p.started <- struct{}{}:
		return bytes, nil
	case <-p.ctx.Done():
		return 0, context.Cause(p.ctx)
	}
}

// End implements sys.RateLimiter.
func (p *rateLimiter) End() { <-p.started }

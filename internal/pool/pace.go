package pool

import (
	"context"
	"math/bits"
	"time"

	"golang.org/x/time/rate"

	"shard_to_ssd/internal/sys"
)

// A Pace bounds the bytes a second that all files which have it move together. They
// move them in pieces, two at a time: whoever else reads from the device waits for
// those at the most.
type Pace struct {
	ctx    context.Context
	bucket *rate.Limiter
	flight chan struct{}
	piece  int
}

// A piece is what the rate moves in 0.2 ms, or half of that, within these bounds. A
// reader beside a copy waits for the bytes under way: with more than two of 256 KiB he
// waited half as long again, and with two of 128 KiB at half of what the device can do
// less long, and three quarters of that rate were reached (docs/how-it-is-fast.md).
const (
	// PiecesAtOnce is how many are under way.
	PiecesAtOnce    = 2
	piecesPerSecond = 5000
	leastPiece      = 32 << 10
	largestPiece    = 256 << 10
)

// NewPace is nil, no bound, for 0 bytes a second. The end of ctx ends the waiting.
func NewPace(ctx context.Context, bytesPerSecond int64) sys.Pace {
	if bytesPerSecond <= 0 {
		return nil
	}
	piece := PieceOf(bytesPerSecond)
	return &Pace{ctx, rate.NewLimiter(rate.Limit(bytesPerSecond), piece), make(chan struct{}, PiecesAtOnce), piece}
}

// PieceOf is how many bytes are moved at once at a rate: a power of two.
func PieceOf(bytesPerSecond int64) int {
	power := 1 << max(bits.Len64(uint64(bytesPerSecond/piecesPerSecond))-1, 0)
	return min(max(power, leastPiece), largestPiece)
}

// Begin is that of a sys.Pace.
func (p *Pace) Begin(bytes int) (int, error) {
	bytes = min(bytes, p.piece)
	// Not WaitN, which fails as soon as it knows that the context will end before.
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
	case p.flight <- struct{}{}:
		return bytes, nil
	case <-p.ctx.Done():
		return 0, context.Cause(p.ctx)
	}
}

// End is that of a sys.Pace.
func (p *Pace) End() { <-p.flight }

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shard_to_ssd/bench/data"
	"shard_to_ssd/internal/sys"
)

// How a sustained write is done: as the copier writes.
const (
	sustainedBlock = 4 << 20
	sustainedDepth = 16
	sustainedFile  = "sustained"
	tick           = 500 * time.Millisecond
	sustainedStep  = "write on and on"
)

// measureSustained writes size bytes, has the device rest, writes again, and after
// another rest once more with a reader beside it, who before that reads alone for a
// while.
func (r *runner) measureSustained(ctx context.Context, size int64, pause, alone time.Duration) (*Sustained, error) {
	s := &Sustained{Block: r.sustainedBlock, Depth: sustainedDepth, Points: []Point{}, AfterIt: []Point{}, Beside: []Point{}, Cliffs: []Cliff{}, Pause: pause.Seconds()}
	r.begin(size, sustainedStep, fmt.Sprintf("rest for %v", pause))
	var err error
	if s.Points, err = r.writeOn(ctx, size); err != nil {
		return s, err
	}
	s.WorstSecond = worstSecond(s.Points)
	if cliffs := FindCliffs(s.Points); len(cliffs) > 0 {
		s.Cliffs, s.Cliff = cliffs, &cliffs[0]
	}
	again := s.again(size)
	r.begin(again, fmt.Sprintf("rest for %v, then write %s again", pause, Bytes(again)), "once more with a reader beside it")
	if err := rest(ctx, pause); err != nil {
		return s, err
	}
	if s.AfterIt, err = r.writeOn(ctx, again); err != nil {
		return s, err
	}
	if s.Cliff != nil {
		n := float64(recovered(s.AfterIt, *s.Cliff))
		s.Recovery = &n
	}
	r.begin(again, fmt.Sprintf("rest for %v, then write %s with a reader beside it", pause, Bytes(again)), "")
	err = r.writeBeside(ctx, s, again, pause, alone)
	return s, err
}

func rest(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readersSize is the file that a reader beside a sustained write reads, in bytes.
const (
	readersSize = 256 << 20
	readersFile = "readers"
)

// writeBeside makes a file to read, rests, and writes size bytes while it is read.
func (r *runner) writeBeside(ctx context.Context, s *Sustained, size int64, pause, alone time.Duration) (err error) {
	file, err := r.makeFile(ctx, readersFile, min(readersSize, size))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), r.work.delete(ctx, readersFile)) }()
	if err := rest(ctx, pause); err != nil {
		return err
	}
	reader := r.newReader(file, min(readersSize, size))
	readers := &Readers{}
	if readers.Alone, err = reader.readFor(ctx, alone); err != nil {
		return err
	}
	readers.Beside, err = reader.readBeside(ctx, func() (err error) {
		s.Beside, err = r.writeOn(ctx, size)
		return err
	})
	if n := len(s.Beside); n > 0 {
		last := s.Beside[n-1]
		readers.Rate = float64(last.Offset) / last.Second
	}
	s.Readers = readers
	return err
}

// makeFile makes a file of so many bytes and opens it for direct reads.
func (r *runner) makeFile(ctx context.Context, name string, size int64) (*sys.File, error) {
	file, err := data.Create(r.work.File, name, size)
	if err != nil {
		return nil, err
	}
	r.stamps++
	s, err := newStream(file, Write, size, min(r.sustainedBlock, size), sustainedDepth, r.Seed+r.stamps, r.wrote)
	if err == nil {
		err = errors.Join(s.run(ctx), s.close())
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// again is how much is written after the pause: somewhat more than to the cliff, to see
// whether it is where it was, or without one a tenth.
func (s *Sustained) again(size int64) int64 {
	again := size / 10
	if s.Cliff != nil {
		again = min(s.Cliff.Offset+s.Cliff.Offset/4+int64(s.Cliff.After*4), size)
	}
	return max(again-again%s.Block, s.Block)
}

// writeOn writes a new file of so many bytes, deletes it, and returns the rate of each
// half second. It ends early when others have used up the reserve.
func (r *runner) writeOn(ctx context.Context, size int64) (points []Point, err error) {
	if err := r.work.checkReserve(size); err != nil {
		return nil, err
	}
	file, err := data.Create(r.work.File, sustainedFile, size)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, file.Close(), r.work.delete(ctx, sustainedFile))
	}()
	r.stamps++
	s, err := newStream(file, Write, size, r.sustainedBlock, sustainedDepth, r.Seed+r.stamps, r.wrote)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan error, 1)
	watch := newWatch(s)
	go func() { done <- s.run(ctx) }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			watch.point(now)
			if short := r.work.checkReserve(0); short != nil {
				stop(short)
			}
		case err := <-done:
			watch.end(time.Now())
			return watch.points, r.endedEarly(err)
		}
	}
}

// endedEarly takes an end for want of space for a warning: what was measured is right.
func (r *runner) endedEarly(err error) error {
	var short *SpaceError
	if errors.As(err, &short) || sys.NoSpace(err) {
		r.warn("the sustained write ended early: " + err.Error())
		return nil
	}
	return err
}

// watch makes points of how far a stream is.
type watch struct {
	stream *stream
	start  time.Time
	points []Point
	last   Point
}

func newWatch(s *stream) *watch { return &watch{stream: s, start: time.Now(), points: []Point{}} }

func (w *watch) point(now time.Time) {
	p := Point{Second: now.Sub(w.start).Seconds(), Offset: w.stream.done.Load()}
	if p.Second <= w.last.Second {
		return
	}
	p.Rate = float64(p.Offset-w.last.Offset) / (p.Second - w.last.Second)
	w.points = append(w.points, p)
	w.last = p
}

// end adds what came since the last tick, if that is long enough to have a rate.
func (w *watch) end(now time.Time) {
	if now.Sub(w.start).Seconds()-w.last.Second > tick.Seconds()/2 || len(w.points) == 0 {
		w.point(now)
	}
}

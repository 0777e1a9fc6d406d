package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shard_to_ssd/bench/data"
	"shard_to_ssd/internal/errs"
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

// measureSustained has the device rest, so that no cache of it is full of what was before,
// writes size bytes, has it rest, writes again, and after another rest once more with a
// reader beside it, who before that reads alone for a while.
func (r *runner) measureSustained(ctx context.Context, size int64, pause, alone time.Duration) (*Sustained, error) {
	s := &Sustained{Block: r.sustainedBlock, Depth: sustainedDepth, Points: []Point{}, AfterIt: []Point{}, Beside: []Point{}, Cliffs: []Cliff{}, Pause: pause.Seconds()}
	r.begin(size, fmt.Sprintf("rest for %v, then %s", pause, sustainedStep), fmt.Sprintf("rest for %v", pause))
	err := rest(ctx, pause)
	var first *longWrite
	if err == nil {
		first, err = r.openLongWrite(ctx, size)
	}
	if err == nil {
		s.Began = time.Since(r.result.Started).Seconds()
		s.Points, err = first.run(ctx)
	}
	s.judge(size)
	if err != nil || !s.Complete {
		return s, errs.Join(err, first.close(ctx))
	}
	r.doubt(s)
	again := s.again(size)
	r.planned += 2 * (again - withoutCliff(size))
	r.begin(again, fmt.Sprintf("rest for %v, then write %s again", pause, Bytes(again)), "once more with a reader beside it")
	err = rest(ctx, pause)
	// Until now it was there, as a shard stays: no drive has it easier by being told that
	// all of it is free.
	if err = errs.Join(err, first.close(ctx)); err != nil {
		return s, err
	}
	s.AfterIt, err = r.writeOn(ctx, again)
	s.AfterItRate = MeanRate(s.AfterIt)
	if err != nil {
		return s, err
	}
	s.judgeRecovery(again)
	r.begin(again, fmt.Sprintf("rest for %v, then write %s with a reader beside it", pause, Bytes(again)), "")
	err = r.writeBeside(ctx, s, again, pause, alone)
	return s, err
}

// doubt warns of a write that does not say whether there is a cliff.
func (r *runner) doubt(s *Sustained) {
	if !s.Telling() {
		r.warn(fmt.Sprintf("the long write took %.1f s, too short for a cliff to be found: a larger share makes it longer", s.Points[len(s.Points)-1].Second))
		return
	}
	begun, short := rateOf(s.Points[:shortestLevel]), best(r.result.Ceilings, Write)
	if begun < cliffFall*short {
		r.warn(fmt.Sprintf("the long write began at %.0f MB/s, and short ones had %.0f: a cache of the drive may have been full, of which no cliff is seen then; a longer pause lets it rest", begun/1e6, short/1e6))
	}
}

// judge says what there is to say of the first write, as far as it came.
func (s *Sustained) judge(size int64) {
	s.Complete = offset(s.Points) == size
	s.Rate, s.WorstSecond = MeanRate(s.Points), worstSecond(s.Points)
	if cliffs := FindCliffs(s.Points); len(cliffs) > 0 {
		s.Cliffs, s.Cliff = cliffs, &cliffs[0]
	}
}

// judgeRecovery says what there is to say of the write after the pause, of so many bytes,
// if it came to its end.
func (s *Sustained) judgeRecovery(again int64) {
	if s.Cliff == nil || offset(s.AfterIt) < again {
		return
	}
	n := recovered(s.AfterIt, *s.Cliff)
	s.Recovery, s.Recovered = new(float64(n)), n == again
	switch {
	case s.Recovered:
		s.RecoverySeconds = new(s.Pause)
	case n > 0:
		s.RecoverySeconds = new(s.Pause * float64(s.Cliff.Offset) / float64(n))
	}
}

// withoutCliff is how much is written again if there was no cliff.
func withoutCliff(size int64) int64 { return size / 10 }

// offset is how much was written.
func offset(points []Point) int64 { return before(points, len(points)) }

// MeanRate is that of all points together.
func MeanRate(points []Point) float64 {
	if len(points) == 0 {
		return 0
	}
	last := points[len(points)-1]
	return float64(last.Offset) / last.Second
}

func rest(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const readersFile = "readers"

// readersSize is the file that a reader beside a sustained write of so many bytes reads.
func readersSize(write int64) int64 { return min(256<<20, write) }

// writeBeside makes a file to read, rests, and writes size bytes while it is read.
func (r *runner) writeBeside(ctx context.Context, s *Sustained, size int64, pause, alone time.Duration) (err error) {
	file, err := r.makeFile(ctx, readersFile, readersSize(size))
	if err != nil {
		return err
	}
	defer func() { err = errs.Join(err, file.Close(), r.work.delete(ctx, readersFile)) }()
	if err := rest(ctx, pause); err != nil {
		return err
	}
	write, err := r.openLongWrite(ctx, size)
	if err != nil {
		return err
	}
	defer func() { err = errs.Join(err, write.close(ctx)) }()
	reader := r.newReader(file, readersSize(size))
	readers := &Readers{}
	if readers.Alone, err = reader.readFor(ctx, alone); err != nil {
		return err
	}
	readers.Beside, err = reader.readBeside(ctx, func() (err error) {
		s.Beside, err = write.run(ctx)
		return err
	})
	readers.Rate = MeanRate(s.Beside)
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
		err = errs.Join(s.run(ctx), s.close())
	}
	if err != nil {
		return nil, errs.Join(err, file.Close())
	}
	return file, nil
}

// again is how much is written after the pause: somewhat more than to the cliff, to see
// whether it is where it was, or without one a tenth.
func (s *Sustained) again(size int64) int64 {
	again := withoutCliff(size)
	if s.Cliff != nil {
		again = min(s.Cliff.Offset+s.Cliff.Offset/4+int64(s.Cliff.After*4), size)
	}
	return max(again-again%s.Block, s.Block)
}

// writeOn writes a new file of so many bytes, and deletes it.
func (r *runner) writeOn(ctx context.Context, size int64) ([]Point, error) {
	w, err := r.openLongWrite(ctx, size)
	if err != nil {
		return []Point{}, err
	}
	points, err := w.run(ctx)
	return points, errs.Join(err, w.close(ctx))
}

// longWrite is a new file that is written on and on. Nil is one that there is no space
// for, of which nothing is written.
type longWrite struct {
	r      *runner
	file   *sys.File
	stream *stream
}

// openLongWrite makes a file of so many bytes, unless others have used up the reserve.
// Close it.
func (r *runner) openLongWrite(ctx context.Context, size int64) (*longWrite, error) {
	if err := r.work.checkReserve(size); err != nil {
		return nil, r.endedEarly(err)
	}
	file, err := data.Create(r.work.File, sustainedFile, size)
	if sys.NoSpace(err) {
		return nil, errs.Join(r.endedEarly(err), r.work.delete(ctx, sustainedFile))
	}
	if err != nil {
		return nil, err
	}
	r.stamps++
	s, err := newStream(file, Write, size, r.sustainedBlock, sustainedDepth, r.Seed+r.stamps, r.wrote)
	if err != nil {
		return nil, errs.Join(err, file.Close(), r.work.delete(ctx, sustainedFile))
	}
	return &longWrite{r, file, s}, nil
}

// close deletes the file.
func (w *longWrite) close(ctx context.Context) error {
	if w == nil {
		return nil
	}
	return errs.Join(w.stream.close(), w.file.Close(), w.r.work.delete(ctx, sustainedFile))
}

// run writes all of it, once, and returns the rate of each half second. It ends early
// when others have used up the reserve.
func (w *longWrite) run(ctx context.Context) (points []Point, err error) {
	if w == nil {
		return []Point{}, nil
	}
	defer func() { err = errs.Join(err, w.stream.close()) }()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan error, 1)
	watch := newWatch(w.stream)
	go func() { done <- w.stream.run(ctx) }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			watch.point()
			if short := w.r.work.checkReserve(0); short != nil {
				stop(short)
			}
		case err := <-done:
			watch.end()
			return watch.points, w.r.endedEarly(err)
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

// now is until when bytes have moved: what waits for the last flush is no rate.
func (w *watch) now() time.Time {
	if ended := w.stream.ended.Load(); ended != nil {
		return *ended
	}
	return time.Now()
}

func (w *watch) point() {
	p := Point{Second: w.now().Sub(w.start).Seconds(), Offset: w.stream.done.Load()}
	if p.Second <= w.last.Second {
		return
	}
	p.Rate = float64(p.Offset-w.last.Offset) / (p.Second - w.last.Second)
	w.points = append(w.points, p)
	w.last = p
}

// end adds what came since the last tick. If that is too short to have a rate of its own,
// it is one with the point before.
func (w *watch) end() {
	since := w.now().Sub(w.start).Seconds() - w.last.Second
	if n := len(w.points); n > 0 && since > 0 && since <= tick.Seconds()/2 {
		w.points, w.last = w.points[:n-1], Point{}
		if n > 1 {
			w.last = w.points[n-2]
		}
	}
	w.point()
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shard_to_ssd/bench/internal/data"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// A sustained write uses the requests of the copier.
const (
	sustainedBlock = 4 << 20
	sustainedDepth = 16
	sustainedFile  = "sustained"
	tick           = 500 * time.Millisecond
	sustainedStep  = "make the long write"
)

// measureSustained measures three writes. Before each of them the drive rests, so that
// its cache can empty. The first writes size bytes. The second and the third are shorter,
// see repeatSize. Beside the third a reader reads, which before that reads alone.
func (r *runner) measureSustained(ctx context.Context, size int64, pause, alone time.Duration) (*Sustained, error) {
	s := &Sustained{Block: r.sustainedBlock, Depth: sustainedDepth, Points: []Point{}, AfterPause: []Point{}, BesideReader: []Point{}, Cliffs: []Cliff{}, Pause: pause.Seconds()}
	r.begin(size, fmt.Sprintf("rest for %v, then %s", pause, sustainedStep), fmt.Sprintf("rest for %v", pause))
	first, err := r.firstWrite(ctx, s, size, pause)
	if err != nil || !s.Complete {
		return s, errs.Join(err, first.close(ctx))
	}
	r.warnIfInconclusive(s)
	again := s.repeatSize(size)
	r.planned += 2 * (again - repeatSizeWithoutCliff(size))
	r.begin(again, fmt.Sprintf("rest for %v, then write %s again", pause, FormatBytes(again)), "once more with a reader beside it")
	err = restFor(ctx, pause)
	// The first file stayed until now, as a shard does. A drive that learns that all of
	// its space is free recovers faster.
	if err = errs.Join(err, first.close(ctx)); err != nil {
		return s, err
	}
	s.AfterPause, err = r.writeSustained(ctx, again)
	s.AfterPauseRate = MeanRate(s.AfterPause)
	if err != nil {
		return s, err
	}
	s.summarizeRecovery(again)
	r.begin(again, fmt.Sprintf("rest for %v, then write %s with a reader beside it", pause, FormatBytes(again)), "")
	err = r.writeBeside(ctx, s, again, pause, alone)
	return s, err
}

// firstWrite rests and makes the first write. The caller must close it.
func (r *runner) firstWrite(ctx context.Context, s *Sustained, size int64, pause time.Duration) (*longWrite, error) {
	defer s.summarizeWrite(size)
	if err := restFor(ctx, pause); err != nil {
		return nil, err
	}
	first, err := r.openLongWrite(ctx, size)
	if err != nil {
		return nil, err
	}
	s.Began = time.Since(r.result.Started).Seconds()
	s.Points, err = first.run(ctx)
	return first, err
}

// warnIfInconclusive warns if the first write cannot show a cliff.
func (r *runner) warnIfInconclusive(s *Sustained) {
	if !s.IsConclusive() {
		r.warn(fmt.Sprintf("the long write took %.1f s, too short to find a cliff: a larger share makes it longer", s.Points[len(s.Points)-1].Second))
		return
	}
	rate, short := medianRate(s.Points[:minLevelPoints]), bestRate(r.result.Ceilings, Write)
	if rate < cliffFall*short {
		r.warn(fmt.Sprintf("the long write began at %.0f MB/s, short writes reached %.0f: the cache of the drive may have been full, which hides its cliff; a longer pause lets it empty", rate/1e6, short/1e6))
	}
}

// summarizeWrite computes the results of the first write from its points, even if it
// ended early.
func (s *Sustained) summarizeWrite(size int64) {
	s.Complete = bytesWritten(s.Points) == size
	s.Rate, s.WorstSecond = MeanRate(s.Points), worstSecond(s.Points)
	if cliffs := FindCliffs(s.Points); len(cliffs) > 0 {
		s.Cliffs, s.Cliff = cliffs, &cliffs[0]
	}
}

// summarizeRecovery computes the results of the second write, of size again, if it
// reached its end.
func (s *Sustained) summarizeRecovery(again int64) {
	if s.Cliff == nil || bytesWritten(s.AfterPause) < again {
		return
	}
	n := recoveredBytes(s.AfterPause, *s.Cliff)
	s.Recovery, s.Recovered = new(float64(n)), n == again
	switch {
	case s.Recovered:
		s.RecoverySeconds = new(s.Pause)
	case n > 0:
		s.RecoverySeconds = new(s.Pause * float64(s.Cliff.Offset) / float64(n))
	}
}

// repeatSizeWithoutCliff returns the size of the later writes if the first one found no
// cliff.
func repeatSizeWithoutCliff(size int64) int64 { return size / 10 }

// bytesWritten returns the bytes up to the last point.
func bytesWritten(points []Point) int64 { return offsetBefore(points, len(points)) }

// MeanRate returns the mean rate of all points.
func MeanRate(points []Point) float64 {
	if len(points) == 0 {
		return 0
	}
	last := points[len(points)-1]
	return float64(last.Offset) / last.Second
}

// restFor waits until the drive had its pause.
func restFor(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const readersFile = "readers"

// readersSize returns the size of the file that is read beside a write of write bytes.
func readersSize(write int64) int64 { return min(256<<20, write) }

// writeBeside makes a file to read, rests, and writes size bytes while the file is read.
func (r *runner) writeBeside(ctx context.Context, s *Sustained, size int64, pause, alone time.Duration) (err error) {
	file, err := r.makeFile(ctx, readersFile, readersSize(size))
	if err != nil {
		return err
	}
	defer func() { err = errs.Join(err, file.Close(), r.work.delete(ctx, readersFile)) }()
	if err := restFor(ctx, pause); err != nil {
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
		s.BesideReader, err = write.run(ctx)
		return err
	})
	readers.Rate = MeanRate(s.BesideReader)
	s.Readers = readers
	return err
}

// makeFile writes a file of size bytes and opens it for direct reads.
func (r *runner) makeFile(ctx context.Context, name string, size int64) (*sys.File, error) {
	file, err := data.CreateFile(r.work.File, name, size)
	if err != nil {
		return nil, err
	}
	s, err := newStream(r.sustainedStream(file, size, min(r.sustainedBlock, size)))
	if err != nil {
		return nil, errs.Join(err, file.Close())
	}
	if err := errs.Join(s.run(ctx), s.close()); err != nil {
		return nil, errs.Join(err, file.Close())
	}
	return file, nil
}

// sustainedStream describes a write of the whole file, with data that no other write has.
func (r *runner) sustainedStream(file *sys.File, size, block int64) streamConfig {
	r.stamps++
	r.useProcessors(2 * sustainedDepth)
	return streamConfig{file: file, way: Write, size: size, block: block, depth: sustainedDepth, stamp: r.Seed + r.stamps, moved: r.countWritten}
}

// repeatSize returns the size of the second and the third write: somewhat more than the
// offset of the cliff, to find the cliff again, or a tenth of size without a cliff.
func (s *Sustained) repeatSize(size int64) int64 {
	again := repeatSizeWithoutCliff(size)
	if s.Cliff != nil {
		again = min(s.Cliff.Offset+s.Cliff.Offset/4+int64(s.Cliff.After*4), size)
	}
	return max(again-again%s.Block, s.Block)
}

// writeSustained writes a new file of size bytes and deletes it.
func (r *runner) writeSustained(ctx context.Context, size int64) ([]Point, error) {
	w, err := r.openLongWrite(ctx, size)
	if err != nil {
		return []Point{}, err
	}
	points, err := w.run(ctx)
	return points, errs.Join(err, w.close(ctx))
}

// longWrite is a new file that a stream writes. A nil longWrite stands for a file without
// space for it, and writes nothing.
type longWrite struct {
	r      *runner
	file   *sys.File
	stream *stream
}

// openLongWrite makes a file of size bytes. It returns nil if other programs have used up
// the reserve. The caller must close it.
func (r *runner) openLongWrite(ctx context.Context, size int64) (*longWrite, error) {
	if err := r.work.checkReserve(size); err != nil {
		return nil, r.ignoreNoSpace(err)
	}
	file, err := data.CreateFile(r.work.File, sustainedFile, size)
	if sys.IsNoSpace(err) {
		return nil, errs.Join(r.ignoreNoSpace(err), r.work.delete(ctx, sustainedFile))
	}
	if err != nil {
		return nil, err
	}
	s, err := newStream(r.sustainedStream(file, size, r.sustainedBlock))
	if err != nil {
		return nil, errs.Join(err, file.Close(), r.work.delete(ctx, sustainedFile))
	}
	return &longWrite{r, file, s}, nil
}

// close closes and deletes the file.
func (w *longWrite) close(ctx context.Context) error {
	if w == nil {
		return nil
	}
	return errs.Join(w.stream.close(), w.file.Close(), w.r.work.delete(ctx, sustainedFile))
}

// run writes the whole file, once, and returns the rate of each half second. It ends
// early if other programs have used up the reserve.
func (w *longWrite) run(ctx context.Context) (points []Point, err error) {
	if w == nil {
		return []Point{}, nil
	}
	defer func() { err = errs.Join(err, w.stream.close()) }()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan error, 1)
	watcher := newRateWatcher(w.stream)
	go func() { done <- w.stream.run(ctx) }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			watcher.addPoint()
			if short := w.r.work.checkReserve(0); short != nil {
				stop(short)
			}
		case err := <-done:
			watcher.addLastPoint()
			return watcher.points, w.r.ignoreNoSpace(err)
		}
	}
}

// ignoreNoSpace turns a lack of space into a warning, since the measurements until then
// are valid.
func (r *runner) ignoreNoSpace(err error) error {
	var short *SpaceError
	if errors.As(err, &short) || sys.IsNoSpace(err) {
		r.warn("the sustained write ended early: " + err.Error())
		return nil
	}
	return err
}

// rateWatcher makes the points of a stream.
type rateWatcher struct {
	stream *stream
	start  time.Time
	points []Point
	last   Point
}

func newRateWatcher(s *stream) *rateWatcher {
	return &rateWatcher{stream: s, start: time.Now(), points: []Point{}}
}

// movedUntil returns the current time, or the time of the last byte: the final flush must
// not lower the rate.
func (w *rateWatcher) movedUntil() time.Time {
	if ended := w.stream.ended.Load(); ended != nil {
		return *ended
	}
	return time.Now()
}

// addPoint adds the bytes since the last point.
func (w *rateWatcher) addPoint() {
	p := Point{Second: w.movedUntil().Sub(w.start).Seconds(), Offset: w.stream.done.Load()}
	if p.Second <= w.last.Second {
		return
	}
	p.Rate = float64(p.Offset-w.last.Offset) / (p.Second - w.last.Second)
	w.points = append(w.points, p)
	w.last = p
}

// addLastPoint adds the bytes since the last tick. If that time is too short for a rate
// of its own, it is merged with the last point.
func (w *rateWatcher) addLastPoint() {
	since := w.movedUntil().Sub(w.start).Seconds() - w.last.Second
	if n := len(w.points); n > 0 && since > 0 && since <= tick.Seconds()/2 {
		w.points, w.last = w.points[:n-1], Point{}
		if n > 1 {
			w.last = w.points[n-2]
		}
	}
	w.addPoint()
}

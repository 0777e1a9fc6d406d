package bench

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"shard_to_ssd/bench/data"
	"shard_to_ssd/internal/sys"
)

// A stream reads or writes a file once, from its start to its end, in requests of a
// block, some of them under way at once. What it writes neither compresses nor is there
// twice. Memory is depth × block, rounded up to huge pages.
type stream struct {
	file  *sys.File
	write bool
	size  int64 // bytes, a multiple of block
	block int64
	moved func(bytes int64)

	stamp   uint64 // of what is written: another for each stream
	next    atomic.Int64
	done    atomic.Int64              // bytes
	ended   atomic.Pointer[time.Time] // when all of them had moved; nil until then
	memory  []byte                    // of all buffers, so that it is in huge pages whatever the block
	buffers [][]byte
	hists   []*hdrhistogram.Histogram
}

// hugePage is the unit of a stream's memory, in bytes: less than one is never in huge
// pages, and with small ones a drive was read at two thirds of its rate.
const hugePage = 2 << 20

// newStream makes a stream with its buffers, so that making them is in nobody's time.
// Close it; the file stays the caller's.
func newStream(file *sys.File, way Way, size, block int64, depth int, stamp uint64, moved func(int64)) (*stream, error) {
	s := &stream{file: file, write: way == Write, size: size - size%block, block: block, stamp: stamp, moved: moved}
	// Every request waits in a system call, of which Go's scheduler learns late, see
	// pool.New. Whoever measures something else then gives them back.
	if runtime.GOMAXPROCS(0) < 2*depth {
		runtime.GOMAXPROCS(2 * depth)
	}
	memory, err := sys.Buffer((depth*int(block) + hugePage - 1) / hugePage * hugePage)
	if err != nil {
		return nil, err
	}
	s.memory = memory
	for i := range depth {
		buf := memory[i*int(block) : (i+1)*int(block)]
		data.Fill(buf, stamp, uint64(i), 0) // also to read into: its pages are there then
		s.buffers, s.hists = append(s.buffers, buf), append(s.hists, newHistogram())
	}
	return s, nil
}

func (s *stream) close() (err error) {
	if s.memory != nil {
		err = sys.FreeBuffer(s.memory)
	}
	s.memory, s.buffers = nil, nil
	return err
}

// run moves all bytes, and if it writes has them on stable storage.
func (s *stream) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.buffers {
		g.Go(func() error { return s.work(ctx, s.buffers[i], s.hists[i]) })
	}
	err := g.Wait()
	if err == nil && s.write {
		err = s.file.SyncData()
	}
	return err
}

func (s *stream) work(ctx context.Context, buf []byte, h *hdrhistogram.Histogram) error {
	for {
		off := (s.next.Add(1) - 1) * s.block
		if off >= s.size {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.write {
			data.Stamp(buf, s.stamp, off)
		}
		start := time.Now()
		if err := s.request(buf, off); err != nil {
			return err
		}
		record(h, time.Since(start))
		if s.done.Add(s.block) == s.size {
			now := time.Now()
			s.ended.Store(&now)
		}
		s.moved(s.block)
	}
}

func (s *stream) request(buf []byte, off int64) error {
	if s.write {
		return s.file.WriteAt(buf, off)
	}
	n, err := s.file.ReadAt(buf, len(buf), off)
	if err == nil && n < len(buf) {
		err = errors.New(s.file.Path() + " became shorter while it was read")
	}
	return err
}

func merged(hists []*hdrhistogram.Histogram) *hdrhistogram.Histogram {
	all := newHistogram()
	for _, h := range hists {
		all.Merge(h)
	}
	return all
}

package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"shard_to_ssd/bench/internal/data"
	"shard_to_ssd/internal/sys"
)

// streamConfig describes a stream.
type streamConfig struct {
	file  *sys.File
	way   Way    // Read or Write
	size  int64  // bytes; a partial block at the end is left out
	block int64  // bytes of one request
	depth int    // requests at the same time
	stamp uint64 // in the data that is written; different for each stream
	moved func(bytes int64)
}

// A stream reads or writes a file once, from start to end, in requests of one block,
// several of them at the same time. The data that it writes cannot be compressed and has
// no two equal pieces. It uses depth × block bytes of memory, rounded up to huge pages.
type stream struct {
	streamConfig
	next    atomic.Int64
	done    atomic.Int64              // bytes
	ended   atomic.Pointer[time.Time] // when all bytes had moved; nil until then
	memory  []byte                    // of all buffers together, so that small blocks are in huge pages too
	buffers [][]byte
	hists   []*hdrhistogram.Histogram
}

// hugePage is the unit of a stream's memory, in bytes. Less memory is never in huge
// pages, and with small pages a drive was read at two thirds of its rate.
const hugePage = 2 << 20

// newStream makes a stream and its buffers before the measurement begins. The caller must
// close the stream and, later, the file.
func newStream(c streamConfig) (*stream, error) {
	c.size -= c.size % c.block
	s := &stream{streamConfig: c}
	block := int(c.block)
	memory, err := sys.AllocBuffer((c.depth*block + hugePage - 1) / hugePage * hugePage)
	if err != nil {
		return nil, err
	}
	s.memory = memory
	for i := range c.depth {
		buf := memory[i*block : (i+1)*block]
		data.Fill(buf, c.stamp, uint64(i), 0) // even before a read, so that its pages exist
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

// run moves all bytes. A write ends with a flush to stable storage.
func (s *stream) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.buffers {
		g.Go(func() error { return s.runWorker(ctx, s.buffers[i], s.hists[i]) })
	}
	if err := g.Wait(); err != nil || s.way == Read {
		return err
	}
	return s.file.SyncData()
}

// runWorker makes one request after another, until all blocks are taken.
func (s *stream) runWorker(ctx context.Context, buf []byte, h *hdrhistogram.Histogram) error {
	for {
		off := (s.next.Add(1) - 1) * s.block
		if off >= s.size {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.way == Write {
			data.Stamp(buf, s.stamp, off)
		}
		start := time.Now()
		if err := s.doRequest(buf, off); err != nil {
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

func (s *stream) doRequest(buf []byte, off int64) error {
	if s.way == Write {
		return s.file.WriteAt(buf, off)
	}
	n, err := s.file.ReadAt(buf, len(buf), off)
	if err == nil && n < len(buf) {
		err = errors.New(s.file.Path() + " became shorter during the read")
	}
	return err
}

func mergeHistograms(hists []*hdrhistogram.Histogram) *hdrhistogram.Histogram {
	all := newHistogram()
	for _, h := range hists {
		all.Merge(h)
	}
	return all
}

package verify

import (
	"context"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// SumsFile is an open file with a list of checksums. Close it.
type SumsFile struct{ file *sys.File }

// OpenSums opens a list of checksums. It must be a regular file, since it is read twice:
// once to find out how much there is to compare.
func OpenSums(path string) (*SumsFile, error) {
	f, err := sys.Open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil && !s.IsRegular() {
		err = fmt.Errorf("%s is not a regular file; give a pipe as standard input, with the name \"-\"", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &SumsFile{f}, nil
}

// Close closes the file.
func (f *SumsFile) Close() error { return f.file.Close() }

// Lines returns a reader of the list from its beginning.
func (f *SumsFile) Lines() *SumsReader { return NewSumsReader(f.file.Stream()) }

// NewCancelableSumsReader reads a list from r, nil for an empty one. A call of Next
// returns the cause of ctx once that has ended, even if r never returns.
func NewCancelableSumsReader(ctx context.Context, r io.Reader) *SumsReader {
	return NewSumsReader(&cancelableReader{ctx: ctx, from: r})
}

// cancelableReader is a reader whose caller does not wait after ctx has ended.
type cancelableReader struct {
	ctx  context.Context
	from io.Reader
	buf  []byte // from reads into this: p is the caller's again when ctx has ended
}

// Read reads, or returns the cause of the context.
func (r *cancelableReader) Read(p []byte) (int, error) {
	if r.from == nil {
		return 0, io.EOF
	}
	r.buf = slices.Grow(r.buf[:0], len(p))[:len(p)]
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := r.from.Read(r.buf)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		return copy(p, r.buf[:got.n]), got.err
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
}

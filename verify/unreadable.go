package verify

import (
	"context"

	"shard_to_ssd/internal/sys"
)

// maxFailures is the number of reads of one block that may fail before the search for
// its bad pieces stops: a drive may take seconds for each failed read.
const maxFailures = 64

// diagnoseBlock describes block i, which failed to read with readErr. For an error of the
// device it returns the pieces that cannot be read, for any other error the whole block.
// If the run has ended, or this process lacks the means to read, it returns an error
// instead: then the block may be good.
func (f *File) diagnoseBlock(ctx context.Context, i int64, readErr error, buf []byte) ([]Difference, error) {
	if IsProcessError(readErr) {
		return nil, readErr
	}
	found := f.describeUnreadable(ctx, f.blockRange(i), readErr, buf)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return found, nil
}

func (f *File) describeUnreadable(ctx context.Context, block ByteRange, err error, buf []byte) []Difference {
	whole := []Difference{{Kind: Unreadable, Detail: err.Error(), Ranges: []ByteRange{block}}}
	switch {
	case isShort(err):
		return []Difference{{Kind: Size, Detail: err.Error()}}
	case !sys.IsMediaError(err):
		return whole
	}
	n := narrowing{file: f, buf: buf, left: maxFailures}
	n.splitRange(ctx, block, err)
	if len(n.found) == 0 { // now it can be read, and the place of the error stays unknown
		return whole
	}
	return n.found
}

// narrowing searches for the pieces of a block that cannot be read.
type narrowing struct {
	file  *File
	buf   []byte
	left  int // reads that may still fail
	found []Difference
}

// splitRange reads the halves of a range that failed to read with err as a whole.
func (n *narrowing) splitRange(ctx context.Context, r ByteRange, err error) {
	if r.To-r.From <= sys.Align || n.left <= 0 || ctx.Err() != nil {
		n.found = append(n.found, Difference{Kind: Unreadable, Detail: err.Error(), Ranges: []ByteRange{r}})
		return
	}
	middle := r.From + alignUp((r.To-r.From)/2)
	for _, part := range []ByteRange{{r.From, middle}, {middle, r.To}} {
		if failed := n.tryRange(part); failed != nil {
			n.left--
			n.splitRange(ctx, part, failed)
		}
	}
}

func (n *narrowing) tryRange(r ByteRange) error {
	_, _, err := n.file.file.ReadUncached(r.From, r.To-r.From, func() error {
		_, err := n.file.readRange(n.buf, int(r.To-r.From), r.From)
		return err
	})
	return err
}

package verify

import (
	"context"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// maxFailures is how many reads of one block may fail before no more of it is looked
// at: a drive may take seconds for each.
const maxFailures = 64

// failure is what is wrong with block i, which could not be read: for an I/O error the
// pieces that cannot be, else all of it. That the run has ended, or that this process
// has not the means, says nothing of the block.
func (f *File) failure(ctx context.Context, i int64, err error, buf []byte) ([]Difference, error) {
	if Ours(err) {
		return nil, err
	}
	found := f.unreadable(ctx, f.block(i), err, buf)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return found, nil
}

func (f *File) unreadable(ctx context.Context, block Range, err error, buf []byte) []Difference {
	whole := []Difference{{Kind: Unreadable, Detail: err.Error(), Ranges: []Range{block}}}
	switch {
	case isShort(err):
		return []Difference{{Kind: Size, Detail: err.Error()}}
	case !sys.Is(err, unix.EIO):
		return whole
	}
	n := narrowing{file: f, buf: buf, left: maxFailures}
	n.halve(ctx, block, err)
	if len(n.found) == 0 { // it can be read now, and nobody knows what it was
		return whole
	}
	return n.found
}

// narrowing looks for the pieces of a block that cannot be read.
type narrowing struct {
	file  *File
	buf   []byte
	left  int // reads that may still fail
	found []Difference
}

// halve looks at the halves of a range that failed with err as a whole.
func (n *narrowing) halve(ctx context.Context, r Range, err error) {
	half := ((r.To-r.From)/2 + sys.Align - 1) &^ (sys.Align - 1)
	if r.To-r.From <= sys.Align || n.left <= 0 || ctx.Err() != nil {
		n.found = append(n.found, Difference{Kind: Unreadable, Detail: err.Error(), Ranges: []Range{r}})
		return
	}
	for _, part := range []Range{{r.From, r.From + half}, {r.From + half, r.To}} {
		if failed := n.read(part); failed != nil {
			n.left--
			n.halve(ctx, part, failed)
		}
	}
}

func (n *narrowing) read(r Range) error {
	_, _, err := n.file.file.LeaveCache(r.From, r.To-r.From, func() error {
		_, err := n.file.read(n.buf, int(r.To-r.From), r.From)
		return err
	})
	return err
}

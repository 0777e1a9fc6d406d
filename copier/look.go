package copier

import (
	"context"
	"sync"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// looked is an entry of a directory of the source, as it was found.
type looked struct {
	stat    sys.Stat
	target  string // of a symbolic link
	attrs   []tree.Xattr
	skipped []string // extended attributes that are not carried
	err     error
}

// lookAt looks at some entries of a directory, several at once: on a cold disk each
// may have to be waited for. Whoever has few is faster alone.
func (w *walker) lookAt(d *sys.File, names []string) []looked {
	found := make([]looked, len(names))
	var lookers sync.WaitGroup
	for i := range min((len(names)+namesAlone-1)/namesAlone, maxLookers) {
		some := func() {
			scratch := make([]byte, 4096)
			for k := i * namesAlone; k < len(names); k += maxLookers * namesAlone {
				lookAtSome(w.ctx, d, names[k:min(k+namesAlone, len(names))], found[k:], scratch)
			}
		}
		if len(names) <= namesAlone {
			some()
		} else {
			lookers.Go(some)
		}
	}
	lookers.Wait()
	return found
}

const (
	namesAlone = 64 // what one goroutine looks at, at a time
	maxLookers = 8
	// namesAtOnce bounds the memory of lookAt: some 250 bytes each.
	namesAtOnce = 4096
)

func lookAtSome(ctx context.Context, d *sys.File, names []string, found []looked, scratch []byte) {
	for i, name := range names {
		if ctx.Err() != nil {
			found[i].err = context.Cause(ctx)
			return
		}
		found[i].look(d, name, scratch)
	}
}

func (l *looked) look(d *sys.File, name string, scratch []byte) {
	if l.stat, l.err = d.StatAt(name); l.err != nil {
		return
	}
	switch {
	case l.stat.IsSymlink():
		l.target, l.err = d.ReadlinkAt(name)
	case !l.stat.IsRegular():
		return // a directory is looked at when it is entered
	}
	if l.err == nil {
		l.attrs, l.skipped, l.err = tree.ReadXattrs(d, name, scratch)
	}
}

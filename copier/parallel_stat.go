package copier

import (
	"context"
	"sync"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// foundEntry is an entry of a source directory as the walk found it.
type foundEntry struct {
	stat    sys.Stat
	target  string // of a symbolic link
	attrs   []tree.Xattr
	skipped []string // extended attributes that are not carried
	err     error
}

const (
	statsPerTask   = 64 // entries that one goroutine reads in a row
	maxStatWorkers = 8
	// statsAtOnce bounds the memory of statEntries: about 250 bytes for each entry.
	statsAtOnce = 4096
)

// statEntries reads the metadata of some entries of a directory. Many entries are
// read in parallel, because on a cold disk each of them may cost a wait. Few entries
// are read by this goroutine alone, which is faster.
func (w *walker) statEntries(d *sys.File, names []string) []foundEntry {
	found := make([]foundEntry, len(names))
	var workers sync.WaitGroup
	for i := range min((len(names)+statsPerTask-1)/statsPerTask, maxStatWorkers) {
		work := func() {
			scratch := make([]byte, 4096)
			for k := i * statsPerTask; k < len(names); k += maxStatWorkers * statsPerTask {
				statInOrder(w.ctx, d, names[k:min(k+statsPerTask, len(names))], found[k:], scratch)
			}
		}
		if len(names) <= statsPerTask {
			work()
		} else {
			workers.Go(work)
		}
	}
	workers.Wait()
	return found
}

func statInOrder(ctx context.Context, d *sys.File, names []string, found []foundEntry, scratch []byte) {
	for i, name := range names {
		if ctx.Err() != nil {
			found[i].err = context.Cause(ctx)
			return
		}
		found[i].statEntry(d, name, scratch)
	}
}

func (e *foundEntry) statEntry(d *sys.File, name string, scratch []byte) {
	if e.stat, e.err = d.StatAt(name); e.err != nil {
		return
	}
	switch {
	case e.stat.IsSymlink():
		e.target, e.err = d.ReadlinkAt(name)
	case !e.stat.IsRegular():
		return // the walk reads the attributes of a directory when it enters it
	}
	if e.err == nil {
		e.attrs, e.skipped, e.err = tree.ReadXattrs(d, name, scratch)
	}
}

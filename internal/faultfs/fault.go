package faultfs

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Op is a kind of call.
type Op string

// The calls that can be made to go wrong.
const (
	Open       Op = "open"        // of a file or directory
	OpenDirect Op = "open direct" // open or create with O_DIRECT, which is no Open then
	Create     Op = "create"      // and O_TMPFILE, mkdir, mknod, symlink
	Read       Op = "read"
	Write      Op = "write"
	Sync       Op = "sync" // fsync and fdatasync of files and directories
	CopyRange  Op = "copy_file_range"
	Fallocate  Op = "fallocate" // and punching holes
	SetAttr    Op = "setattr"   // chmod, chown, truncate, times
	Xattr      Op = "xattr"
	Rename     Op = "rename"
	Link       Op = "link"
	Unlink     Op = "unlink" // and rmdir
	List       Op = "list"
	Stat       Op = "stat"
	Lookup     Op = "lookup"
)

// A Call is a call that came from the kernel.
type Call struct {
	Op       Op
	Path     string // of the file or the new name, relative to the mount point
	Off, Len int64  // of read, write, copy_file_range and fallocate, in bytes
	Direct   bool   // it is a read or write with O_DIRECT
}

// A Fault makes some calls go wrong. A zero field does not restrict it: the zero Fault
// matches every call, and does nothing to it.
type Fault struct {
	Op       Op
	Name     string // only calls with a path that ends in Name
	From, To int64  // only calls that touch bytes [From, To)
	Skip     int    // so many calls go well first
	Times    int    // so many calls go wrong then

	// The actions, in this order. Err and Drop end the call.
	Hang   chan struct{}                // the call waits until the channel is closed
	Err    syscall.Errno                // the call fails
	Drop   bool                         // the call does nothing and reports success; copy_file_range reports 0 bytes
	Change func(off int64, data []byte) // changes the bytes that are read or written
}

// An Injected is a fault that was injected into a file system.
type Injected struct {
	fs    *FS
	fault Fault

	mu    sync.Mutex
	left  int           // calls still to skip
	hits  int           // calls that went wrong
	met   chan struct{} // closed when the first call goes wrong
	first Call          // the first call that went wrong
}

// Inject makes calls go wrong from now on, until Remove is called.
func (fs *FS) Inject(f Fault) *Injected {
	i := &Injected{fs: fs, fault: f, left: f.Skip, met: make(chan struct{})}
	fs.faultsMu.Lock()
	defer fs.faultsMu.Unlock()
	fs.faults = append(fs.faults, i)
	return i
}

// Remove ends the fault. A call that hangs continues to hang.
func (i *Injected) Remove() {
	i.fs.faultsMu.Lock()
	defer i.fs.faultsMu.Unlock()
	i.fs.faults = slices.DeleteFunc(slices.Clone(i.fs.faults), func(other *Injected) bool { return other == i })
}

// HitCount returns how many calls went wrong.
func (i *Injected) HitCount() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hits
}

// Triggered returns a channel that is closed when the first call goes wrong.
func (i *Injected) Triggered() <-chan struct{} { return i.met }

// FirstCall returns the first call that went wrong.
func (i *Injected) FirstCall() Call {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.first
}

// matchCall counts a call, and reports whether it goes wrong.
func (i *Injected) matchCall(c *Call) bool {
	f := &i.fault
	if f.Op != "" && f.Op != c.Op || !strings.HasSuffix(c.Path, f.Name) {
		return false
	}
	if c.Off+c.Len <= f.From || f.To > 0 && c.Off >= f.To {
		if f.From != 0 || f.To != 0 {
			return false
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.left > 0 {
		i.left--
		return false
	}
	if f.Times > 0 && i.hits == f.Times {
		return false
	}
	if i.hits++; i.hits == 1 {
		i.first = *c
		close(i.met)
	}
	return true
}

// WatchCalls calls see with every call, from many goroutines, before the faults are applied.
// A nil see ends that.
func (fs *FS) WatchCalls(see func(Call)) {
	fs.faultsMu.Lock()
	defer fs.faultsMu.Unlock()
	fs.watch = see
}

// effect is the outcome of all faults for one call.
type effect struct {
	err    syscall.Errno
	drop   bool
	change []func(off int64, data []byte)
}

// endsCall reports whether the call ends without doing its work.
func (e *effect) endsCall() bool { return e.err != 0 || e.drop }

func (e *effect) changeData(off int64, data []byte) {
	for _, change := range e.change {
		change(off, data)
	}
}

// applyFaults applies the faults to a call, and waits if the call hangs. fs.mu must not
// be held.
func (fs *FS) applyFaults(c Call) (e effect) {
	fs.faultsMu.Lock()
	faults, watch := fs.faults, fs.watch
	fs.faultsMu.Unlock()
	if watch != nil {
		watch(c)
	}
	for _, i := range faults {
		if e.endsCall() || !i.matchCall(&c) {
			continue
		}
		f := &i.fault
		if f.Hang != nil {
			<-f.Hang
		}
		e.err, e.drop = f.Err, f.Drop
		if f.Change != nil {
			e.change = append(e.change, f.Change)
		}
	}
	return e
}

// FlipBit returns a [Fault.Change] that flips one bit of the byte at an offset of the file.
func FlipBit(at int64) func(off int64, data []byte) {
	return func(off int64, data []byte) {
		if at >= off && at < off+int64(len(data)) {
			data[at-off] ^= 1 << (at % 8)
		}
	}
}

// RandomFlips returns a [Fault.Change] that flips one bit in every bytes on average, at
// random places that depend on the seed.
func RandomFlips(seed uint64, every int64) func(off int64, data []byte) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0))
	gap := func() int64 { return int64(r.ExpFloat64() * float64(every)) }
	next := gap()
	return func(_ int64, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		for next < int64(len(data)) {
			data[next] ^= 1 << r.IntN(8)
			next += 1 + gap()
		}
		next -= int64(len(data))
	}
}

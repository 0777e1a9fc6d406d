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
	Open       Op = "open"        // also of a directory
	OpenDirect Op = "open direct" // open or create with O_DIRECT; not an Open as well
	Create     Op = "create"      // also O_TMPFILE, mkdir, mknod, symlink
	Read       Op = "read"
	Write      Op = "write"
	Sync       Op = "sync" // fsync and fdatasync of files and directories
	CopyRange  Op = "copy_file_range"
	Fallocate  Op = "fallocate" // also punching holes
	SetAttr    Op = "setattr"   // chmod, chown, truncate, times
	Xattr      Op = "xattr"
	Rename     Op = "rename"
	Link       Op = "link"
	Unlink     Op = "unlink" // and rmdir
	List       Op = "list"
	Stat       Op = "stat"
	Lookup     Op = "lookup"
)

// A Call is one that came from the kernel.
type Call struct {
	Op       Op
	Path     string // below the mount point, of the file or of the new name
	Off, Len int64  // of read, write, copy_file_range and fallocate
	Direct   bool   // a read or write with O_DIRECT
}

// A Fault makes some calls go wrong. What is zero does not restrict it: the zero
// Fault meets every call, and does nothing to it.
type Fault struct {
	Op       Op
	Name     string // the path ends in it
	From, To int64  // only calls that touch bytes [From, To)
	Skip     int    // that many calls go well first
	Times    int    // that many go wrong then

	// In this order; Err and Drop end the call.
	Hang   chan struct{}                // waits until it is closed
	Err    syscall.Errno                // fails
	Drop   bool                         // says that it is done, and is not; copy_file_range says 0 bytes
	Change func(off int64, data []byte) // what is read, or what is written
}

// An Injected is a fault that waits for calls.
type Injected struct {
	fs    *FS
	fault Fault

	mu    sync.Mutex
	left  int           // calls to skip
	hits  int           // calls that went wrong
	met   chan struct{} // closed with the first
	first Call
}

// Inject makes calls go wrong from now on, until Remove.
func (fs *FS) Inject(f Fault) *Injected {
	i := &Injected{fs: fs, fault: f, left: f.Skip, met: make(chan struct{})}
	fs.faultsMu.Lock()
	defer fs.faultsMu.Unlock()
	fs.faults = append(fs.faults, i)
	return i
}

// Remove ends the fault. A call that hangs goes on hanging.
func (i *Injected) Remove() {
	i.fs.faultsMu.Lock()
	defer i.fs.faultsMu.Unlock()
	i.fs.faults = slices.DeleteFunc(slices.Clone(i.fs.faults), func(other *Injected) bool { return other == i })
}

// Hits is how many calls went wrong.
func (i *Injected) Hits() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hits
}

// Met is closed when the first call goes wrong.
func (i *Injected) Met() <-chan struct{} { return i.met }

// First is that call.
func (i *Injected) First() Call {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.first
}

// meets counts a call, and says whether it goes wrong.
func (i *Injected) meets(c *Call) bool {
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

// Watch has every call shown to see, from many goroutines, before it is looked
// whether it goes wrong; nil ends that.
func (fs *FS) Watch(see func(Call)) {
	fs.faultsMu.Lock()
	defer fs.faultsMu.Unlock()
	fs.watch = see
}

// effect is what faults do to one call, in the end.
type effect struct {
	err    syscall.Errno
	drop   bool
	change []func(off int64, data []byte)
}

// ends reports that the call is not carried out.
func (e *effect) ends() bool { return e.err != 0 || e.drop }

func (e *effect) apply(off int64, data []byte) {
	for _, change := range e.change {
		change(off, data)
	}
}

// meet lets the faults act on a call, and waits if it hangs. fs.mu is free.
func (fs *FS) meet(c Call) (e effect) {
	fs.faultsMu.Lock()
	faults, watch := fs.faults, fs.watch
	fs.faultsMu.Unlock()
	if watch != nil {
		watch(c)
	}
	for _, i := range faults {
		if e.ends() || !i.meets(&c) {
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

// Flip is a [Fault.Change] that flips a bit of the byte at an offset of the file.
func Flip(at int64) func(off int64, data []byte) {
	return func(off int64, data []byte) {
		if at >= off && at < off+int64(len(data)) {
			data[at-off] ^= 1 << (at % 8)
		}
	}
}

// RandomFlips is a [Fault.Change] that flips one bit in every so many bytes, on
// the average.
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

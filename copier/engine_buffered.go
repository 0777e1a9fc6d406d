package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// openSource opens a file of the source for reading, without changing its access
// time where that is allowed.
func (c *copying) openSource(d *sys.File, name string, direct bool) (*sys.File, error) {
	flags := unix.O_RDONLY
	if c.asRoot {
		flags |= unix.O_NOATIME
	}
	open := func() (*sys.File, error) {
		if direct {
			return openDirect(d, name, flags, 0)
		}
		return d.OpenAt(name, flags, 0)
	}
	f, err := open()
	if sys.Is(err, unix.EPERM) && flags != unix.O_RDONLY { // root without CAP_FOWNER
		flags = unix.O_RDONLY
		f, err = open()
	}
	if err != nil {
		return nil, err
	}
	f.Pace, f.Request = c.Pace, c.Request
	f.DontCache.Store(!f.Direct.Load() && !c.noUncache.Load())
	return f, nil
}

// uncached runs read, which reads n bytes at off, and leaves the page cache as it was.
func (c *copying) uncached(f *sys.File, off, n int64, read func() error) error {
	_, _, err := f.LeaveCache(off, n, read)
	if err == nil && n > 0 && !f.Direct.Load() && !f.DontCache.Load() {
		c.noUncache.Store(true)
	}
	return err
}

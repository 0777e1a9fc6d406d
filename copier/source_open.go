package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// openSourceDir opens a directory of the source.
func (c *copyRun) openSourceDir(path string) (*sys.File, error) {
	d, err := c.src.openDir(path)
	if err != nil {
		return nil, sourceError(path, err)
	}
	return d, nil
}

// openSourceFile opens a file of the source for reading. It does not change the access
// time of the file where the kernel allows that. flags is unix.O_DIRECT or 0.
func (c *copyRun) openSourceFile(d *sys.File, name string, flags int) (*sys.File, error) {
	if c.asRoot {
		flags |= unix.O_NOATIME
	}
	f, err := openFile(d, name, flags, 0)
	if sys.IsErrno(err, unix.EPERM) && c.asRoot { // root without CAP_FOWNER
		f, err = openFile(d, name, flags&^unix.O_NOATIME, 0)
	}
	if err != nil {
		return nil, err
	}
	f.RateLimiter, f.Request = c.RateLimit, c.MaxRequest
	f.DontCache.Store(!f.Direct.Load() && !c.noDontCache.Load())
	return f, nil
}

// readLeavingCache calls read, which reads n bytes at off, and leaves the page cache as
// it was before.
func (c *copyRun) readLeavingCache(f *sys.File, off, n int64, read func() error) error {
	_, _, err := f.ReadUncached(off, n, read)
	if err == nil && n > 0 && !f.Direct.Load() && !f.DontCache.Load() {
		c.noDontCache.Store(true)
	}
	return err
}

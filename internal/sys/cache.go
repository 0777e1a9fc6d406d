package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Cached is how many of n bytes at off of the file are in the page cache, counted
// in pages. off is a multiple of the page size. The kernel does not tell who neither owns
// the file nor is root: EPERM.
func (f *File) Cached(off, n int64) (bytes int64, err error) {
	if n == 0 {
		return 0, nil
	}
	var stat unix.Cachestat_t
	err = call("cachestat", f.where, func() error {
		return unix.Cachestat(uint(f.fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0)
	})
	page := int64(os.Getpagesize())
	if Is(err, unix.ENOSYS, unix.EPERM, unix.EOPNOTSUPP) { // before Linux 6.5, or a sandbox
		if !f.ours() { // mincore says of all pages that they are there
			return 0, &os.PathError{Op: "cachestat", Path: f.Path(), Err: unix.EPERM}
		}
		pages, err := f.mincore(off, n)
		return pages * page, err
	}
	return int64(stat.Cache) * page, err
}

// ours reports whether the file is that of who asks, or of anybody and root asks.
func (f *File) ours() bool {
	s, err := f.Stat()
	return err == nil && (os.Geteuid() == 0 || int(s.UID) == os.Geteuid())
}

// mincore counts resident pages through a mapping, a window at a time.
func (f *File) mincore(off, size int64) (pages int64, err error) {
	const window = 1 << 30
	seen := make([]byte, min(window, int(size)+os.Getpagesize())/os.Getpagesize()+1)
	for end := off + size; off < end; off += window {
		n, err := f.resident(off, int(min(window, end-off)), seen)
		if err != nil {
			return pages, err
		}
		pages += n
	}
	return pages, nil
}

// resident counts the resident pages of n bytes at off; seen has a byte for each.
func (f *File) resident(off int64, n int, seen []byte) (pages int64, err error) {
	const op = "mincore"
	var m []byte
	err = call(op, f.where, func() (err error) {
		m, err = unix.Mmap(f.fd, off, n, unix.PROT_READ, unix.MAP_SHARED)
		return err
	})
	if err != nil {
		return 0, err
	}
	seen = seen[:(n+os.Getpagesize()-1)/os.Getpagesize()]
	err = call(op, f.where, func() error { return mincore(m, seen) })
	if unmap := FreeBuffer(m); err == nil {
		err = unmap
	}
	if err != nil {
		return 0, err
	}
	for _, b := range seen {
		pages += int64(b & 1)
	}
	return pages, nil
}

// Forget drops clean pages of n bytes at off from the page cache; n 0 means to the
// end of the file.
func (f *File) Forget(off, n int64) error {
	return call("fadvise", f.where, func() error { return unix.Fadvise(f.fd, off, n, unix.FADV_DONTNEED) })
}

// LeaveCache runs read, which reads n bytes at off, so that pages of them which were not
// in the page cache before are not in it afterwards. Neither O_DIRECT nor RWF_DONTCACHE
// sees to that alone: btrfs reads files with checksums through the page cache whatever
// was asked for, and pages that were read ahead, or are locked, stay.
//
// Pages that others bring in meanwhile are theirs: a direct read brings in all pages
// or none, of which the kernel may have taken a few back already (DAMON does).
//
// Of a range that was cached in part nothing is dropped: what is whose cannot be told.
//
// It returns how many bytes were there before, and how many came through the cache; if
// that cannot be told, all were there.
func (f *File) LeaveCache(off, n int64, read func() error) (before, through int64, err error) {
	if n == 0 {
		return 0, 0, read()
	}
	before, unknown := f.Cached(off, n)
	if err := read(); err != nil {
		return before, 0, err
	}
	if unknown != nil {
		return n, 0, nil
	}
	return f.LeaveAsBefore(off, n, before)
}

// LeaveAsBefore is the second half of LeaveCache, for who has read n bytes at off, of
// which so many were in the page cache before.
func (f *File) LeaveAsBefore(off, n, cached int64) (before, through int64, err error) {
	after, unknown := f.Cached(off, n)
	switch {
	case unknown != nil:
		return n, 0, nil
	case after <= cached || (f.Direct.Load() && after < n/2):
		return cached, 0, nil
	}
	if cached == 0 {
		err = f.Forget(off, n)
	}
	return cached, after - cached, err
}

// NoReadAhead says that the file is read in pieces, in any order: what nobody asked for
// is not to be read.
func (f *File) NoReadAhead() error {
	return call("fadvise", f.where, func() error { return unix.Fadvise(f.fd, 0, 0, unix.FADV_RANDOM) })
}

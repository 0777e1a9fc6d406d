package sys

import (
	"os"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
)

// CachedBytes returns how many of n bytes at off are in the page cache, counted in whole
// pages. off must be a multiple of the page size. The kernel answers only root and the
// owner of the file; other callers get EPERM.
func (f *File) CachedBytes(off, n int64) (bytes int64, err error) {
	if n == 0 {
		return 0, nil
	}
	var stat unix.Cachestat_t
	err = call("cachestat", f.where, func() error {
		return unix.Cachestat(uint(f.fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0)
	})
	page := int64(os.Getpagesize())
	if IsErrno(err, unix.ENOSYS, unix.EPERM, unix.EOPNOTSUPP) { // before Linux 6.5, or a sandbox
		if !f.ownedOrRoot() { // mincore would report all pages as cached
			return 0, &os.PathError{Op: "cachestat", Path: f.Path(), Err: unix.EPERM}
		}
		pages, err := f.countResident(off, n)
		return pages * page, err
	}
	return int64(stat.Cache) * page, err
}

// ownedOrRoot reports whether this process is root or owns the file.
func (f *File) ownedOrRoot() bool {
	s, err := f.Stat()
	return err == nil && (os.Geteuid() == 0 || int(s.UID) == os.Geteuid())
}

// countResident counts the resident pages of size bytes at off. It maps the file, one
// window after the other.
func (f *File) countResident(off, size int64) (pages int64, err error) {
	const window = 1 << 30
	seen := make([]byte, min(window, int(size)+os.Getpagesize())/os.Getpagesize()+1)
	for end := off + size; off < end; off += window {
		n, err := f.countResidentWindow(off, int(min(window, end-off)), seen)
		if err != nil {
			return pages, err
		}
		pages += n
	}
	return pages, nil
}

// countResidentWindow counts the resident pages of n bytes at off. seen needs a byte
// for each page.
func (f *File) countResidentWindow(off int64, n int, seen []byte) (pages int64, err error) {
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
	err = call(op, f.where, func() error { return mincoreCall(m, seen) })
	if err := errs.Join(err, FreeBuffer(m)); err != nil {
		return 0, err
	}
	for _, b := range seen {
		pages += int64(b & 1)
	}
	return pages, nil
}

// DropCached drops the clean pages of n bytes at off from the page cache. n 0 means up to
// the end of the file.
func (f *File) DropCached(off, n int64) error {
	return call("fadvise", f.where, func() error { return unix.Fadvise(f.fd, off, n, unix.FADV_DONTNEED) })
}

// ReadUncached runs read, which reads n bytes at off, and then drops the pages that read
// added to the page cache. Neither O_DIRECT nor RWF_DONTCACHE is enough for that: btrfs
// reads files with checksums through the page cache even then, and pages that were
// read ahead, or are locked, stay.
//
// Pages that another process adds meanwhile stay. They are recognized after a direct
// read, which adds all pages or none; the kernel may have reclaimed a few of them
// already (DAMON does).
//
// If a part of the range was cached before, nothing is dropped: it is unknown which of
// the pages read has added.
//
// ReadUncached returns how many bytes were cached before, and how many were read through
// the cache. If the kernel does not tell, these are n and 0.
func (f *File) ReadUncached(off, n int64, read func() error) (before, through int64, err error) {
	if n == 0 {
		return 0, 0, read()
	}
	before, unknown := f.CachedBytes(off, n)
	if err := read(); err != nil {
		return before, 0, err
	}
	if unknown != nil {
		return n, 0, nil
	}
	return f.DropAddedPages(off, n, before)
}

// DropAddedPages is the second half of ReadUncached, for a caller that has read n bytes at
// off itself. cached is how many of them were in the page cache before.
func (f *File) DropAddedPages(off, n, cached int64) (before, through int64, err error) {
	after, unknown := f.CachedBytes(off, n)
	switch {
	case unknown != nil:
		return n, 0, nil
	case after <= cached || (f.Direct.Load() && after < n/2):
		return cached, 0, nil
	}
	if cached == 0 {
		err = f.DropCached(off, n)
	}
	return cached, after - cached, err
}

// NoReadAhead turns the kernel's readahead off for the open file, which is read in
// pieces and in any order.
func (f *File) NoReadAhead() error {
	return call("fadvise", f.where, func() error { return unix.Fadvise(f.fd, 0, 0, unix.FADV_RANDOM) })
}

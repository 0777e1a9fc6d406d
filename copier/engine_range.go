package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// The magic numbers (linux/magic.h) of file systems on servers. Such a server copies a
// range itself, and the data does not cross the network.
const (
	magicNFS  = 0x6969
	magicCIFS = 0xff534d42
	magicSMB2 = 0xfe534d42
)

// isServer reports whether copy_file_range within this file system stays on a server.
// On a local file system it either clones, which was tried before, or moves the data
// through the page cache.
func isServer(fs sys.Space) bool {
	return fs.Type == magicNFS || uint32(fs.Type) == magicCIFS || uint32(fs.Type) == magicSMB2
}

// useRange sets the engine of the file to copy_file_range. Both descriptors lose
// O_DIRECT, with which the last bytes of a file would have to be aligned, too.
func (p *filePair) useRange(reason string) error {
	p.setEngine(Range, reason)
	p.in.DontCache.Store(true)
	return errs.Join(p.in.ClearDirect(), p.out.ClearDirect())
}

// copyRange copies n bytes at off with copy_file_range, and returns the number of bytes
// copied. The caller writes the rest from its buffer. The caller has read the whole
// range before. Therefore a result of 0 cannot mean that the source became shorter:
// copy_file_range does not work there (procfs, some overlay and FUSE mounts).
func (c *copyRun) copyRange(p *filePair, off int64, n int) (done int, err error) {
	for done < n {
		k, err := p.out.CopyRange(p.in, off+int64(done), n-done)
		switch {
		case err == nil && k > 0:
			done += k
			p.ranged.Store(true)
		case err == nil, c.canLeaveRange(p, err):
			p.noRange.Store(true)
			return done, nil
		default:
			return done, err
		}
	}
	return done, nil
}

// canLeaveRange reports whether another engine may continue after this error of
// copy_file_range. It records if other files need not try copy_file_range. ENOSPC, EDQUOT,
// EFBIG, ENOMEM and the errors of sys.IsMediaError are final: after a failed write-back
// another engine could read zeros.
func (c *copyRun) canLeaveRange(p *filePair, err error) bool {
	switch {
	case sys.IsErrno(err, unix.ENOSYS, unix.EXDEV, unix.EOPNOTSUPP, unix.EINVAL):
		c.noRange.Store(true)
		return true
	case sys.IsErrno(err, unix.EPERM): // seccomp, or this one file is immutable
		return true
	case sys.IsErrno(err, unix.EBADF, unix.EACCES, unix.ETXTBSY, unix.ENOTTY, unix.ENOENT):
		return !p.ranged.Load() // some FUSE, overlay and CIFS mounts
	}
	return false
}

package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/sys"
)

// File systems of servers that copy a range without sending it here, by their
// magic number (linux/magic.h).
const (
	magicNFS  = 0x6969
	magicCIFS = 0xff534d42
	magicSMB2 = 0xfe534d42
)

// isServer reports whether copy_file_range within this file system stays on a
// server. On local ones it goes through the page cache, unless it clones, which
// was tried before.
func isServer(fs sys.Space) bool {
	return fs.Type == magicNFS || uint32(fs.Type) == magicCIFS || uint32(fs.Type) == magicSMB2
}

// takeRange has the file copied by copy_file_range, which on an O_DIRECT
// descriptor wants the last bytes of a file aligned, too.
func (p *pair) takeRange(why string) error {
	p.take(Range, why)
	p.in.DontCache.Store(true)
	return errs.Join(p.in.SetDirect(false), p.out.SetDirect(false))
}

// putRange copies n bytes at off with copy_file_range. It returns how many were
// copied; the caller writes the rest, which it has read. That read is also what
// tells a copy_file_range that returns 0 for no reason (procfs, some overlay and
// FUSE mounts) from a source that has become shorter.
func (c *copying) putRange(p *pair, off int64, n int) (done int, err error) {
	for done < n {
		k, err := p.out.CopyRange(p.in, off+int64(done), n-done)
		switch {
		case err == nil && k > 0:
			done += k
			p.ranged.Store(true)
		case err == nil, c.giveUpRange(p, err):
			p.noRange.Store(true)
			return done, nil
		default:
			return done, err
		}
	}
	return done, nil
}

// giveUpRange decides whether an error of copy_file_range means that another
// engine may go on from here, and whether other files need not try. EIO, ENOSPC,
// EDQUOT, EFBIG and ENOMEM are final: after a failed write-back another engine
// could read zeros.
func (c *copying) giveUpRange(p *pair, err error) bool {
	switch {
	case sys.Is(err, unix.ENOSYS, unix.EXDEV, unix.EOPNOTSUPP, unix.EINVAL):
		c.noRange.Store(true)
		return true
	case sys.Is(err, unix.EPERM): // seccomp, or this one file is immutable
		return true
	case sys.Is(err, unix.EBADF, unix.EACCES, unix.ETXTBSY, unix.ENOTTY, unix.ENOENT):
		return !p.ranged.Load() // some FUSE, overlay and CIFS mounts
	}
	return false
}

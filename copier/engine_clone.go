package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// clone shares the extents of the source with the copy, if their file system can
// do that. What is tried and refused for good is not tried for other files.
func (c *copying) clone(p *pair) (bool, error) {
	if c.noClone.Load() || p.size == 0 {
		return false, nil
	}
	err := p.out.Clone(p.in)
	switch {
	case err == nil:
		return true, nil
	case sys.Is(err, unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS):
		c.noClone.Store(true)
		return false, nil
	case sys.Is(err, unix.EINVAL, unix.EPERM, unix.EACCES, unix.EBADF, unix.ETXTBSY):
		return false, nil // this file: checksums differ, immutable, a swap file
	}
	return false, err
}

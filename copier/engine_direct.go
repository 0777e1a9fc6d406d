package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// directFrom is the length in bytes from which auto copies a file with O_DIRECT.
// Shorter ones are cheaper through the page cache, where the file system can lay
// them out together.
const directFrom = 128 << 10

// openDirect opens a file with O_DIRECT, or without where that is refused.
func openDirect(d *sys.File, name string, flags int, mode uint32) (*sys.File, error) {
	f, err := d.OpenAt(name, flags|unix.O_DIRECT, mode)
	if sys.Is(err, unix.EINVAL, unix.EOPNOTSUPP) {
		// A refused O_CREAT may have made the file all the same.
		f, err = d.OpenAt(name, flags&^unix.O_EXCL, mode)
	}
	return f, err
}

// dropDirect turns O_DIRECT off where the file system says that it needs an
// alignment that blocks and buffers do not have, or that it has none.
func dropDirect(f *sys.File, s *sys.Stat) error {
	if f.Direct.Load() && (s.DirectAlign == 0 || s.DirectAlign > sys.Align) {
		return f.SetDirect(false)
	}
	return nil
}

// putDirect writes a span with O_DIRECT. The end of a file is written as a whole
// aligned piece, and then cut.
func (c *copying) putDirect(p *pair, buf []byte, off int64, s span) error {
	end := min(alignUp(s.to), len(buf))
	clear(buf[s.to:end])
	err := p.out.WriteAt(buf[s.from:end], off+int64(s.from))
	if sys.Is(err, unix.EINVAL) { // O_DIRECT was taken but is not done
		p.noDirect.Store(true)
		if err := p.out.SetDirect(false); err != nil {
			return err
		}
		return p.out.WriteAt(buf[s.from:s.to], off+int64(s.from))
	}
	if err != nil || off+int64(end) <= p.size {
		return err
	}
	return p.out.Truncate(p.size)
}

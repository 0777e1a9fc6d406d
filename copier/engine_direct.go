package copier

import (
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// directFrom is the length in bytes from which auto copies a file with O_DIRECT. For
// shorter files the page cache is cheaper: the file system can place them together.
const directFrom = 128 << 10

// openFile opens a file. If flags have O_DIRECT and the file system refuses it, the file
// is opened without it.
func openFile(d *sys.File, name string, flags int, mode uint32) (*sys.File, error) {
	f, err := d.OpenAt(name, flags, mode)
	if flags&unix.O_DIRECT != 0 && sys.IsErrno(err, unix.EINVAL, unix.EOPNOTSUPP) {
		// The call that refused O_DIRECT may have created the file.
		f, err = d.OpenAt(name, flags&^(unix.O_DIRECT|unix.O_EXCL), mode)
	}
	return f, err
}

// dropDirect turns O_DIRECT off if the file system requires a larger alignment than
// blocks and buffers have, or reports no alignment.
func dropDirect(f *sys.File, s *sys.Stat) error {
	if f.Direct.Load() && (s.DirectAlign == 0 || s.DirectAlign > sys.Align) {
		return f.ClearDirect()
	}
	return nil
}

// writeDirect writes a span with O_DIRECT. The end of a file is written as a whole
// aligned piece, and then truncated.
func (c *copyRun) writeDirect(p *filePair, buf []byte, off int64, s span) error {
	end := min(alignUp(s.to), len(buf))
	clear(buf[s.to:end])
	err := p.out.WriteAt(buf[s.from:end], off+int64(s.from))
	if sys.IsErrno(err, unix.EINVAL) { // open accepted O_DIRECT, but the write did not
		p.noDirect.Store(true)
		if err := p.out.ClearDirect(); err != nil {
			return err
		}
		return p.out.WriteAt(buf[s.from:s.to], off+int64(s.from))
	}
	if err != nil || off+int64(end) <= p.size {
		return err
	}
	return p.out.Truncate(p.size)
}

package sys

import (
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLocks is the most bytes of /proc/locks that are read.
const maxLocks = 16 << 20

// LockHolder returns the process that holds the flock of the file, or 0 if it is unknown:
// the lock was released meanwhile, or the holder is on another host or outside this PID
// namespace. The result is only for a message, so an error of finding it is not returned.
func (f *File) LockHolder() (pid int) {
	s, err := f.Stat()
	if err != nil {
		return 0
	}
	locks, err := Open("/proc/locks", unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer locks.Close()
	data, err := io.ReadAll(io.LimitReader(locks.Stream(), maxLocks))
	if err != nil {
		return 0
	}
	return findHolder(string(data), s.Dev, s.Ino)
}

// findHolder searches the text of proc_locks(5). The device there is that of the
// superblock, which on btrfs is not the device of stat. If no line has the device, a line
// with the inode number is accepted, as long as it is the only one.
func findHolder(locks string, dev, ino uint64) (pid int) {
	sameInode := 0
	for line := range strings.Lines(locks) {
		l, ok := parseFlock(line)
		if !ok || l.ino != ino {
			continue
		}
		if l.dev == dev {
			return l.pid
		}
		sameInode++
		pid = l.pid
	}
	if sameInode != 1 {
		return 0
	}
	return pid
}

type heldFlock struct {
	pid      int
	dev, ino uint64
}

// parseFlock reads a line like
//
//	1: FLOCK  ADVISORY  WRITE 4711 fe:00:131085 0 EOF
//
// A process that waits has "->" before FLOCK and is not a holder.
func parseFlock(line string) (l heldFlock, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "FLOCK" {
		return heldFlock{}, false
	}
	id := strings.Split(fields[5], ":")
	if len(id) != 3 {
		return heldFlock{}, false
	}
	pid, err := strconv.Atoi(fields[4])
	major, majorErr := strconv.ParseUint(id[0], 16, 32)
	minor, minorErr := strconv.ParseUint(id[1], 16, 32)
	ino, inoErr := strconv.ParseUint(id[2], 10, 64)
	if err != nil || majorErr != nil || minorErr != nil || inoErr != nil {
		return heldFlock{}, false
	}
	// Some file systems show a negative number for a lock that another host holds.
	return heldFlock{max(pid, 0), unix.Mkdev(uint32(major), uint32(minor)), ino}, true
}

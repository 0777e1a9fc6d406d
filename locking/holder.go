package locking

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/sys"
)

// Holder is the process that has f's flock, 0 if it cannot be told: the lock was
// given back meanwhile, or is held on another host or outside this PID namespace.
// It is only for a message, so its own errors are none.
func Holder(f *sys.File) (pid int) {
	s, err := f.Stat()
	if err != nil {
		return 0
	}
	locks, err := sys.Open("/proc/locks", unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer locks.Close() //nolint:errcheck // opened for reading
	data, err := readAll(locks, maxList)
	if err != nil {
		return 0
	}
	return findHolder(string(data), s.Dev, s.Ino)
}

// findHolder looks through proc_locks(5). The device there is the superblock's,
// which on btrfs is not stat's; then the inode number alone has to do, if there
// is no doubt about it.
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

type flock struct {
	pid      int
	dev, ino uint64
}

// parseFlock reads a line like
//
//	1: FLOCK  ADVISORY  WRITE 4711 fe:00:131085 0 EOF
//
// A waiting process has "->" before FLOCK and is no holder.
func parseFlock(line string) (l flock, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "FLOCK" {
		return flock{}, false
	}
	id := strings.Split(fields[5], ":")
	if len(id) != 3 {
		return flock{}, false
	}
	pid, err := strconv.Atoi(fields[4])
	major, majorErr := strconv.ParseUint(id[0], 16, 32)
	minor, minorErr := strconv.ParseUint(id[1], 16, 32)
	ino, inoErr := strconv.ParseUint(id[2], 10, 64)
	if err != nil || majorErr != nil || minorErr != nil || inoErr != nil {
		return flock{}, false
	}
	// Of a lock that another host holds some file systems show a negative number.
	return flock{max(pid, 0), unix.Mkdev(uint32(major), uint32(minor)), ino}, true
}

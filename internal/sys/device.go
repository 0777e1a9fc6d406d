package sys

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// QueueDepth returns how many requests the block device below a directory queues,
// 0 if there is no device or it does not say. The queue of a partition is that of
// its disk. See Documentation/block/queue-sysfs.rst, nr_requests.
func (f *File) QueueDepth() int {
	s, err := f.Stat()
	if err != nil {
		return 0
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(s.Dev), unix.Minor(s.Dev))
	for _, queue := range []string{"/queue", "/../queue"} {
		if depth, ok := readNumber(device + queue + "/nr_requests"); ok {
			return depth
		}
	}
	return 0
}

// readNumber reads a file of sysfs with one number, 0 if it holds something else.
func readNumber(path string) (n int, exists bool) {
	f, err := Open(path, unix.O_RDONLY)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	buf := make([]byte, 32)
	size, _ := f.ReadAt(buf, 1, 0)
	_, _ = fmt.Sscan(strings.TrimSpace(string(buf[:size])), &n)
	return n, true
}

// IsMountPoint reports whether a directory with that state is a mount point. It asks
// statx, which knows bind mounts; before Linux 5.8 the device of the parent directory
// tells.
func (f *File) IsMountPoint(s *Stat) bool {
	if s.MountPoint {
		return true
	}
	above, err := f.StatAt("..")
	return err == nil && above.Dev != s.Dev
}

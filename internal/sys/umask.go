package sys

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// Umask returns the umask of this process, read from /proc (Linux 4.7): umask(2) would
// change it for all threads. known is false if /proc has no answer.
func Umask() (mask uint32, known bool) {
	f, err := Open("/proc/self/status", unix.O_RDONLY)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	buf := make([]byte, 4096)
	n, err := f.ReadAt(buf, 1, 0)
	_, rest, found := bytes.Cut(buf[:n], []byte("\nUmask:\t"))
	line, _, whole := bytes.Cut(rest, []byte{'\n'})
	if err != nil || !found || !whole {
		return 0, false
	}
	v, err := strconv.ParseUint(string(line), 8, 32)
	return uint32(v), err == nil
}

package sys

import "time"

// RealStat is the real path of a file, without symbolic links, and its state.
type RealStat struct {
	Path string
	Stat
}

// StatWithin returns the real path and the state of a file, nil if there is none. It
// waits no longer than timeout for a server that does not answer, and reports whether
// it got an answer. The thread that asks is left behind. (A thread that the kernel does
// not release, as with FUSE, still keeps the process from exiting; NFS releases it.)
func StatWithin(path string, timeout time.Duration) (s *RealStat, answered bool) {
	found := make(chan *RealStat, 1)
	go func() {
		defer close(found)
		real, err := RealPath(path)
		if err != nil {
			return
		}
		if s, err := StatPath(real); err == nil {
			found <- &RealStat{real, s}
		}
	}()
	select {
	case s := <-found:
		return s, true
	case <-time.After(timeout):
		return nil, false
	}
}

package faultfs

import (
	"sync"
	"time"
)

// rateLimiter passes bytes at a rate, which all its callers share.
type rateLimiter struct {
	mu   sync.Mutex
	rate int64     // bytes/s; 0: no limit
	free time.Time // when the bytes taken so far have passed
}

// rateSlack is how far a rateLimiter may lag behind its rate and catch up: timers fire
// late. An idle disk passes the bytes of this time at once.
const rateSlack = 5 * time.Millisecond

// waitFor waits until n bytes have passed.
func (l *rateLimiter) waitFor(n int) {
	l.mu.Lock()
	if l.rate == 0 {
		l.mu.Unlock()
		return
	}
	now := time.Now()
	if l.free.Before(now.Add(-rateSlack)) {
		l.free = now.Add(-rateSlack)
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait)
	}
}

func (l *rateLimiter) setRate(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.free = rate, time.Now()
}

// SetRate limits all reads together to read bytes/s, and all writes to write bytes/s; 0 is
// no limit. It does not limit copy_file_range.
func (fs *FS) SetRate(read, write int64) {
	fs.reads.setRate(read)
	fs.writes.setRate(write)
}

// SetSize sets the size of the file system in bytes. It may be called at any time, and
// the files stay. Every inode takes a page of 4 KiB, and so does every page that is not
// a hole. If hidden is true, statfs still reports the previous size, so that only a
// write shows that the file system is full.
func (fs *FS) SetSize(bytes int64, hidden bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.size = bytes
	if !hidden {
		fs.reported = bytes
	}
}

// UsedBytes returns how many bytes are in use.
func (fs *FS) UsedBytes() int64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.used
}

// hasRoom reports whether so many more pages fit. fs.mu must be held.
func (fs *FS) hasRoom(pages int64) bool { return fs.used+pages*pageSize <= fs.size }

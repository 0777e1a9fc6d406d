package faultfs

import (
	"sync"
	"time"
)

// limiter gives out bytes at a rate, whatever the number of those who ask.
type limiter struct {
	mu   sync.Mutex
	rate int64     // bytes/s; 0: no limit
	free time.Time // when what was given out is through
}

// slack is how far a limiter may be behind its rate and make up for it: timers
// come late. It is also what an idle disk gives out at once.
const slack = 5 * time.Millisecond

// take waits until n bytes are through.
func (l *limiter) take(n int) {
	l.mu.Lock()
	if l.rate == 0 {
		l.mu.Unlock()
		return
	}
	now := time.Now()
	if l.free.Before(now.Add(-slack)) {
		l.free = now.Add(-slack)
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait)
	}
}

func (l *limiter) set(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.free = rate, time.Now()
}

// SetRate limits all reads together, and all writes, to so many bytes/s; 0 is no
// limit. What copy_file_range moves is both.
func (fs *FS) SetRate(read, write int64) {
	fs.reads.set(read)
	fs.writes.set(write)
}

// SetSize makes the file system so many bytes large, at any time; what is on it
// stays. Every inode takes a page of 4 KiB, and every page that is not a hole.
// With hidden, statfs goes on telling the size before: that it is full shows only
// when it is written to.
func (fs *FS) SetSize(bytes int64, hidden bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.size = bytes
	if !hidden {
		fs.told = bytes
	}
}

// Used is how many bytes are taken.
func (fs *FS) Used() int64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.used
}

// room reports whether so many more pages fit. fs.mu is held.
func (fs *FS) room(pages int64) bool { return fs.used+pages*pageSize <= fs.size }

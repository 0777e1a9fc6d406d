package copier

import "time"

// Observer hears how a copy goes on. Its methods are called from many
// goroutines at once, often, and must not block.
type Observer interface {
	// Planned is told what there is to do, files and bytes in all: once, or again if
	// that turns out to be another number.
	Planned(files, bytes int64)
	// Copied is told of bytes written, or kept from an interrupted copy.
	Copied(bytes int64)
	// ReadBack is told of bytes read from the SSD and found equal.
	ReadBack(bytes int64)
	// FileDone is told of each file that is copied and read back.
	FileDone()
}

// Nobody is the Observer that does not listen.
type Nobody struct{}

// Planned does nothing.
func (Nobody) Planned(files, bytes int64) {}

// Copied does nothing.
func (Nobody) Copied(bytes int64) {}

// ReadBack does nothing.
func (Nobody) ReadBack(bytes int64) {}

// FileDone does nothing.
func (Nobody) FileDone() {}

// Timer hears how long parts of a copy took. Its methods are called from many goroutines
// at once, and must not block.
type Timer interface {
	// Block is told of each block: read, summed and written. Of small files that are
	// read many at once the reading is not in it.
	Block(took time.Duration)
	// File is told of each file, from opening it to its being found equal.
	File(took time.Duration)
	// Sync is told of each flush: of a file, or of the whole file system.
	Sync(took time.Duration)
}

// now is the time for a Timer, if there is one.
func (c *copying) now() (t time.Time) {
	if c.Timer != nil {
		t = time.Now()
	}
	return t
}

// synced runs a flush.
func (c *copying) synced(flush func() error) error {
	start := c.now()
	err := flush()
	if c.Timer != nil && err == nil {
		c.Timer.Sync(time.Since(start))
	}
	return err
}

// fileDone says that a file that was begun at a time is copied and read back.
func (c *copying) fileDone(begun time.Time) {
	if c.Timer != nil && !begun.IsZero() {
		c.Timer.File(time.Since(begun))
	}
	c.Observer.FileDone()
}

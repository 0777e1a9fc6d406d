package copier

import "time"

// Observer receives the progress of a copy. Its methods are called often, and from many
// goroutines at once. They must not block.
type Observer interface {
	// Planned reports the number of files and bytes to copy. It is called once, and
	// again if the numbers change.
	Planned(files, bytes int64)
	// Copied reports bytes that were written, or kept from an interrupted copy.
	Copied(bytes int64)
	// ReadBack reports bytes that were read from the SSD and found equal.
	ReadBack(bytes int64)
	// FileDone reports one file that is copied and read back.
	FileDone()
}

// NopObserver is an Observer that does nothing.
type NopObserver struct{}

// Planned does nothing.
func (NopObserver) Planned(files, bytes int64) {}

// Copied does nothing.
func (NopObserver) Copied(bytes int64) {}

// ReadBack does nothing.
func (NopObserver) ReadBack(bytes int64) {}

// FileDone does nothing.
func (NopObserver) FileDone() {}

// Timer receives the duration of the parts of a copy. Its methods are called from many
// goroutines at once. They must not block.
type Timer interface {
	// Block reports one block: reading it, computing its sum and writing it. For a small
	// file that was read together with others, the time of the read is not included.
	Block(took time.Duration)
	// File reports one file, from opening it until it has read back equal.
	File(took time.Duration)
	// Sync reports one flush of a file or of the whole file system.
	Sync(took time.Duration)
}

// timerStart returns the current time, or the zero time if there is no Timer.
func (c *copyRun) timerStart() (t time.Time) {
	if c.Timer != nil {
		t = time.Now()
	}
	return t
}

// timedSync calls flush and reports its duration.
func (c *copyRun) timedSync(flush func() error) error {
	start := c.timerStart()
	if err := flush(); err != nil {
		return err
	}
	if c.Timer != nil {
		c.Timer.Sync(time.Since(start))
	}
	return nil
}

// fileDone reports a file that is copied and read back. begun is the result of
// timerStart when the file was opened.
func (c *copyRun) fileDone(begun time.Time) {
	if c.Timer != nil && !begun.IsZero() {
		c.Timer.File(time.Since(begun))
	}
	c.Observer.FileDone()
}

package copier

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

package bench

import (
	"time"

	"shard_to_ssd/copier"
)

// Profile is how much is measured, and so how long it takes.
type Profile string

// The profiles. Quick is some 2 minutes, Standard some 15; Sustained writes on until a
// share of the free space is full.
const (
	Quick    Profile = "quick"
	Standard Profile = "standard"
	Long     Profile = "sustained"
)

// Config says what to measure. The zero value of everything but Target means to choose.
type Config struct {
	Target  string // directory on the SSD; all is done in a new one in it
	Source  string // a real directory to copy; "": only workloads that are made
	Profile Profile
	Size    int64 // bytes of one copy of the large workload
	Engines []copier.Engine
	Blocks  []int64 // bytes of one request
	Jobs    []int
	Samples int

	Reading time.Duration // how long a reader is measured alone

	// Share of the free space that a Sustained may fill, 0 to 1: it is written up to three
	// times. Pause is how long the device rests before each.
	Share float64
	Pause time.Duration

	// Yes allows to write more than a tenth of the free space. Tell, unless it is nil, is
	// told beforehand what a run costs.
	Yes  bool
	Tell func(Cost)

	// Warn, unless it is nil, is told of each warning at once. All are in the Result, too.
	Warn func(string)

	// Watch finds out what device the target is on, and on what machine, and its
	// temperature until known is called. SameDrive tells whether two paths of different
	// file systems are on one drive nevertheless. Package facts has both; with nil nothing
	// is known, and they are not.
	Watch     func(target string, hideSerial bool) (known func() Facts, err error)
	SameDrive func(a, b string) bool

	HideSerial bool   // from Watch
	Seed       uint64 // 0: of the clock
	Version    string // of the program
	Command    []string
	Progress   Progress // nil: none
}

// Progress hears how a run goes on. Its methods return at once.
type Progress interface {
	// Begin is told of each step: what it is, what comes after it ("": nothing), and
	// how many steps there are.
	Begin(step, steps int, what, next string)
	// Moved is told of bytes as they are moved.
	Moved(bytes int64)
	// Rest is told how long all that is left will take, as far as is known.
	Rest(left time.Duration)
}

package bench

import "time"

// Profile selects the amount of measurements, and with it the duration of a run.
type Profile string

// The profiles. Quick takes about 2 minutes, Standard about 15. Long writes until a share
// of the free space is full.
const (
	Quick    Profile = "quick"
	Standard Profile = "standard"
	Long     Profile = "sustained"
)

// Config is the configuration of Run. A zero field takes its value from the Profile; only
// Target is required.
type Config struct {
	Target  string // directory on the SSD; Run works in a new directory below it
	Source  string // real directory to copy in addition to the workloads; "": none
	Profile Profile
	Size    int64    // bytes of one copy of the large workload
	Engines []string // names of the copier's engines
	Blocks  []int64  // bytes of one request
	Jobs    []int
	Samples int

	ReadAlone time.Duration // how long the reader reads alone

	// Share is the part of the free space that the sustained write fills, from 0 to 1. It
	// is written up to three times. The drive rests for Pause before each.
	Share float64
	Pause time.Duration

	// AllowCostly allows a run that writes more than a tenth of the free space. OnCost,
	// unless it is nil, is called with the cost before anything is written.
	AllowCostly bool
	OnCost      func(Cost)

	// OnWarning, unless it is nil, is called at once with each warning. The Result has
	// all of them.
	OnWarning func(string)

	// SetProcessors, unless it is nil, sets GOMAXPROCS before each measurement to the
	// number of goroutines that it blocks in system calls, or to the value from before the
	// run. Without it, ceilings and copies are measured too low.
	SetProcessors func(n int)

	// WatchFacts collects facts about the drive of target and the machine, and records
	// the temperature until known is called. SameDrive reports whether two paths on
	// different file systems are on one drive. Package facts has both functions. Without
	// WatchFacts no fact is known; without SameDrive different file systems count as
	// different drives.
	WatchFacts func(target string) (known func() Facts, err error)
	SameDrive  func(a, b string) bool

	Seed     uint64 // 0: taken from the clock
	Version  string // of the program
	Command  []string
	Progress Progress // nil: none
}

// Progress receives the progress of a run. Its methods must return at once.
type Progress interface {
	// BeginStep is called when a step of a number of steps begins, with its description
	// and that of the next step. The last step has no next one: next is empty.
	BeginStep(step, steps int, what, next string)
	// BytesMoved is called with the bytes that were moved since the last call, from many
	// goroutines.
	BytesMoved(bytes int64)
	// TimeLeft is called with the estimated time until the end of the run.
	TimeLeft(left time.Duration)
}

package shardtossd

import (
	"io"
	"time"

	"shard_to_ssd/copier"
)

// Host says where shards and user files are on this host.
type Host struct {
	LockDir      string // directory of the user files; Ensure needs it to exist
	SSDDir       string // directory under which shards are published, must exist
	RequireMount bool   // refuse an SSD dir that is not a mount point
	Log          Logger // receives messages for people; nil: none
}

// Work says how an operation moves and reads bytes.
type Work struct {
	Jobs      int             // workers, at most 256; 0: chosen from CPUs and device
	Bandwidth int64           // bytes a second read and written, added up; 0: no limit
	Verbose   bool            // log the choices, and the time of each phase
	Observer  copier.Observer // receives progress; nil: none
}

// EnsureOptions are the options of Ensure.
type EnsureOptions struct {
	Host
	Work
	Shard       string         // path of the source; its last component is the shard's name
	ID          string         // the user to register
	Version     string         // of the calling program, recorded in the manifest
	Engine      copier.Engine  // zero value: chosen for each file
	Replace     bool           // copy over a directory that this tool did not publish
	NoResume    bool           // discard the stage of an interrupted copy
	LockTimeout *time.Duration // for all locks together; nil: no limit, 0: do not wait
}

// ReleaseOptions are the options of Release.
type ReleaseOptions struct {
	Host
	Shard       string         // the shard's name, or a path that ends with it
	ID          string         // the user to unregister
	Jobs        int            // goroutines that delete, at most 256; 0: chosen from CPUs and device
	Verbose     bool           // log the choices
	LockTimeout *time.Duration // for all locks together; nil: no limit, 0: do not wait
}

// VerifyOptions are the options of Verify.
type VerifyOptions struct {
	Host
	Work
	Shard  string        // the shard's name, or with Source the path of its source
	MaxAge time.Duration // skip a shard that passed less than this ago; 0: never skip
	Source bool          // compare the source with the manifest, too
}

// ScrubOptions are the options of Scrub.
type ScrubOptions struct {
	Host
	Work
	MaxAge time.Duration // skip shards that passed less than this ago; 0: skip none

	// OnShard receives the result and the error of each shard as soon as it is done,
	// one call after the other; nil: none. A shard that is not verified for a reason
	// that is no failure of the scrub has an outcome and no error.
	OnShard func(*VerifyResult, error)
}

// CheckSumsOptions are the options of CheckSums.
type CheckSumsOptions struct {
	Work
	Dir   string    // directory whose files are compared
	Sums  string    // list of XXH64 checksums in xxhsum's format; "-": Stdin
	Stdin io.Reader // for "-"; nil: empty
	Log   Logger    // receives messages for people; nil: none
}

// ListOptions are the options of List.
type ListOptions struct {
	Host
	Shard string // name of the only shard to list; empty: all
}

// RepairOptions are the options of Repair.
type RepairOptions struct {
	Host
	Work
	Shard       string         // path of the source
	Engine      copier.Engine  // zero value: chosen for each file
	DryRun      bool           // report the repairs and change nothing
	LockTimeout *time.Duration // for all locks together; nil: no limit, 0: do not wait
}

// AdoptOptions are the options of Adopt.
type AdoptOptions struct {
	Host
	Work
	Shard       string         // path of the source
	Version     string         // of the calling program, recorded in the manifest
	LockTimeout *time.Duration // for all locks together; nil: no limit, 0: do not wait
}

// Logger receives messages for people, one line each. Subsystem is the name in the
// older script's form LEVEL:subsystem:message: "shard_to_ssd" for the lock, "root"
// for everything else.
type Logger interface {
	Log(level Level, subsystem, message string)
}

// Level says how much a message matters.
type Level string

// The levels, as they are printed.
const (
	Info    Level = "INFO"
	Warning Level = "WARNING"
	Error   Level = "ERROR"
)

package shardtossd

import (
	"io"
	"time"

	"shard_to_ssd/copier"
)

// Options say which shard, where, and how. Ensure, Release, Verify, VerifyAll and
// List read the fields that concern them.
type Options struct {
	// Shard is the path of the source. Its last component is the shard's name,
	// which is all that Release, Verify and List need of it.
	Shard   string
	LockDir string // directory of the user files, must exist
	SSDDir  string // directory under which shards are published, must exist
	ID      string // the user to register or unregister

	// Manifest is a list of sums, "-" for standard input. Verify then reads it, and of
	// Options no place but Shard: the directory whose files it is about.
	Manifest string
	Stdin    io.Reader // for that; nil: there is nothing in it

	Version      string        // of the program, for the manifest
	Jobs         int           // workers; 0: chosen from CPUs and device
	Engine       copier.Engine // zero value: auto
	Bandwidth    int64         // bytes a second read and written, all added up; 0: no bound
	RequireMount bool          // refuse an SSD dir that is not a mount point
	Replace      bool          // copy afresh over a foreign directory
	NoResume     bool          // discard what an interrupted copy left
	Source       bool          // Verify compares with the source, too
	DryRun       bool          // Repair only says what it would do
	Verbose      bool          // log what was chosen, and how long each phase took

	// LockTimeout is how long to wait for the locks, of the user file and of the
	// state dir, in all: nil as long as it takes, 0 only tries.
	LockTimeout *time.Duration

	// MaxAge has Verify and VerifyAll skip a shard that was found as published less
	// than so long ago, and not damaged since; 0 skips none.
	MaxAge time.Duration
	// OnShard is told by VerifyAll of each shard as it is done, one after the other:
	// a Result and an error as of Verify; nil: nobody.
	OnShard func(*Result, error)

	Log      Logger          // nil: silent
	Observer copier.Observer // nil: none
}

// Logger takes lines for people. Subsystem is the logger's name in the older
// script's form LEVEL:logger:message: "root" for what is done, "shard_to_ssd"
// for the lock.
type Logger interface {
	Log(level Level, subsystem, message string)
}

// Level is how much a line matters.
type Level string

// The levels, as they are printed.
const (
	Info    Level = "INFO"
	Warning Level = "WARNING"
	Error   Level = "ERROR"
)

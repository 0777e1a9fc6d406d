package shardtossd

import (
	"time"

	"shard_to_ssd/verify"
)

// Outcome names the result of an operation. A failed operation has an empty one.
type Outcome string

// The outcomes.
const (
	Copied        Outcome = "copied"         // a new copy was published and the user registered
	AlreadyOnSSD  Outcome = "already-on-ssd" // the shard was present, the user is registered
	Unregistered  Outcome = "unregistered"   // the user is unregistered, others need the shard
	NotRegistered Outcome = "not-registered" // the user was not registered, others need the shard
	Removed       Outcome = "removed"        // the last user is unregistered and the shard deleted
	NothingToDo   Outcome = "nothing-to-do"  // no user file: nothing was deleted
	Verified      Outcome = "verified"       // every entry and block is as published
	Listed        Outcome = "listed"

	// A verification that proved nothing, without a failure.
	Skipped      Outcome = "skipped"       // it passed less than MaxAge ago
	NotPublished Outcome = "not-published" // this tool did not publish it: nothing to compare with
	Gone         Outcome = "gone"          // removed or replaced during a scrub

	Repaired        Outcome = "repaired" // the damage is repaired
	NothingToRepair Outcome = "nothing-to-repair"
	WouldRepair     Outcome = "would-repair"    // DryRun: the source has everything that is needed
	Adopted         Outcome = "adopted"         // the shard has a manifest now
	AlreadyAdopted  Outcome = "already-adopted" // it had one
)

// Summary is part of every result.
type Summary struct {
	Shard    string // name; empty for an operation on all shards
	Outcome  Outcome
	Duration time.Duration
	LockWait time.Duration // part of Duration, waiting for locks
	Jobs     int           // workers that read or copied; 0: none did
	Choices  []Choice      // what was chosen, in order
}

// Choice is a setting that was chosen, or given, and why.
type Choice struct {
	What  string // workers, block, depth, pace, engine
	Value string
	Why   string
}

// Transfer counts the files and bytes that a copy moved, and how.
type Transfer struct {
	Files        int64 // of the shard
	Bytes        int64 // of the shard
	ResumedBytes int64 // part of Bytes, kept from an interrupted copy
	Phases       []Phase
	Engines      map[string]EngineUsage // by name
	ReadBack     verify.ReadMode        // weakest mode in which the copy was read back
}

// Phase is one step of a copy.
type Phase struct {
	Name     string
	Duration time.Duration
	Bytes    int64 // of the shard, that it moved or read; 0: does not apply
}

// EngineUsage counts the files and bytes that one engine moved.
type EngineUsage struct {
	Files int64
	Bytes int64
}

// Comparison counts the files that were read and compared, and lists the differences.
type Comparison struct {
	Files     int64 // to be compared
	Bytes     int64 // to be compared
	FilesRead int64
	BytesRead int64
	ReadBack  verify.ReadMode // weakest mode in which the SSD was read

	// Differences are the first ones found, at most 10,000 and 16 MiB of them;
	// DifferenceCount is the number of all.
	Differences     []verify.Difference
	DifferenceCount int64
}

// SourceComparison is the result of comparing the source with the manifest.
type SourceComparison struct {
	SourceState       SourceState // empty: not compared
	SourceDifferences int64       // places in which the source differs, part of DifferenceCount
}

// SourceState is the state of a source.
type SourceState string

// The states of a source.
const (
	SourceSame    SourceState = "as-published"
	SourceChanged SourceState = "changed"
	SourceAbsent  SourceState = "absent"
)

// EnsureResult is the result of Ensure.
type EnsureResult struct {
	Summary
	Transfer
	Stale bool // the shard on the SSD was copied from another source
}

// ReleaseResult is the result of Release.
type ReleaseResult struct{ Summary }

// VerifyResult is the result of Verify.
type VerifyResult struct {
	Summary
	Comparison
	SourceComparison
}

// ScrubResult is the result of Scrub.
type ScrubResult struct {
	Summary
	Comparison // of all shards that were begun; without Differences
	Counts     ScrubCounts
}

// ScrubCounts counts shards by the result of their verification.
type ScrubCounts struct {
	Shards       int // all
	Verified     int // as published
	Damaged      int
	Skipped      int // passed less than MaxAge ago
	Failed       int // could not be verified
	NotPublished int // by this tool
	Gone         int // removed or replaced meanwhile
	Left         int // not verified, or not completely, when the context ended
}

// CheckSumsResult is the result of CheckSums.
type CheckSumsResult struct {
	Summary
	Comparison

	// BadLines are the first lines that are no checksum of a file, at most 20;
	// BadLineCount is the number of all.
	BadLines     []verify.BadLine
	BadLineCount int64
	Unlisted     int64 // files without a line, counted if no damage was found
}

// ListResult is the result of List.
type ListResult struct {
	Summary
	Shards []ShardInfo // in the order of their names
}

// RepairResult is the result of Repair.
type RepairResult struct {
	Summary
	Comparison
	SourceComparison
	Copied Transfer // of what was copied again; Files and Bytes are of that alone

	// Repairs are the first entries that were repaired, or with DryRun would be;
	// RepairCount is the number of all.
	Repairs     []RepairedEntry
	RepairCount int64
}

// RepairedEntry is one entry of a shard that was repaired.
type RepairedEntry struct {
	Path   string // below the shard; "." is the shard itself
	Action RepairAction
}

// RepairAction says how an entry was repaired.
type RepairAction string

// The actions.
const (
	RepairCopied   RepairAction = "copied"   // copied again from the source, and put in its place
	RepairMetadata RepairAction = "metadata" // owner, mode, mtime or extended attributes, in place
	RepairRemoved  RepairAction = "removed"  // it was not part of the shard
)

// AdoptResult is the result of Adopt.
type AdoptResult struct {
	Summary
	Comparison
}

// State is the state of a shard, see ShardInfo.
type State string

// The states. A list of users that cannot be read counts as users.
const (
	StatePublished State = "published" // bound manifest, users
	StateUnproven  State = "unproven"  // users, but no bound manifest: the older script copied it
	StateOrphan    State = "orphan"    // bound manifest, no users
	StateForeign   State = "foreign"   // neither
	StateAbsent    State = "absent"    // only users, stage or trash
)

// ShardInfo describes one shard.
type ShardInfo struct {
	Name      string
	State     State
	Users     []string
	Files     int64      // by the manifest
	Bytes     int64      // by the manifest
	Source    string     // by the manifest; empty: unknown
	Published *time.Time // by the manifest; nil: unknown

	Verified *time.Time      // when the last verification without damage began; nil: never
	ReadBack verify.ReadMode // how that verification read

	Damaged         *time.Time      // when a verification last found damage; nil: never
	DamagedReadBack verify.ReadMode // how that verification read
	Differences     int64           // that it found

	Stage      bool  // a copy is under way or was interrupted
	StageBytes int64 // part of StageTotal, copied
	StageTotal int64
	Copying    bool // a process holds the lock of the state dir now
	TrashTrees int  // waiting to be deleted
}

package shardtossd

import (
	"time"

	"shard_to_ssd/verify"
)

// Outcome is what an operation did.
type Outcome string

// The outcomes. A failed operation has none.
const (
	Copied        Outcome = "copied"         // a fresh copy was published and the user registered
	AlreadyOnSSD  Outcome = "already-on-ssd" // the shard was present, the user is registered
	Unregistered  Outcome = "unregistered"   // the user is gone, others need the shard
	NotRegistered Outcome = "not-registered" // there was nothing to unregister, others need the shard
	Removed       Outcome = "removed"        // the last user is gone, and the shard
	NothingToDo   Outcome = "nothing-to-do"  // no user file: nothing was deleted
	Verified      Outcome = "verified"       // every block and entry is what was copied
	Listed        Outcome = "listed"

	// Of a verification that proved nothing, and was not to.
	Skipped      Outcome = "skipped"       // it was found as published less than Options.MaxAge ago
	NotPublished Outcome = "not-published" // by this tool: there is nothing to compare it with
	Gone         Outcome = "gone"          // removed or replaced while all were verified

	Repaired        Outcome = "repaired" // what was damaged is as it was published
	NothingToRepair Outcome = "nothing-to-repair"
	WouldRepair     Outcome = "would-repair"    // and the source has what is needed
	Adopted         Outcome = "adopted"         // there is a manifest now
	AlreadyAdopted  Outcome = "already-adopted" // there was one
)

// Result is what an operation did, in the form --json prints. Sizes are bytes,
// times seconds.
type Result struct {
	Operation string  `json:"operation"` // copy, remove, verify, verify-all, list, repair, adopt
	Shard     string  `json:"shard,omitempty"`
	Outcome   Outcome `json:"outcome,omitempty"`
	Status    int     `json:"status"` // exit status
	Error     string  `json:"error,omitempty"`

	Files        int64   `json:"files"`
	Bytes        int64   `json:"bytes"`
	ResumedBytes int64   `json:"resumed_bytes"` // kept from an interrupted copy, part of Bytes
	Seconds      float64 `json:"seconds"`
	LockSeconds  float64 `json:"lock_seconds"` // of Seconds, waiting for the locks

	Choices  []Choice         `json:"choices,omitempty"`
	Phases   []Phase          `json:"phases,omitempty"`
	Engines  map[string]Usage `json:"engines,omitempty"`
	ReadBack string           `json:"read_back,omitempty"` // weakest mode of reading back: direct, buffered, cache
	Jobs     int              `json:"jobs,omitempty"`
	Stale    bool             `json:"stale"` // what is published was copied from another source

	// Differences are the first that were found, at most maxDifferences;
	// DifferenceCount is the number of all.
	Differences     []verify.Difference `json:"differences,omitempty"`
	DifferenceCount int64               `json:"difference_count,omitempty"`

	// FilesRead and BytesRead are what a verification has covered, of Files and Bytes.
	FilesRead int64 `json:"files_read,omitempty"`
	BytesRead int64 `json:"bytes_read,omitempty"`

	Scrub *Scrub `json:"scrub,omitempty"` // of VerifyAll
	// Of a directory that was compared with a list of sums. BadLines are the first lines
	// that say nothing of any file, at most maxBadLines; Unlisted is how many files are
	// in Dir that no line is about, counted when no damage was found.
	Dir          string           `json:"dir,omitempty"`
	Manifest     string           `json:"manifest,omitempty"`
	BadLines     []verify.BadLine `json:"bad_lines,omitempty"`
	BadLineCount int64            `json:"bad_line_count,omitempty"`
	Unlisted     int64            `json:"unlisted,omitempty"`

	// Of a comparison with the source: what it is, and in how many places, part of
	// DifferenceCount, it is not what was published.
	SourceState       SourceState `json:"source_state,omitempty"`
	SourceDifferences int64       `json:"source_difference_count,omitempty"`

	// Repairs are the first places that were mended, or would be; RepairCount is the
	// number of all.
	Repairs     []Mended `json:"repairs,omitempty"`
	RepairCount int64    `json:"repair_count,omitempty"`

	Shards []ShardInfo `json:"shards,omitempty"`
}

// Scrub counts what became of the shards that VerifyAll has found.
type Scrub struct {
	Shards       int `json:"shards"`        // in all
	Verified     int `json:"verified"`      // as they were published
	Damaged      int `json:"damaged"`       //
	Skipped      int `json:"skipped"`       // verified less than Options.MaxAge ago
	Failed       int `json:"failed"`        // could not be verified
	NotPublished int `json:"not_published"` // by this tool
	Gone         int `json:"gone"`          // removed or replaced meanwhile
	Left         int `json:"left"`          // not come to, or not to their end, when it was stopped
}

// SourceState is what a comparison found the source to be.
type SourceState string

// The states of a source.
const (
	SourceSame    SourceState = "as-published"
	SourceChanged SourceState = "changed"
	SourceAbsent  SourceState = "absent"
)

// Mended is one entry that was mended.
type Mended struct {
	Path   string     `json:"path"` // below the shard; "." is the shard itself
	Action MendAction `json:"action"`
}

// MendAction is how an entry was mended.
type MendAction string

// The actions.
const (
	CopiedAgain  MendAction = "copied"   // made anew from the source, and put in its place
	MetadataBack MendAction = "metadata" // owner, mode, mtime or extended attributes, in place
	TakenAway    MendAction = "removed"  // it was not part of the shard
)

// Choice is something that was chosen, or told, and why.
type Choice struct {
	What  string `json:"what"` // workers, block, depth, pace, engine
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Phase is one step of a copy.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes,omitempty"` // of the shard, that it moved or read
}

// Usage is what one engine moved.
type Usage struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// State is what List says a shard is.
type State string

// The states, in the words of the design. A list of users that cannot be read counts
// as users.
const (
	Published State = "published" // bound manifest, users
	Unproven  State = "unproven"  // users but no bound manifest: copied by the older script
	Orphan    State = "orphan"    // bound manifest, no users
	Foreign   State = "foreign"   // neither
	Absent    State = "absent"    // only users, stage or trash
)

// ShardInfo is what List knows of one shard.
type ShardInfo struct {
	Name      string     `json:"name"`
	State     State      `json:"state"`
	Users     []string   `json:"users"`
	Files     int64      `json:"files"` // by the manifest
	Bytes     int64      `json:"bytes"` // by the manifest
	Source    string     `json:"source,omitempty"`
	Published *time.Time `json:"published,omitempty"`
	Verified  *time.Time `json:"verified,omitempty"`  // when the last --verify that found no damage began
	ReadBack  string     `json:"read_back,omitempty"` // how that --verify read

	Damaged         *time.Time `json:"damaged,omitempty"` // when a --verify last found damage
	DamagedReadBack string     `json:"damaged_read_back,omitempty"`
	Differences     int64      `json:"differences,omitempty"` // that it found

	Stage      bool  `json:"stage"`       // a copy is under way or was interrupted
	StageBytes int64 `json:"stage_bytes"` // of StageTotal, copied
	StageTotal int64 `json:"stage_total"`
	Copying    bool  `json:"copying"` // a process holds the state dir now
	TrashTrees int   `json:"trash_trees"`
}

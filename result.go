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
)

// Result is what an operation did, in the form --json prints. Sizes are bytes,
// times seconds.
type Result struct {
	Operation string  `json:"operation"` // copy, remove, verify, list
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

	Shards []ShardInfo `json:"shards,omitempty"`
}

// Choice is something that was chosen, or told, and why.
type Choice struct {
	What  string `json:"what"` // workers, block, pace, engine
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
	Verified  *time.Time `json:"verified,omitempty"`  // last --verify that found no damage
	ReadBack  string     `json:"read_back,omitempty"` // how that --verify read

	Stage      bool  `json:"stage"`       // a copy is under way or was interrupted
	StageBytes int64 `json:"stage_bytes"` // of StageTotal, copied
	StageTotal int64 `json:"stage_total"`
	Copying    bool  `json:"copying"` // a process holds the state dir now
	TrashTrees int   `json:"trash_trees"`
}

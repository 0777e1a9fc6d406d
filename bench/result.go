package bench

import "time"

// ResultVersion is the format version of the file of a Result. Decode refuses every other
// version.
const ResultVersion = 1

// Result has all measurements of a run. Times are in seconds, sizes in bytes, rates in
// bytes a second, latencies in seconds. An unknown value is null, never a guess.
type Result struct {
	Version int       `json:"version"`
	Tool    string    `json:"tool"`    // version of the program
	Command []string  `json:"command"` // complete command line
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Profile string    `json:"profile"`
	Size    int64     `json:"size"`    // bytes of one copy of the large workload
	Written int64     `json:"written"` // total bytes: the endurance that the run used up
	Seed    uint64    `json:"seed"`    // of the order and the data
	// Complete is false if the run ended early. The measurements until then are valid.
	Complete bool     `json:"complete"`
	Warnings []string `json:"warnings"`
	// CacheMethod is the method that emptied the caches before each sample: drop_caches,
	// or fadvise for each file if the user was not root.
	CacheMethod string `json:"cold"`

	Facts     Facts      `json:"facts"`
	Ceilings  []Ceiling  `json:"ceilings"`
	Cases     []Case     `json:"cases"`
	Sustained *Sustained `json:"sustained,omitempty"`
	Readers   *Readers   `json:"readers,omitempty"`
}

// IsEmpty reports whether the result has no measurement.
func (r *Result) IsEmpty() bool { return len(r.Measures()) == 0 }

// Way is a direction of I/O.
type Way string

// The ways. Both reads a source while it writes a destination.
const (
	Read  Way = "read"
	Write Way = "write"
	Both  Way = "both"
)

// Ceiling is the rate of the drive without any other load, for one block size and depth.
type Ceiling struct {
	Way     Way       `json:"way"`
	Block   int64     `json:"block"`
	Depth   int       `json:"depth"`   // simultaneous requests; for Both in each direction
	Rates   []float64 `json:"rates"`   // of each sample; for Both of one direction
	Latency []Latency `json:"latency"` // of the requests of each sample
}

// Case is one combination of the matrix, and its samples.
type Case struct {
	Workload string `json:"workload"`
	Engine   string `json:"engine"`
	Block    int64  `json:"block"` // bytes of one request to a large file
	Jobs     int    `json:"jobs"`
	Files    int64  `json:"files"`
	Bytes    int64  `json:"bytes"`

	Samples []Sample `json:"samples"`
	// Ceiling is the highest measured rate of Both, or of Write if the source is on
	// another drive; 0 if it was not measured. It is for comparison: a copy that is read
	// back moves more bytes.
	Ceiling float64 `json:"ceiling"`
	// Refused is the reason why the samples are no result, for example because extents
	// were shared and nothing was copied.
	Refused string `json:"refused,omitempty"`
}

// Sample is one copy. All times count from its beginning.
type Sample struct {
	FirstDone float64 `json:"first_done"` // the first file was copied and read back
	LastDone  float64 `json:"last_done"`  // the last file was copied and read back
	Copied    float64 `json:"copied"`     // the last byte was written
	Durable   float64 `json:"durable"`    // everything was on stable storage
	Verified  float64 `json:"verified"`   // everything was read back and equals its manifest

	CPU    float64 `json:"cpu"`    // seconds, user and system
	Memory int64   `json:"memory"` // peak of resident bytes
	Cached *int64  `json:"cached"` // bytes of the source in the page cache before the copy; 0 proves cold caches

	Block Latency `json:"block_latency"` // of a block: read, hash, write
	File  Latency `json:"file_latency"`  // of a file, from opening it until it is read back
	Sync  Latency `json:"sync_latency"`  // of a flush
}

// Latency has the percentiles of Count measurements.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Point has the rate since the previous point.
type Point struct {
	Second float64 `json:"second"`
	Offset int64   `json:"offset"` // bytes written until then
	Rate   float64 `json:"rate"`
}

// Sustained is a long write with direct requests of Block bytes, and two more after
// pauses.
type Sustained struct {
	Block  int64   `json:"block"`
	Depth  int     `json:"depth"`
	Began  float64 `json:"began"` // seconds after the beginning of the run
	Points []Point `json:"points"`
	Rate   float64 `json:"rate"` // mean of all points
	// Complete is false if a signal or a lack of space ended the write early, perhaps
	// before its cliff. See IsConclusive.
	Complete bool `json:"complete"`
	// Cliff is the point from which the drive stayed slower, or null without one.
	Cliff       *Cliff   `json:"cliff"`
	Cliffs      []Cliff  `json:"cliffs"`       // all cliffs; Cliff is the first
	WorstSecond *float64 `json:"worst_second"` // lowest rate of any second; null if the write was shorter

	// The second write, after an idle pause.
	Pause          float64 `json:"pause"`    // seconds
	AfterPause     []Point `json:"after_it"` // of the second write
	AfterPauseRate float64 `json:"after_it_rate"`
	// Recovery is the number of bytes that were again as fast as before the cliff, or
	// null without a cliff. If Recovered is true, all bytes of the second write were, so
	// it is a lower bound.
	Recovery  *float64 `json:"recovery"`
	Recovered bool     `json:"recovered"`
	// RecoverySeconds estimates the pause after which as many bytes are fast as before
	// the cliff, if the cache empties at a constant rate. If Recovered is true, it is an
	// upper bound. It is null without a cliff, and if no byte was fast again.
	RecoverySeconds *float64 `json:"recovery_seconds"`

	// The third write, after another pause, with a reader beside it.
	BesideReader []Point  `json:"beside"`
	Readers      *Readers `json:"readers"` // null if the third write did not begin
}

// Cliff is the point where a fast cache of the drive is full.
type Cliff struct {
	Offset int64   `json:"offset"` // bytes written until then
	Second float64 `json:"second"`
	Before float64 `json:"before"` // rate
	After  float64 `json:"after"`
}

// Readers has the latency of random reads of 4 KiB, alone and beside a copy or a
// sustained write.
type Readers struct {
	Alone  Latency `json:"alone"`
	Beside Latency `json:"beside"`
	Rate   float64 `json:"rate"` // of the copy or the write
}

// Facts are facts about the drive and the machine. Nil means unknown.
type Facts struct {
	Device       *string       `json:"device"` // name in /sys/block
	Model        *string       `json:"model"`
	Firmware     *string       `json:"firmware"`
	Serial       *string       `json:"serial"`    // null if it is hidden
	Capacity     *int64        `json:"capacity"`  // bytes
	Transport    *string       `json:"transport"` // nvme, sata, virtio …
	LinkSpeed    *string       `json:"link_speed"`
	LinkWidth    *int          `json:"link_width"` // lanes
	Rotational   *bool         `json:"rotational"`
	Scheduler    *string       `json:"scheduler"`
	QueueDepth   *int          `json:"queue_depth"`
	Temperatures []Temperature `json:"heat"` // temperatures over time; empty if unknown
	FileSystem   *string       `json:"file_system"`
	Mount        *string       `json:"mount_options"`
	Size         *int64        `json:"fs_size"` // bytes of the file system
	Free         *int64        `json:"fs_free"` // bytes, at the beginning
	Kernel       *string       `json:"kernel"`
	CPU          *string       `json:"cpu"`
	CPUs         int           `json:"cpus"`
	Governor     *string       `json:"governor"`
	Memory       *int64        `json:"memory"`  // bytes
	Virtual      *string       `json:"virtual"` // kind of virtual machine; null if it is not one

	// LinkSpeedMax and LinkWidthMax are the limits of the drive. A better slot may reach
	// them.
	LinkSpeedMax *string `json:"link_speed_max"`
	LinkWidthMax *int    `json:"link_width_max"`
	// Layers are between file system and drive, the uppermost first: lvm, crypt, raid1 …
	Layers []string `json:"layers"`
}

// Temperature is a temperature of the drive, in degrees Celsius.
type Temperature struct {
	Second  float64 `json:"second"`
	Celsius float64 `json:"celsius"`
	// Alarm is true if the sensor reports a temperature outside the limits that the drive
	// sets. Null means unknown.
	Alarm *bool `json:"alarm"`
}

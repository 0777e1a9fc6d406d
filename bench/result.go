package bench

import "time"

// ResultVersion is the version of the file that a Result is written as. A reader
// refuses what it does not know.
const ResultVersion = 1

// Result is all that a run has measured. Times are seconds, sizes bytes, rates bytes a
// second, latencies seconds. What could not be found out is null, never guessed.
type Result struct {
	Version int       `json:"version"`
	Tool    string    `json:"tool"`    // version of the program
	Command []string  `json:"command"` // the whole command line
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Profile string    `json:"profile"`
	Size    int64     `json:"size"`    // bytes of one copy of the large workload
	Written int64     `json:"written"` // bytes in all: what it has cost in endurance
	Seed    uint64    `json:"seed"`    // of the order and of the data
	// Complete is false of a run that was ended early: what is here was measured.
	Complete bool     `json:"complete"`
	Warnings []string `json:"warnings"`
	// Cold is how caches were emptied before each sample: drop_caches, or fadvise, a
	// file at a time, by who is not root.
	Cold string `json:"cold"`

	Facts     Facts      `json:"facts"`
	Ceilings  []Ceiling  `json:"ceilings"`
	Cases     []Case     `json:"cases"`
	Sustained *Sustained `json:"sustained,omitempty"`
	Readers   *Readers   `json:"readers,omitempty"`
}

// Empty reports whether nothing was measured.
func (r *Result) Empty() bool { return len(r.Measures()) == 0 }

// Way is a direction of I/O.
type Way string

// The ways. Both is a source that is read while a destination is written.
const (
	Read  Way = "read"
	Write Way = "write"
	Both  Way = "both"
)

// Ceiling is what the device does with one block size and depth and nothing else to do.
type Ceiling struct {
	Way     Way       `json:"way"`
	Block   int64     `json:"block"`
	Depth   int       `json:"depth"`   // requests under way at once; of Both on each side
	Rates   []float64 `json:"rates"`   // of each sample; of Both what is read, and as much is written
	Latency []Latency `json:"latency"` // of requests, of each sample
}

// Case is one setting of the matrix, and its samples.
type Case struct {
	Workload string `json:"workload"`
	Engine   string `json:"engine"`
	Block    int64  `json:"block"` // bytes of one request of a large file
	Jobs     int    `json:"jobs"`
	Files    int64  `json:"files"`
	Bytes    int64  `json:"bytes"`

	Samples []Sample `json:"samples"`
	// Ceiling is the rate of the best Both that was measured, or of the best Write if
	// the source is on another device; 0 if none was. The way of a copy that is read
	// back is longer: it is given for comparison.
	Ceiling float64 `json:"ceiling"`
	// Refused says why samples are no result, for example because extents were shared:
	// then nothing was copied.
	Refused string `json:"refused,omitempty"`
}

// Sample is one copy. The times are from its beginning.
type Sample struct {
	FirstDone float64 `json:"first_done"` // the first file was copied and read back
	LastDone  float64 `json:"last_done"`  // the last was
	Copied    float64 `json:"copied"`     // the last byte was written
	Durable   float64 `json:"durable"`    // all was on stable storage
	Verified  float64 `json:"verified"`   // all was read back, equal, and proven by its manifest

	CPU    float64 `json:"cpu"`    // user and system
	Memory int64   `json:"memory"` // the most that was resident
	Cached *int64  `json:"cached"` // bytes of the source in the page cache before it: proves that it was cold

	Block Latency `json:"block_latency"` // of a block, read, hashed and written
	File  Latency `json:"file_latency"`  // of a file, from opening it to its being read back
	Sync  Latency `json:"sync_latency"`  // of a flush
}

// Latency are percentiles of a number of measurements.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Point is the rate over the time since the point before it.
type Point struct {
	Second float64 `json:"second"`
	Offset int64   `json:"offset"` // bytes written until then
	Rate   float64 `json:"rate"`
}

// Sustained is a long write. Rates are of direct writes of Block bytes.
type Sustained struct {
	Block  int64   `json:"block"`
	Depth  int     `json:"depth"`
	Began  float64 `json:"began"` // seconds after the run began
	Points []Point `json:"points"`
	Rate   float64 `json:"rate"` // of all of it
	// Complete is false if it was ended early, by a signal or for want of space: then a
	// cliff may not have been come to. See Telling, too.
	Complete bool `json:"complete"`
	// Cliff is where it became slower for good, null if it did not.
	Cliff       *Cliff   `json:"cliff"`
	Cliffs      []Cliff  `json:"cliffs"`       // all there are; Cliff is the first
	WorstSecond *float64 `json:"worst_second"` // the least rate of any second, null of less than one

	// After an idle pause it was tried again.
	Pause       float64 `json:"pause"`    // seconds
	AfterIt     []Point `json:"after_it"` // of what was written then
	AfterItRate float64 `json:"after_it_rate"`
	// Recovery is how many bytes were as fast as before the cliff again, null without a
	// cliff; at least so many, if Recovered: all that was written then was.
	Recovery  *float64 `json:"recovery"`
	Recovered bool     `json:"recovered"`
	// RecoverySeconds is about how long a pause must be until as much is fast again as
	// before the cliff, if the cache empties evenly; at most that long, if Recovered. Null
	// without a cliff, and if nothing was fast again.
	RecoverySeconds *float64 `json:"recovery_seconds"`

	// After another pause it was tried with a reader beside it.
	Beside  []Point  `json:"beside"`
	Readers *Readers `json:"readers"` // null if it did not come to that
}

// Cliff is where a fast cache of the device is full.
type Cliff struct {
	Offset int64   `json:"offset"` // bytes written until then
	Second float64 `json:"second"`
	Before float64 `json:"before"` // rates
	After  float64 `json:"after"`
}

// Readers is what a reader of random 4 KiB blocks waits, alone and beside a copy or a
// sustained write.
type Readers struct {
	Alone  Latency `json:"alone"`
	Beside Latency `json:"beside"`
	Rate   float64 `json:"rate"` // of what is beside it
}

// Facts are what is known of the device and the machine. Nil: not known.
type Facts struct {
	Device     *string `json:"device"` // its name in /sys/block
	Model      *string `json:"model"`
	Firmware   *string `json:"firmware"`
	Serial     *string `json:"serial"`    // null also if it was to be hidden
	Capacity   *int64  `json:"capacity"`  // bytes
	Transport  *string `json:"transport"` // nvme, sata, virtio …
	LinkSpeed  *string `json:"link_speed"`
	LinkWidth  *int    `json:"link_width"` // lanes
	Rotational *bool   `json:"rotational"`
	Scheduler  *string `json:"scheduler"`
	QueueDepth *int    `json:"queue_depth"`
	Heat       []Heat  `json:"heat"` // over time; empty: not known
	FileSystem *string `json:"file_system"`
	Mount      *string `json:"mount_options"`
	Size       *int64  `json:"fs_size"` // bytes of the file system
	Free       *int64  `json:"fs_free"` // at the beginning: its fill is 1 - free/size
	Kernel     *string `json:"kernel"`
	CPU        *string `json:"cpu"`
	CPUs       int     `json:"cpus"`
	Governor   *string `json:"governor"`
	Memory     *int64  `json:"memory"`  // bytes
	Virtual    *string `json:"virtual"` // what virtual machine this is, if it is one

	// LinkSpeedMax and LinkWidthMax are what the drive could do in a better slot.
	LinkSpeedMax *string `json:"link_speed_max"`
	LinkWidthMax *int    `json:"link_width_max"`
	// Layers are between the file system and the device, the upper ones first: lvm,
	// crypt, raid1 …
	Layers []string `json:"layers"`
}

// Heat is the temperature of the device, in degrees Celsius.
type Heat struct {
	Second  float64 `json:"second"`
	Celsius float64 `json:"celsius"`
	// Alarm is what the sensor says: the temperature is out of the range that the drive
	// has set.
	Alarm *bool `json:"alarm"`
}

package bench

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"time"

	"shard_to_ssd/bench/internal/data"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/tree"
)

// ErrUsage is in the error for a Config that is wrong.
var ErrUsage = errors.New("wrong usage")

// settings are a Config in which every default is filled in.
type settings struct {
	size    int64
	engines []copier.Engine
	blocks  []int64
	jobs    []int
	samples int

	ceilingBlocks []int64
	ceilingDepths []int
	ceilingSize   int64 // bytes of one sample
	reading       time.Duration
	share         float64 // of the free space; 0: no sustained write
	pause         time.Duration
}

// ProfileInfo describes a profile in one line.
type ProfileInfo struct {
	Name    Profile
	Purpose string
}

// WorkloadInfo describes a workload in one line.
type WorkloadInfo struct {
	Name    string
	Purpose string
}

// Workloads returns the workloads that each run makes and copies.
func Workloads() (list []WorkloadInfo) {
	for _, w := range data.Workloads(gib) {
		list = append(list, WorkloadInfo{w.Name, w.Purpose})
	}
	return list
}

// Profiles returns all profiles.
func Profiles() []ProfileInfo {
	return []ProfileInfo{
		{Quick, "about 2 minutes: ceilings, copies as in production and with each engine that moves data, a reader beside a copy"},
		{Standard, "about 15 minutes: all engines, more block sizes, depths, workers and samples, and a sustained write"},
		{Long, "ceilings, a few copies, and a write that fills half of the free space, up to three times"},
	}
}

const kib, mib, gib = int64(1) << 10, int64(1) << 20, int64(1) << 30

// defaultSettings returns the settings of a profile, before the Config changes them.
func (p Profile) defaultSettings() (settings, error) {
	usual := pool.DefaultWorkers(runtime.NumCPU(), 0)
	switch p {
	case Quick, "":
		return settings{size: gib, engines: []copier.Engine{copier.Auto, copier.Direct, copier.Buffered}, blocks: []int64{mib, 4 * mib},
			jobs: []int{usual}, samples: 4, ceilingBlocks: []int64{mib, 4 * mib}, ceilingDepths: []int{16},
			ceilingSize: gib / 2, reading: 3 * time.Second, pause: 30 * time.Second}, nil
	case Standard:
		return settings{size: gib, engines: []copier.Engine{copier.Auto, copier.Direct, copier.Range, copier.Buffered},
			blocks: []int64{512 * kib, 4 * mib}, jobs: []int{4, usual}, samples: 6,
			ceilingBlocks: []int64{128 * kib, mib, 4 * mib}, ceilingDepths: []int{1, 4, 16}, ceilingSize: gib / 2,
			reading: 10 * time.Second, share: 0.02, pause: 30 * time.Second}, nil
	case Long:
		return settings{size: 2 * gib, engines: []copier.Engine{copier.Auto, copier.Direct}, blocks: []int64{4 * mib}, jobs: []int{usual}, samples: 4,
			ceilingBlocks: []int64{4 * mib}, ceilingDepths: []int{16}, ceilingSize: gib,
			reading: 10 * time.Second, share: 0.5, pause: 5 * time.Minute}, nil
	}
	return settings{}, fmt.Errorf("%w: profile %q is not one of quick, standard, sustained", ErrUsage, p)
}

// makeSettings takes each value from the Config or, if it is zero, from the profile.
func (c *Config) makeSettings() (*settings, error) {
	s, err := c.Profile.defaultSettings()
	if err != nil {
		return nil, err
	}
	if c.Size > 0 {
		s.size, s.ceilingSize = c.Size, c.Size/2
	}
	if len(c.Engines) > 0 {
		if s.engines, err = parseEngines(c.Engines); err != nil {
			return nil, err
		}
	}
	if len(c.Blocks) > 0 {
		s.blocks = c.Blocks
	}
	if len(c.Jobs) > 0 {
		s.jobs = c.Jobs
	}
	s.samples = cmp.Or(c.Samples, s.samples)
	s.reading = cmp.Or(c.ReadAlone, s.reading)
	s.share = cmp.Or(c.Share, s.share)
	s.pause = cmp.Or(c.Pause, s.pause)
	s.ceilingSize = max(s.ceilingSize-s.ceilingSize%(4*mib), 4*mib)
	return &s, s.checkRanges(c)
}

func parseEngines(names []string) ([]copier.Engine, error) {
	engines := make([]copier.Engine, len(names))
	for i, name := range names {
		if err := engines[i].Set(name); err != nil {
			return nil, fmt.Errorf("%w: engine %w", ErrUsage, err)
		}
	}
	return engines, nil
}

// minSize is the smallest size whose files are larger than one block.
const minSize = 32 * mib

func (s *settings) checkRanges(c *Config) error {
	for _, rule := range []struct {
		broken  bool
		message string
	}{
		{c.Target == "", "no target directory"},
		{c.Size < 0 || s.size < minSize, fmt.Sprintf("size %s must be at least %s", FormatBytes(s.size), FormatBytes(minSize))},
		{c.Samples < 0, fmt.Sprintf("samples %d must be at least 1", c.Samples)},
		{c.Share < 0 || s.share >= 1, fmt.Sprintf("share %v must be at least 0 and less than 1", s.share)},
		{c.ReadAlone < 0, fmt.Sprintf("reading time %v must not be negative", c.ReadAlone)},
		{c.Pause < 0, fmt.Sprintf("pause %v must not be negative", c.Pause)},
	} {
		if rule.broken {
			return fmt.Errorf("%w: %s", ErrUsage, rule.message)
		}
	}
	for _, b := range s.blocks {
		if b < 128*kib || b > tree.BlockSize || bits.OnesCount64(uint64(b)) != 1 {
			return fmt.Errorf("%w: block %s must be a power of two from %s to %s", ErrUsage, FormatBytes(b), FormatBytes(128*kib), FormatBytes(tree.BlockSize))
		}
	}
	for _, j := range s.jobs {
		if j < 1 || j > 1024 {
			return fmt.Errorf("%w: jobs %d must be from 1 to 1024", ErrUsage, j)
		}
	}
	return nil
}

// Cost is an upper limit of the space and the writes that a run takes, in bytes.
type Cost struct {
	Writes  int64 // in total
	Peak    int64 // stored at the same time
	Free    int64 // free now
	Reserve int64 // kept free
}

// A run that writes more than 1/askFraction of the free space needs Config.AllowCostly.
const askFraction = 10

// CostError reports that a run would write more than a tenth of the free space, and that
// Config.AllowCostly is not set.
type CostError struct{ Cost }

func (e *CostError) Error() string {
	return fmt.Sprintf("this run would write %s, more than a tenth of the free %s, and that was not allowed", humanize.Size(e.Writes), humanize.Size(e.Free))
}

func (c Cost) fitsSpace() bool { return c.Peak <= c.Free-c.Reserve }

// checkAllowed refuses a run that does not fit, or that writes more than is allowed.
func (c Cost) checkAllowed(target string, allowCostly bool) error {
	if !c.fitsSpace() {
		return &SpaceError{Path: target, Need: c.Peak, Free: c.Free, Reserve: c.Reserve}
	}
	if c.Writes > c.Free/askFraction && !allowCostly {
		return &CostError{c}
	}
	return nil
}

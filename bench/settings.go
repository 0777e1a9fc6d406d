package bench

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/tree"
)

// ErrUsage is in the error of a Config that cannot be meant.
var ErrUsage = errors.New("wrong usage")

// settings are a Config with everything chosen.
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
	share         float64 // 0: no sustained write
	pause         time.Duration
}

// ProfileInfo is a profile and what it is for.
type ProfileInfo struct {
	Name Profile
	For  string
}

// Profiles are those there are.
func Profiles() []ProfileInfo {
	return []ProfileInfo{
		{Quick, "some 2 minutes: ceilings, copies as production does them and with each engine that moves data, a reader beside one"},
		{Standard, "some 15 minutes: all engines, more block sizes, depths, workers and samples, and a sustained write"},
		{Long, "ceilings, few copies, and writing on until half of the free space is full, up to three times"},
	}
}

const kib, mib, gib = int64(1) << 10, int64(1) << 20, int64(1) << 30

// profiles are the settings of each, where a Config says nothing.
func (p Profile) settings() (settings, error) {
	usual := pool.Default(runtime.NumCPU(), 0)
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

// settings chooses what a Config does not say.
func (c *Config) settings() (*settings, error) {
	s, err := c.Profile.settings()
	if err != nil {
		return nil, err
	}
	if c.Size > 0 {
		s.size, s.ceilingSize = c.Size, c.Size/2
	}
	if len(c.Engines) > 0 {
		s.engines = c.Engines
	}
	if len(c.Blocks) > 0 {
		s.blocks = c.Blocks
	}
	if len(c.Jobs) > 0 {
		s.jobs = c.Jobs
	}
	if c.Samples > 0 {
		s.samples = c.Samples
	}
	if c.Reading > 0 {
		s.reading = c.Reading
	}
	if c.Share > 0 {
		s.share = c.Share
	}
	if c.Pause > 0 {
		s.pause = c.Pause
	}
	s.ceilingSize = max(s.ceilingSize-s.ceilingSize%(4*mib), 4*mib)
	return &s, s.check(c)
}

// leastSize is the least size that makes files of more than a block.
const leastSize = 32 * mib

func (s *settings) check(c *Config) error {
	for _, rule := range []struct {
		broken  bool
		message string
	}{
		{c.Target == "", "no target"},
		{c.Size < 0 || s.size < leastSize, fmt.Sprintf("size %d: wanted at least %d bytes", s.size, leastSize)},
		{c.Samples < 0, fmt.Sprintf("samples %d: wanted at least 1", c.Samples)},
		{c.Share < 0 || s.share >= 1, fmt.Sprintf("share %v: wanted from 0 to less than 1", s.share)},
		{c.Reading < 0, fmt.Sprintf("reading %v: wanted at least 0", c.Reading)},
		{c.Pause < 0, fmt.Sprintf("pause %v: wanted at least 0", c.Pause)},
	} {
		if rule.broken {
			return fmt.Errorf("%w: %s", ErrUsage, rule.message)
		}
	}
	for _, b := range s.blocks {
		if b < 128*kib || b > tree.BlockSize || bits.OnesCount64(uint64(b)) != 1 {
			return fmt.Errorf("%w: block %d: wanted a power of two from %d to %d", ErrUsage, b, 128*kib, tree.BlockSize)
		}
	}
	for _, j := range s.jobs {
		if j < 1 || j > 1024 {
			return fmt.Errorf("%w: %d jobs: wanted 1 to 1024", ErrUsage, j)
		}
	}
	return nil
}

// Cost is what a run will cost the device.
type Cost struct {
	Writes int64 // bytes in all, at the most
	Peak   int64 // bytes that are there at once, at the most
	Free   int64 // bytes that are free now
	Keeps  int64 // bytes that stay free
}

// mustAsk is the part of the free space from which on a run has to be allowed.
const mustAsk = 10

// CostError says that a run would write so much that it has to be allowed, with
// Config.Yes.
type CostError struct{ Cost }

func (e *CostError) Error() string {
	return fmt.Sprintf("this would write %d bytes, more than a tenth of the %d that are free: it has to be allowed", e.Writes, e.Free)
}

func (c Cost) fits() bool { return c.Peak <= c.Free-c.Keeps }

// check refuses a run that there is no space for, or that was not allowed.
func (c Cost) check(target string, yes bool) error {
	if !c.fits() {
		return &SpaceError{Path: target, Need: c.Peak, Free: c.Free, Reserve: c.Keeps}
	}
	if c.Writes > c.Free/mustAsk && !yes {
		return &CostError{c}
	}
	return nil
}

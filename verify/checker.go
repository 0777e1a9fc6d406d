package verify

import (
	"context"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
)

// Checker compares trees with manifests, and directories with lists of checksums. All
// its comparisons share one pool of workers and one rate limit. Close it.
type Checker struct {
	jobs    int
	limit   sys.RateLimiter
	workers *pool.Pool // nil until there is something to read
}

// NewChecker returns a Checker with that many workers, each with a buffer of 4 MiB. It
// reads at most bandwidth bytes a second, 0 for no limit, until ctx ends.
func NewChecker(ctx context.Context, jobs int, bandwidth int64) *Checker {
	return &Checker{jobs: jobs, limit: pool.NewRateLimiter(ctx, bandwidth)}
}

// Close frees the workers. A nil Checker has none, and a later comparison starts new ones.
func (c *Checker) Close() {
	if c != nil && c.workers != nil {
		c.workers.Close()
		c.workers = nil
	}
}

func (c *Checker) startWorkers() (err error) {
	if c.workers == nil {
		c.workers, err = pool.New(c.jobs)
	}
	return err
}

// Comparison names a manifest and a shard to compare, and the receiver of the result.
type Comparison struct {
	Manifest  *Manifest // checked
	Shard     Shard
	Exclusive bool             // the shard is a stage, see DeviceReader.Exclusive
	Progress  Progress         // nil: none
	Report    func(Difference) // called by one goroutine at a time
}

// Compare reports every difference between a shard and its manifest: names, metadata,
// and every block. The workers read the blocks from the device: several small files,
// and several blocks of a large file, at once. Compare returns the weakest mode in
// which the shard was read.
func (c *Checker) Compare(ctx context.Context, o Comparison) (ReadMode, error) {
	device := &DeviceReader{Exclusive: o.Exclusive, RateLimit: c.limit}
	if err := c.startWorkers(); err != nil {
		return "", err
	}
	err := compareContents(ctx, c.workers, device, o)
	return device.WeakestMode(), err
}

// CompareList reads every listed file from the device and compares it with its
// checksum. It returns the weakest mode in which the files were read.
func (c *Checker) CompareList(ctx context.Context, l *SumsList, lines *SumsReader, progress Progress) (ReadMode, error) {
	device := &DeviceReader{RateLimit: c.limit}
	if err := c.startWorkers(); err != nil {
		return "", err
	}
	err := l.compareFiles(ctx, lines, contentsReader{c.workers, device, progress})
	return device.WeakestMode(), err
}

// noProgress observes nothing.
type noProgress struct{}

func (noProgress) ReadBack(int64) {}
func (noProgress) FileDone()      {}

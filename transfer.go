package shardtossd

import (
	"context"
	"fmt"
	"time"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/verify"
)

// transfer is a copy into the stage under way, for Ensure and Repair.
type transfer struct {
	*operation
	engine copier.Engine
	result Transfer
}

// checkSpace checks that the rest of the copy fits, and makes room if it does not.
func (t *transfer) checkSpace(ctx context.Context, plan *copier.Plan, stage *copier.Stage) error {
	return t.withRoom(ctx, func() error { return plan.CheckSpace(ctx, stage, t.engine) })
}

// copyAndReadBack copies everything that is planned into the stage, and reads it back.
func (t *transfer) copyAndReadBack(ctx context.Context, plan *copier.Plan, stage *copier.Stage) error {
	pace := pool.NewRateLimiter(ctx, t.Bandwidth)
	device := &verify.DeviceReader{Exclusive: true, RateLimit: pace}
	t.summary.Jobs = t.Jobs
	t.chooseTransfers()
	done, err := plan.Copy(ctx, stage, copier.Options{
		Jobs: t.Jobs, Engine: t.engine, ReadBack: readBack{device}, Observer: t.Observer, RateLimit: pace})
	t.result.Files, t.result.Bytes, t.result.ResumedBytes = plan.Files, plan.Bytes, done.Resumed
	t.result.ReadBack = device.WeakestMode()
	for _, p := range done.Phases {
		t.recordPhase(Phase{p.Name, p.Took, p.Bytes})
	}
	t.result.Engines = map[string]EngineUsage{}
	for _, engine := range copier.Engines {
		used, ok := done.Engines[engine]
		if !ok {
			continue
		}
		t.result.Engines[string(engine)] = EngineUsage{used.Files, used.Bytes}
		t.recordChoice("engine", string(engine), fmt.Sprintf("%s, %s: %s", humanize.Count(used.Files, "file"), humanize.Count(used.Bytes, "byte"), used.Reason))
	}
	return err
}

// runPhase runs a step and records how long it took.
func (t *transfer) runPhase(name string, step func() error) error {
	began := time.Now()
	err := step()
	t.recordPhase(Phase{Name: name, Duration: time.Since(began)})
	return err
}

func (t *transfer) recordPhase(p Phase) {
	t.result.Phases = append(t.result.Phases, p)
	if !t.Verbose {
		return
	}
	rate, seconds := "", p.Duration.Seconds()
	if p.Bytes > 0 && seconds > 0 {
		rate = fmt.Sprintf(", %s at %s/s", humanize.Size(p.Bytes), humanize.Size(int64(float64(p.Bytes)/seconds)))
	}
	t.info("Phase %q took %.3f s%s", p.Name, seconds, rate)
}

// readBack lets the checker read the copier's blocks.
type readBack struct{ *verify.DeviceReader }

// Open opens a file for reading back.
func (r readBack) Open(dir *sys.File, name string, size int64) (copier.BlockReader, error) {
	f, err := r.DeviceReader.Open(dir, name, size)
	if err != nil {
		return nil, err
	}
	return f, nil
}

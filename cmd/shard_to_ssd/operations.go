package main

import (
	"context"
	"io"
	"time"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
)

// settings are the values of all flags. Each operation takes those that concern it.
type settings struct {
	Shard        string
	LockDir      string
	SSDDir       string
	ID           string
	Manifest     string
	Jobs         int
	Engine       copier.Engine
	Bandwidth    int64
	RequireMount bool
	Replace      bool
	NoResume     bool
	Source       bool
	DryRun       bool
	Verbose      bool
	LockTimeout  *time.Duration
	MaxAge       time.Duration

	Log      shardtossd.Logger
	Observer copier.Observer
	Stdin    io.Reader
	OnShard  func(*jsonResult, error) // of a scrub
}

func (s settings) host() shardtossd.Host {
	return shardtossd.Host{LockDir: s.LockDir, SSDDir: s.SSDDir, RequireMount: s.RequireMount, Log: s.Log}
}

func (s settings) work() shardtossd.Work {
	return shardtossd.Work{Jobs: s.Jobs, Bandwidth: s.Bandwidth, Verbose: s.Verbose, Observer: s.Observer}
}

// operation is an operation of the root package.
type operation func(context.Context, settings) (*jsonResult, error)

func operations() map[mode]operation {
	return map[mode]operation{
		modeCopy:      ensure,
		modeRemove:    release,
		modeVerify:    verifyOne,
		modeVerifyAll: scrub,
		modeList:      list,
		modeRepair:    repair,
		modeAdopt:     adopt,
	}
}

func ensure(ctx context.Context, s settings) (*jsonResult, error) {
	r, err := shardtossd.Ensure(ctx, shardtossd.EnsureOptions{Host: s.host(), Work: s.work(), Shard: s.Shard, ID: s.ID,
		Version: programVersion(), Engine: s.Engine, Replace: s.Replace, NoResume: s.NoResume, LockTimeout: s.LockTimeout})
	out := newResult(modeCopy, r.Summary)
	out.addTransfer(r.Transfer)
	out.Files, out.Bytes, out.ReadBack, out.Stale = r.Files, r.Bytes, string(r.ReadBack), r.Stale
	return out, err
}

func release(ctx context.Context, s settings) (*jsonResult, error) {
	r, err := shardtossd.Release(ctx, shardtossd.ReleaseOptions{Host: s.host(), Shard: s.Shard, ID: s.ID,
		Jobs: s.Jobs, Verbose: s.Verbose, LockTimeout: s.LockTimeout})
	return newResult(modeRemove, r.Summary), err
}

func verifyOne(ctx context.Context, s settings) (*jsonResult, error) {
	if s.Manifest != "" {
		return checkSums(ctx, s)
	}
	r, err := shardtossd.Verify(ctx, shardtossd.VerifyOptions{Host: s.host(), Work: s.work(), Shard: s.Shard, MaxAge: s.MaxAge, Source: s.Source})
	return verifyResult(r), err
}

func verifyResult(r *shardtossd.VerifyResult) *jsonResult {
	out := newResult(modeVerify, r.Summary)
	out.addComparison(r.Comparison)
	out.SourceState, out.SourceDifferences = string(r.SourceState), r.SourceDifferences
	return out
}

func checkSums(ctx context.Context, s settings) (*jsonResult, error) {
	r, err := shardtossd.CheckSums(ctx, shardtossd.CheckSumsOptions{Work: s.work(), Dir: s.Shard, Sums: s.Manifest, Stdin: s.Stdin, Log: s.Log})
	out := newResult(modeVerify, r.Summary)
	out.addComparison(r.Comparison)
	out.Dir, out.Manifest = s.Shard, s.Manifest
	out.BadLines, out.BadLineCount, out.Unlisted = r.BadLines, r.BadLineCount, r.Unlisted
	return out, err
}

func scrub(ctx context.Context, s settings) (*jsonResult, error) {
	r, err := shardtossd.Scrub(ctx, shardtossd.ScrubOptions{Host: s.host(), Work: s.work(), MaxAge: s.MaxAge,
		OnShard: func(one *shardtossd.VerifyResult, err error) { s.OnShard(verifyResult(one), err) }})
	out := newResult(modeVerifyAll, r.Summary)
	out.addComparison(r.Comparison)
	if counts := scrubCounts(r.Counts); err == nil || counts.Shards > 0 {
		out.Scrub = &counts
	}
	return out, err
}

func list(ctx context.Context, s settings) (*jsonResult, error) {
	r, err := shardtossd.List(ctx, shardtossd.ListOptions{Host: s.host(), Shard: s.Shard})
	out := newResult(modeList, r.Summary)
	for _, shard := range r.Shards {
		out.Shards = append(out.Shards, shardInfo(shard))
	}
	return out, err
}

func repair(ctx context.Context, s settings) (*jsonResult, error) {
	r, err := shardtossd.Repair(ctx, shardtossd.RepairOptions{Host: s.host(), Work: s.work(), Shard: s.Shard,
		Engine: s.Engine, DryRun: s.DryRun, LockTimeout: s.LockTimeout})
	out := newResult(modeRepair, r.Summary)
	out.addTransfer(r.Copied)
	out.addComparison(r.Comparison)
	out.SourceState, out.SourceDifferences = string(r.SourceState), r.SourceDifferences
	out.RepairCount = r.RepairCount
	for _, entry := range r.Repairs {
		out.Repairs = append(out.Repairs, repairedEntry(entry))
	}
	return out, err
}

func adopt(ctx context.Context, s settings) (*jsonResult, error) {
	r, err := shardtossd.Adopt(ctx, shardtossd.AdoptOptions{Host: s.host(), Work: s.work(), Shard: s.Shard,
		Version: programVersion(), LockTimeout: s.LockTimeout})
	out := newResult(modeAdopt, r.Summary)
	out.addComparison(r.Comparison)
	return out, err
}

package main

import (
	"errors"

	"shard_to_ssd/bench"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/process"
	"shard_to_ssd/internal/sys"
)

// The exit statuses are those of shard_to_ssd, without those for which ssdbench has no
// cause.
const (
	statusDone    = 0
	statusFailed  = 1
	statusUsage   = 2
	statusNoSpace = 4
	statusSignal  = 128 // plus the signal's number
)

// statusRow is a row of the table of exit statuses.
type statusRow struct{ status, meaning string }

func statusTable() []statusRow {
	return []statusRow{
		{"0", "done"},
		{"1", "failed, or not allowed without --yes"},
		{"2", "usage: the command line is wrong"},
		{"4", "not enough space"},
		{"128+n", "ended by signal n"},
	}
}

// exitStatus returns the exit status for an error.
func exitStatus(err error) int {
	if stopped, ok := errors.AsType[*process.Interrupted](err); ok {
		return statusSignal + int(stopped.Signal)
	}
	short, full, cost := new(bench.SpaceError), new(copier.SpaceError), new(bench.CostError)
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, bench.ErrUsage):
		return statusUsage
	case errors.As(err, &cost):
		return statusFailed
	case errors.As(err, &short), errors.As(err, &full), sys.IsNoSpace(err):
		return statusNoSpace
	}
	return statusFailed
}

package main

import (
	"context"
	"errors"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/process"
)

// Exit statuses. A Go panic would exit with 2, too: nothing may panic.
const (
	statusDone        = 0
	statusFailed      = 1
	statusUsage       = 2
	statusDamaged     = 3
	statusNoSpace     = 4
	statusLockTimeout = 5
	statusSignal      = 128 // plus the signal's number
)

// statusRow is one line of the table of exit statuses.
type statusRow struct{ status, meaning string }

// statusTable is the table for --help and the manual.
func statusTable() []statusRow {
	return []statusRow{
		{"0", "done"},
		{"1", "failed"},
		{"2", "usage: the command line is wrong"},
		{"3", "verification found damage"},
		{"4", "not enough space"},
		{"5", "lock not obtained in time"},
		{"128+n", "ended by signal n"},
	}
}

// exitStatus maps what an operation returned, and the signal that came meanwhile
// or nil, to an exit status. A signal explains every failure except one that was
// found independently of it: damage stays damage.
func exitStatus(err, cause error) int {
	why, signalled := errors.AsType[*process.Interrupted](cause)
	stopped := signalled && (errors.Is(err, context.Canceled) || errors.Is(err, cause))
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, shardtossd.ErrUsage):
		return statusUsage
	case errors.Is(err, shardtossd.ErrDamaged):
		return statusDamaged
	case stopped:
		return statusSignal + int(why.Signal)
	case errors.Is(err, shardtossd.ErrNoSpace):
		return statusNoSpace
	case errors.Is(err, shardtossd.ErrLockTimeout):
		return statusLockTimeout
	case signalled:
		return statusSignal + int(why.Signal)
	default:
		return statusFailed
	}
}

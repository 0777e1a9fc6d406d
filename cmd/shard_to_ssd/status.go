package main

import (
	"context"
	"errors"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/process"
)

// Exit statuses. A panic in Go exits with 2 like a usage error, so nothing may
// panic.
const (
	statusDone        = 0
	statusFailed      = 1
	statusUsage       = 2
	statusDamaged     = 3
	statusNoSpace     = 4
	statusLockTimeout = 5
	statusSignal      = 128 // plus the signal's number
)

// statusRow explains an exit status.
type statusRow struct{ status, meaning string }

// statusTable lists the exit statuses for --help, the man page and docs/flags.md.
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

// exitStatus maps the error of an operation, and the signal that arrived meanwhile
// or nil, to an exit status. A signal explains every failure except one that does
// not depend on it: damage is still damage.
func exitStatus(err, cause error) int {
	interrupted, signalled := errors.AsType[*process.Interrupted](cause)
	stopped := signalled && (errors.Is(err, context.Canceled) || errors.Is(err, cause))
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, shardtossd.ErrUsage):
		return statusUsage
	case errors.Is(err, shardtossd.ErrDamaged):
		return statusDamaged
	case stopped:
		return statusSignal + int(interrupted.Signal)
	case errors.Is(err, shardtossd.ErrNoSpace):
		return statusNoSpace
	case errors.Is(err, shardtossd.ErrLockTimeout):
		return statusLockTimeout
	case signalled:
		return statusSignal + int(interrupted.Signal)
	default:
		return statusFailed
	}
}

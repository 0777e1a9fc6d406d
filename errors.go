package shardtossd

import "errors"

// The kinds of failure that callers tell apart, with errors.Is. Every other
// error is a plain failure.
var (
	ErrUsage       = errors.New("usage")                     // the call itself is wrong
	ErrDamaged     = errors.New("damaged")                   // verification found damage
	ErrNoSpace     = errors.New("not enough space")          // found before or while copying
	ErrLockTimeout = errors.New("lock not obtained in time") // LockTimeout has passed
)

package shardtossd

import (
	"errors"
	"fmt"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/errs"
	"shard_to_ssd/internal/published"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/locking"
	"shard_to_ssd/verify"
)

// The kinds of failure that callers tell apart with errors.Is. Any other error is a
// plain failure, and is not retried with success unless its cause goes away.
var (
	ErrUsage       = errors.New("usage")                     // the options themselves are wrong
	ErrDamaged     = errors.New("damaged")                   // the shard is not what was published
	ErrNoSpace     = errors.New("not enough space")          // found before or while copying
	ErrLockTimeout = errors.New("lock not obtained in time") // LockTimeout has passed

	ErrNotOnSSD        = errors.New("not on the SSD")    // nothing has the shard's public name
	ErrNotPublished    = errors.New("not published")     // this tool did not publish it: no manifest
	ErrGone            = errors.New("gone meanwhile")    // removed or replaced during the operation
	ErrForeign         = errors.New("foreign directory") // Ensure would have to replace it
	ErrSourceChanged   = errors.New("source changed")    // while copying, or since publishing
	ErrSourceRefused   = errors.New("source refused")    // it holds a socket, FIFO or device
	ErrDamagedManifest = errors.New("damaged manifest")  // which says nothing about the shard
	ErrNotMountPoint   = errors.New("not a mount point") // RequireMount is set
)

func usagef(format string, args ...any) error {
	return errs.WithKind(fmt.Errorf(format, args...), ErrUsage)
}

// withPublicKind gives an error from below the kind that callers test for.
func withPublicKind(err error) error {
	damage := &copier.DamageError{}
	space := &copier.SpaceError{}
	switch {
	case errors.As(err, &damage):
		return errs.WithKind(err, ErrDamaged)
	case errors.As(err, &space), sys.IsNoSpace(err):
		return errs.WithKind(err, ErrNoSpace)
	case errors.Is(err, locking.ErrTimeout):
		return errs.WithKind(err, ErrLockTimeout)
	case errors.Is(err, copier.ErrSourceChanged):
		return errs.WithKind(err, ErrSourceChanged)
	case errors.Is(err, copier.ErrUnsupportedEntry):
		return errs.WithKind(err, ErrSourceRefused)
	case errors.Is(err, published.ErrNoManifest):
		return errs.WithKind(err, ErrNotPublished)
	case published.IsUnusable(err) && errors.Is(err, verify.ErrManifestDamaged):
		return errs.WithKind(err, ErrDamagedManifest)
	}
	return err
}

// Package shardtossd puts shards onto the SSD of a host, shared by the service
// instances that need them, verified, and never half.
//
// A shard is a directory tree, or one regular file, that services read. It is
// published under the SSD dir with the last component of its source path as its
// name. A user is the id of a service instance that needs it; the user file in the
// lock dir is the list of users and the lock at the same time.
//
// # Copy and remove
//
//	Ensure:  lock → present? ─yes───────────────────────────────────────────────────► register → unlock
//	                   └no─► walk → plan → copy ⇄ read back → manifest → publish ──┘
//	Release: lock → unregister → users left? ─yes─► unlock
//	                                └no─► trash → delete → unlink user file → unlock
//
// # Integrity
//
// Verify and Scrub read published shards back and compare them with their
// manifests. CheckSums compares any directory with a list of checksums. Repair
// copies damaged entries again, and Adopt gives a manifest to a shard that the older
// script copied. List shows the shards on the SSD.
//
// # Errors
//
// Every operation returns its result even with an error: the result says how far it
// came. Callers tell kinds of failure apart with errors.Is and the Err variables.
// If the context ends, the error is its cause.
//
// # Limits
//
// The package prints nothing and changes no setting of the process: see Host.Log.
// For the speed that docs/performance.md shows, GOMAXPROCS must be at least
// Work.Jobs, as the program shard_to_ssd sets it.
package shardtossd

// Package statedir keeps the state dir of a shard, <ssddir>/.shard_to_ssd/<shard>:
// a private directory with the stage, the plan, the journal, the manifest, the
// trash and a few short records. It knows no operation and no user.
//
//  1. Open or Make opens the state dir. Make creates it with mode 0700, owned by
//     this user, on the file system of the SSD dir.
//  2. Lock takes the flock of the state dir; CheckLinked tells a state dir from
//     one that was deleted meanwhile.
//  3. Clear deletes leftovers of an earlier operation, Remove deletes the state
//     dir with everything in it.
//  4. Read and Write keep short records, each complete or absent.
//
// It does not lock for the caller: only Lock and TryLock exclude other processes.
package statedir

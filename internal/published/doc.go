// Package published knows the shard under its public name, <ssddir>/<shard>.
//
//  1. Shard.Stat and Shard.OpenManifest find what is there, and whether a manifest
//     is bound to it: to its inode and its time of birth.
//  2. Decide turns these facts into the state of the shard, and into what -c and -r
//     may do with it. It is the only place where that is decided.
//  3. Shard.Publish makes a stage visible in one rename, Shard.MoveToTrash takes a
//     shard away in one rename.
//
// It copies and compares nothing, and takes no lock: the caller holds the locks of
// the user file and of the state dir for everything that changes a name.
package published

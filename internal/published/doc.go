// Package published knows the shard under its public name, <ssddir>/<shard>.
//
//  1. Shard.Stat finds the inode under the public name, and Shard.OpenManifest the
//     manifest that is bound to it: to its inode number and its time of birth.
//  2. Decide turns these facts into the state of the shard, and into the actions that
//     -c and -r may take. Nothing else decides that.
//  3. Shard.Publish makes a stage visible in one rename, Shard.MoveToTrash takes a
//     shard away in one rename.
//
// It copies and compares nothing, and takes no lock: the caller holds the locks of
// the user file and of the state dir for everything that changes a name.
package published

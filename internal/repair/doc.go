// Package repair makes a damaged shard equal to its manifest again.
//
//  1. Plan.Add takes each difference between shard and manifest; Plan.Settle
//     decides, once all are known, how each entry is repaired: metadata in place, or
//     the whole entry from a new copy.
//  2. The caller copies Plan.Copied into the stage and compares it with the manifest.
//  3. Apply changes the shard: entries of the stage take their place with one rename
//     each, metadata is set in place, extraneous entries become trash. Directories
//     come last, since renames change their times.
//
// It takes no lock, knows no users, and copies nothing. A failure on the way leaves
// each entry damaged or repaired, never half.
package repair

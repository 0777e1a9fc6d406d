// Package verify proves that what is on the SSD is what was copied. It shares no
// code with the copier but the thin layers in internal, so that a mistake there
// cannot hide here.
//
//  1. While a shard is copied, Medium reads every block back from the device, not
//     from the page cache (medium.go).
//  2. What was read back goes into two files of the state dir: the manifest, with
//     every entry and the sum of every block (manifest.go), and sums.xxh64, for
//     xxhsum -c (sums.go).
//  3. ProveTree and CompareTree hold names and metadata of a tree against a
//     manifest, reading no contents: before a shard is published, and before one
//     without users is adopted (compare.go).
//  4. Contents reads everything and compares every block, for --verify
//     (contents.go).
//  5. List holds any directory against a list of sums, of xxhsum or ours
//     (sumsfile.go, listed.go).
//
// A pass proves the way to the drive: what is read right after it was written may
// come from the drive's own memory. Only a later pass says more about the flash.
package verify

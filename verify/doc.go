// Package verify proves that a shard on the SSD equals its source. It shares no code
// with the copier except the thin layers in internal, so that a mistake of the copier
// cannot hide here.
//
//  1. While a shard is copied, DeviceReader reads every block back. It reads from the device
//     and not from the page cache (device.go, small.go).
//  2. A ManifestWriter records the result in two files of the state dir: the manifest, with
//     every entry and the checksum of every block (manifest.go), and sums.xxh64, for
//     xxhsum -c (sumswriter.go).
//  3. CompareTreeStrictly and CompareTree compare the names and metadata of a tree with a
//     manifest (compare.go). They read no contents. CompareTreeStrictly runs before a shard is
//     published, CompareTree before a shard without users is adopted.
//  4. Checker.Compare reads the whole shard and compares every block, for --verify
//     (checker.go, contents.go).
//  5. SumsList and Checker.CompareList compare any directory with a list of checksums,
//     written by xxhsum or by this tool (sumsreader.go, sumslist.go).
//
// A pass proves the way to the drive: a block that is read right after it was written
// may come from the drive's own memory. Only a later pass says more about the flash.
//
// Other modules call the root package. The functions here take descriptors of
// internal/sys, so that no path is resolved twice.
package verify

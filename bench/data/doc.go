// Package data makes the shards that are copied to measure.
//
//  1. A Workload names files: how many, how large, in how many directories. Which they
//     are follows from it and a seed alone.
//  2. Fill is what they hold: the keystream of AES in counter mode, at some GB/s a core.
//     No piece of it is like another, and none can be made shorter, so that no device
//     and no file system can compress it, or keep two pieces as one.
//  3. Workload.Write writes them, large files past the page cache.
//
// A copy has the same bytes as what it is a copy of. A device that keeps equal blocks
// once cannot be measured by copying on itself; nothing here can see that it does.
package data

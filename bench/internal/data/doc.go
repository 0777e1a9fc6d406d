// Package data makes the shards that a measurement copies.
//
//  1. A Workload gives the number of files and directories, and the sizes of the files.
//     The workload and a seed alone determine the files.
//  2. Fill makes the contents: the keystream of AES in counter mode, at some GB/s for each
//     core. No two pieces are equal, and no piece can be compressed. So no drive and no file
//     system can save space or time on them.
//  3. Workload.WriteFiles writes the files, large ones past the page cache.
//
// A copy has the same bytes as its source. A drive that stores equal blocks once cannot
// be measured by a copy on itself, and nothing here can detect that.
package data

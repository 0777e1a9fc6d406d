// Package copier copies a shard into a stage on the SSD, reads every block back
// from the SSD and compares it with the source.
//
//  1. Walk the source once and write the plan: all entries in a fixed order, each
//     with the inode, size and times that later show whether it has changed
//     (walk.go, parallel_stat.go, plan.go).
//  2. Resume the interrupted copy if its journal belongs to the same plan,
//     otherwise start with an empty stage. Check that there is enough space
//     (stage.go, space.go).
//  3. Make the directories (dirs.go). Then copy with one pool of workers: files of
//     at most one block directory by directory, larger files block by block. A
//     worker reads a block from the source and computes its XXH64. It writes the
//     block with the engine of the file and its sum to the journal (small_files.go,
//     large_segments.go, block.go, engine_*.go, journal.go). One system call reads
//     many small files of the source (batch_read.go).
//  4. Sync the data: large files after every 256 MiB, small files in rounds of the
//     same size (large_segments.go, small_rounds.go).
//  5. Read the synced data back from the SSD while other data is copied, and compare
//     it with the journal. A block that differs is copied again. If it still differs,
//     it is damaged (readback.go).
//  6. Make the hard links, then set the metadata of the directories, the deepest
//     first (links.go, metadata.go, seal.go).
//  7. Compare every entry of the source with the plan again. A difference means that
//     the source changed meanwhile: the copy mixes two of its states and fails
//     (source_check.go).
//
// Memory is jobs × 4 MiB of buffers, the names of the directories under way, and
// about 50 bytes for each file that has hard links. The package does not notice a
// change of the source that keeps size, mtime, ctime and inode.
//
// Other modules call the root package. The functions here take descriptors of
// internal/sys, so that no path is resolved twice.
package copier

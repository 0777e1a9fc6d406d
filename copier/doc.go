// Package copier copies a shard into a stage on the SSD and has every block read
// back.
//
//  1. Walk the source once and write the plan: what there is, in one order, with
//     what tells later that it has not changed (walk.go, plan.go).
//  2. Go on from an interrupted copy if its journal was made for the very same
//     plan, otherwise start afresh; check that there is space (stage.go, space.go).
//  3. Make the directories. Then copy, with one pool of workers: files of one
//     block a directory at a time, larger ones block by block. A block is read
//     from the source, summed, put into the stage by the file's engine, and its
//     sum goes into the journal (small.go, large.go, block.go, engine_*.go). Small
//     files of the source are read many at once (ahead.go).
//  4. Sync the data: large files 256 MiB at a time as they are written, small
//     ones in rounds of as much.
//  5. Read back from the SSD what is synced, while more is copied, and compare
//     with the journal; a block that differs is copied once more, and is damage if
//     it still differs (readback.go).
//  6. Hard links, then metadata of directories, the deepest first (seal.go).
//  7. Look at the source again: whatever differs from the plan means that the
//     copy is of no one state of it, and fails (recheck.go).
//
// Memory is jobs × 4 MiB of buffers, the names of the directories under way, and
// some 50 bytes for each file that has hard links. What the package does not do:
// notice a change of the source that leaves size, mtime, ctime and inode alone.
package copier

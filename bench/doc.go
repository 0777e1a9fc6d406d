// Package bench measures how fast an SSD takes shards, with the copy engine that
// shard_to_ssd uses in production. A shard is one large data directory of a search
// service. Run does this:
//
//  1. It collects facts about the machine and the drive, if its Config has a function for
//     that (Facts).
//  2. It measures the ceilings: direct reads, writes, and both at the same time, without
//     any other load, for several block sizes and queue depths (Ceiling).
//  3. It copies workloads with each engine, block size and number of workers. The order
//     is shuffled, the caches are cold, and each copy is repeated (Case).
//  4. It measures a reader of random pages, alone and beside a copy (Readers).
//  5. It writes until a share of the free space is full, to find the point where the drive
//     gets slower, and the time that it needs to recover (Sustained).
//  6. It deletes everything that it made, after an error or a signal too.
//
// A Result has every raw sample, in base units. Reports and comparisons are made from the
// file of the Result alone, so they can be made again later.
//
// A Result describes copying only: a drive that is fast here may be slow for small random
// writes.
package bench

// Peers measures shard_to_ssd against the tools that people would otherwise use,
// and against fio doing the same I/O with nothing else.
//
//  1. rows.go lists what is measured: a row has tables, a table has lanes (a
//     workload, a file system, a contender) and targets.
//  2. Lanes that belong together are run in turn, A B A B, so that all of them meet
//     the same moods of the machine. A lane that several rows look at is run once.
//  3. Before each sample the SSD is a fresh file system, and caches are empty, unless
//     the row is about what is there already; the source is a read-only file system of
//     its own. Timed is the contender's
//     command line, the sync of what it wrote included, and nothing else.
//  4. After its last sample what a contender made is compared with the source.
//  5. Medians, spread and targets go into the report, samples into a file from which
//     the report can be written again.
//
// Disks are loop devices over images without a name, and mounts are in a namespace
// of this process: whatever way it ends, nothing of them is left.
//
// It does not say how fast a disk is: the host of a virtual machine caches, and
// others share it. Only ratios of one run mean something.
package main

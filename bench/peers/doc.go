// Package peers measures shard_to_ssd against other tools that copy directories, and
// against fio, which does the same I/O and nothing else.
//
//  1. rows.go lists the measurements. A row has tables; a table has lanes (a workload,
//     a file system and a contender) and targets.
//  2. Lanes that belong together are run in turn, A B A B, so that changes in the speed
//     of the machine affect all of them. A lane that several rows show is run once.
//  3. Each sample starts with a fresh file system on the SSD and with empty caches,
//     except in rows about a shard that is present already. The source is on a
//     read-only file system of its own. Only the contender's command line is timed,
//     with the sync of the written data.
//  4. After the last sample of a contender, its copy is compared with the source.
//  5. Medians, spread and targets go into the report. The samples go into a file from
//     which the report can be written again.
//
// Disks are loop devices over images without a name. The caller must run Run in a
// mount namespace that ends with the process. Then no disk and no mount is left,
// however the process ends.
//
// The results do not tell how fast a disk is: the host of a virtual machine has caches
// of its own and runs other machines. Only ratios within one run are meaningful.
package peers

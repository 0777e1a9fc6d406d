// Package bench says how fast an SSD takes shards, with the copy engine that
// production uses. A run, see Run,
//
//  1. looks at the machine: model, file system, kernel, what is known of each (Facts, if
//     its Config has somebody look);
//  2. measures what the device can do on the same directory with nothing else: direct
//     reads, writes, and both at once, over block sizes and depths (Ceiling);
//  3. copies workloads with each engine, block size and number of workers, in shuffled
//     order, with cold caches, several times (Case);
//  4. writes on for as long as it is told, to find where the device gets slower, and how
//     it recovers (Sustained), and has a reader beside it (Readers);
//  5. takes everything away again that it made, on every way out.
//
// All of it is a Result, with every raw sample, in base units. What is printed of it is
// made from the file alone, so that it can be made again.
//
// It says nothing of other workloads than copying: a device that is fast here may be
// slow for small random writes.
package bench

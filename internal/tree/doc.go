// Package tree is the text form of a directory tree that the plan of a copy and
// the manifest of a published shard share.
//
// A stream is
//
//  1. the line "shard_to_ssd KIND VERSION", then header lines "key value", then
//     an empty line;
//  2. a record a line, directory by directory: a "D" line opens a directory, the
//     lines after it are what is in it, names sorted by bytes; then come its
//     directories in the same order, each with all that is below it;
//  3. the line "end RECORDS XXH64": the number of records, and the sum of every
//     byte before that line.
//
// Both ends stream, so memory is bounded by the longest line and the depth of the
// tree. Names hold any bytes and are quoted as in Go. The reader trusts nothing:
// names that could lead elsewhere, lines over MaxLine, records out of place, a name
// twice, and directories that are opened but were not named, or the other way
// round, are errors. It can say that a stream is damaged only at its end.
package tree

// Package tree is the text form of a directory tree that the plan of a copy and
// the manifest of a published shard share.
//
// A stream is
//
//  1. the line "shard_to_ssd KIND VERSION", then header lines "key value", then
//     an empty line;
//  2. one record per line, directory by directory: a "D" line opens a directory, and
//     the lines after it are its entries, their names sorted by bytes. Then its
//     directories follow in the same order, each with everything below it;
//  3. the line "end RECORDS XXH64": the number of records, and the checksum of every
//     byte before that line.
//
// Encoder and Decoder both work line by line, so the longest line and the depth of
// the tree bound their memory. Names may hold any bytes and are quoted as in Go. The
// Decoder trusts nothing. These are errors: a name that could lead elsewhere, a line
// over MaxLine, a record out of place, and a name twice. Each directory must be both
// named and opened.
//
// A Decoder cannot report all damage at once: it checks the checksum at the end of the
// stream, after it has returned the records.
package tree

// Package faultfs is a file system for tests. On request it lies, fails, fills up, hangs,
// is slow, or loses power. It is mounted through FUSE, so that the real program runs on
// it, and keeps its files in the memory of the test.
//
//  1. [New] mounts an empty file system. The program and the test use it like any other.
//  2. [FS.Inject] makes later calls go wrong: a call fails with an errno, changes bytes,
//     reports success without doing its work, or hangs. See [Fault]. [FS.SetSize],
//     [FS.SetRate] and [FS.FlipOnDisk] make trouble that does not belong to a single call.
//  3. [FS.WatchCalls] shows every call that comes from the kernel.
//  4. [FS.CutPower] is a power cut: all changes that were not synced are lost.
//
// Every inode has two states: the live one, and the one on disk. fsync of a file writes
// its data, length and metadata to the disk, fdatasync its data and length, fsync of a
// directory its entries. Nothing else does. A rename changes two directories, and the
// sync of one does not write the other, so half of a rename can survive. (A directory
// that is then in two places stays in the new one.) An entry on disk leads to an empty
// file if the file itself was never synced.
//
// Reads and writes with O_DIRECT reach this package as the program makes them. The
// others go through the kernel's page cache: a read may be answered from it, and a
// write is passed on at once.
//
// Limits: the kernel does not pass syncfs on to FUSE, so Cut proves nothing about
// programs that rely on it. There are no POSIX ACLs. Reading does not change access
// times.
//
// A test must not start a process while one of its own calls waits for a file on its
// faultfs: the two could wait for each other. Use it one call after the other.
package faultfs

// Package faultfs is a file system for tests that lies, fails, fills up, hangs,
// is slow, and loses power, when it is told to. It is mounted through FUSE, so
// that the real program runs on it, and lives in the memory of the test.
//
//  1. [New] mounts an empty one. The program, and the test, use it like any other.
//  2. [FS.Inject] makes calls go wrong from then on: an errno, changed bytes, a
//     call that is not carried out but said to be, one that hangs. See [Fault].
//     [FS.SetSize], [FS.SetRate] and [FS.Rot] are for what is no single call.
//  3. [FS.Watch] shows every call that comes from the kernel.
//  4. [FS.Cut] is a power cut: what was not synced is lost.
//
// Every inode is there twice: as it is, and as it is on disk. fsync of a file
// brings its data, length and metadata to the disk, fdatasync data and length,
// fsync of a directory its entries. Nothing else does, not even the sync of
// another directory that a rename has changed too: what a rename did to one
// directory can survive alone. (A directory that is then in two places stays in
// the new one.) An entry on disk whose file never was synced leads
// to an empty file.
//
// Reads and writes with O_DIRECT come here as they are made; others go through
// the kernel's page cache, where reads may end, and writes do not stay.
//
// What it cannot do: the kernel does not pass syncfs on to FUSE, so that Cut says
// nothing of programs that rely on it. There are no POSIX ACLs. Reading does not
// change access times.
//
// A process must not start others while it holds a file on its own faultfs open
// through a call that waits for it: use it from the test as one would a disk, one
// thing after the other.
package faultfs

// Package locking guards a shard with its user file, <lockdir>/<shard>.lock,
// which is at the same time a flock and the list of the shard's users: one id
// per line, joined by newlines, no newline at the end.
//
// Acquire:
//
//  1. Open the file without O_CREAT. If it is missing and may be created, make
//     it without a name, lock it, and link it to its name: it is never seen
//     unlocked. Where the file system cannot do that: O_CREAT|O_EXCL. If somebody
//     else was faster, begin again.
//  2. Refuse everything but a regular file with one link.
//  3. Try the flock; if it is busy say once who has it, and wait.
//  4. If the name now leads to another inode or to none, begin again: who had the
//     lock has removed the file.
//  5. Finish what a crash interrupted (see log.go), and read the list.
//
// A change of the list, while the lock is held:
//
//  1. If the old or the new list is longer than a page, log both.
//  2. Write the new list over the old one, padded with newlines to the old
//     length (readers skip blank lines), and sync; cut the padding off, and sync.
//     An error on the way restores the old list.
//  3. Remove the log.
//
// The file is never replaced by a rename, and its inode stays until Remove, since
// an older script reads, locks and rewrites it in place on the same hosts. Remove
// unlinks it under its own lock.
//
// Not guaranteed: an older script that waits for the lock of a user file which is
// being unlinked, and does not check the inode afterwards, can enter beside a
// process that has locked the next file of that name.
package locking

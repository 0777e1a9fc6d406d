// Package locking guards a shard with its user file, <lockdir>/<shard>.lock. The file is
// the lock, by flock, and the list of the shard's users: one id per line, joined by
// newlines, without a newline at the end.
//
// Acquire does this:
//
//  1. It opens the file without O_CREAT. If the file is missing and may be created, it
//     creates it without a name, locks it, and links it to its name, so that no process
//     sees it unlocked. Where the file system cannot do that, it uses O_CREAT|O_EXCL. If
//     another process created the file first, it starts again.
//  2. It refuses a file that is not regular or has more than one link.
//  3. It tries the flock. If another process holds it, it reports that process once, and
//     waits.
//  4. If the name now leads to another inode or to none, the earlier holder has removed
//     the file: it starts again.
//  5. It finishes a change that a crash interrupted (see log.go), and reads the list.
//
// A change of the list happens under the lock:
//
//  1. If the old or the new list is longer than a page, write both to a log.
//  2. Write the new list over the old one, padded with newlines to the old length
//     (readers skip blank lines), and sync. Cut the padding off, and sync. After an
//     error, restore the old list.
//  3. Remove the log.
//
// The file is never replaced by a rename, and its inode stays until Remove: the older
// script reads, locks and rewrites the same file in place on the same hosts. Remove
// unlinks the file under its own lock.
//
// Not guaranteed: suppose that the older script waits for the lock of a user file while
// this package unlinks it. The script does not check the inode afterwards, so it can run
// beside a process that has locked the next file of that name.
package locking

// Package testkit has the helpers that the tests of this project share:
//
//  1. mount.go mounts new file systems of the kinds that the project supports.
//  2. build.go makes a tree from a list of steps.
//  3. random.go makes such a list from a seed, with every kind of entry.
//  4. compare.go lists the differences between two trees, and snapshot.go the changes of
//     one tree.
//  5. oldscript.go runs a stand-in for the older script, for tests of the rules that both
//     programs must follow.
//
// testkit imports nothing of this project except errs, so that a bug in the code under
// test cannot hide in its test as well. Comparing keeps two descriptors open for each
// level of the tree: it fails on a tree deeper than half the limit of open files.
package testkit

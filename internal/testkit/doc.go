// Package testkit is what the tests of this project share:
//
//  1. mount.go gives a test the file systems that matter, each fresh.
//  2. build.go makes a tree from a list of steps.
//  3. random.go makes such a list from a seed, with every kind of entry in it.
//  4. compare.go says in which ways two trees differ; snapshot.go in which ways
//     one tree has changed.
//  5. script.go is the older script, for tests of what both must agree on.
//
// It imports nothing else of this project, so that a bug in the code under test
// cannot hide here as well. Comparing keeps two descriptors open for each level
// of the tree: a tree deeper than half the limit of open files is an error.
package testkit

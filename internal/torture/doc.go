// Package torture is tests that break the real program everywhere: each file of
// it in one way, all of them held to the same promises, which host_test.go has.
//
//	kill_test.go      SIGKILL at every system call
//	fail_test.go      an error, a short count or no progress at every system call
//	operations_test.go, sweep_test.go  what these two break, and how
//	escape_test.go    no system call that they would not see
//	powercut_test.go  the file system cut off at any moment, and mounted again
//	lying_test.go     a disk that flips, drops, refuses, fills up
//	hanging_test.go   or hangs
//	dropped_test.go   or keeps only what was synced, or some of the rest
//	fire_test.go      many processes, killed at random, and the older script
//	input_test.go     command lines, names, user files and manifests that are wrong
//	attack_test.go    local users who swap symbolic links in
//
// Without flags each test runs one bounded round. With -torture 30m the rounds go
// on for that long, whole and each from a seed of its own; -seed repeats one. What
// was tried is counted and printed at the end.
package torture

// Package torture is tests that break the real program everywhere: each file of
// it in one way, all of them held to the same promises, which host_test.go has.
//
//	kill_test.go      SIGKILL at every system call
//	fail_test.go      an error, a short count or no progress at every system call
//	escape_test.go    no system call goes past the layer that counts them
//	resume_test.go    one copy killed ten times; stages and journals damaged or forged
//	powercut_test.go  ext4, XFS and btrfs cut off at any moment, and mounted again
//	adopt_test.go     the older script killed, and half a shard beside a good manifest
//	dropped_test.go   a disk that keeps only what was synced
//	lying_test.go     a disk that flips, drops, rots, refuses, is slow or fills up
//	rot_test.go       a published shard rots, or cannot be read in places
//	hanging_test.go   a disk that hangs, and signals meanwhile
//	scrub_test.go     hooks, replaced shards and signals while shards are verified
//	fire_test.go      many processes, killed at random, and the older script
//	interleave_test.go one process stopped before any of its calls, others meanwhile
//	waiting_test.go   those who wait for a lock: signals, timeouts, a holder that dies
//	lock_input_test.go user files and lock dirs that are odd, or change under a process
//	input_test.go     names, ids and command lines that are wrong
//	manifest_input_test.go manifests that are damaged or made on purpose
//	places_input_test.go sources, directories and rights that are wrong
//	mount_input_test.go file systems mounted in what is removed or replaced
//	attack_test.go    local users who swap symbolic links in
//	private_attack_test.go local users who look into a stage, or forge records
//
// Every operation that is swept is in operations_test.go; history_test.go searches
// for the one order that explains what many processes saw.
//
// Without flags each test runs one bounded round. With -torture 30m each test has its
// share of that time for rounds that try everything, in an order and from a seed of
// their own; the last is cut off when the time is over. -torture 1ms is one whole round
// of each, however long it takes, and -seed repeats one. What was tried is counted and
// printed at the end.
package torture

// Package torture tests the real program by breaking it everywhere. Each test file
// breaks it in one way. All of them check the same promises, which are in host_test.go.
//
//	kill_test.go            SIGKILL at every system call
//	fail_test.go            an error, a short count or no progress at every system call
//	escape_test.go          every system call goes through the layer that counts them
//	resume_test.go          one copy killed ten times; damaged and forged stages and journals
//	powercut_test.go        power cuts at any moment on ext4, XFS and btrfs
//	adopt_test.go           kills of the older script; half a shard next to a good manifest
//	dropped_test.go         a disk that keeps only synced data
//	lying_test.go           a disk that flips bits, drops writes, rots, fails, is slow or full
//	rot_test.go             a published shard that rots, or is unreadable in places
//	repair_lying_test.go    repair on a disk that rots, fails or is full
//	hanging_test.go         a disk that hangs, and signals during that time
//	scrub_test.go           hooks, replaced shards and signals during a verification
//	fire_test.go            many processes, random kills, and the older script
//	interleave_test.go      one process stopped before any of its calls while others run
//	waiting_test.go         processes that wait for a lock: signals, timeouts, a killed holder
//	lock_input_test.go      odd user files and lock dirs, and changes of them during a call
//	input_test.go           invalid names, ids and command lines
//	manifest_input_test.go  damaged and hostile manifests
//	places_input_test.go    unusable sources and directories, missing rights
//	mount_input_test.go     mounts in trees that are removed or replaced
//	tree_attack_test.go     local users who insert symbolic links in a source or a shard
//	userfile_attack_test.go local users who insert them in a lock dir
//	private_attack_test.go  local users who look into a stage, or forge records
//
// operations_test.go lists every operation that the sweeps of sweep_test.go break, and
// attack_test.go has the common part of the attacks.
// history_test.go searches for the one order that explains the results of many
// processes.
//
// Without flags each test runs one bounded round. With -torture 30m each test gets its
// share of that time, for rounds that try everything, each in its own order and with
// its own seed; the last round is cut off when the time is over. -torture 1ms runs one
// complete round of each test, without a time limit, and -seed repeats one. The number
// of trials of each kind is printed at the end.
package torture

//go:build !faults

package sys

// attempt is one system call.
func attempt(_ string, _ place, n int, f func(n int) (int, error)) (int, error) { return f(n) }

// BatchAfter is after how many small files read one by one a Batch pays. A file read in
// a batch saves some 20 µs, and all batches of a pool are some 40 ms to tear down.
const BatchAfter = 1000

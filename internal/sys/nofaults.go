//go:build !faults

package sys

// attempt is one system call.
func attempt(_ string, _ place, n int, f func(n int) (int, error)) (int, error) { return f(n) }

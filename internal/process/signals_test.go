package process

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the program that the test runs.
func TestMain(m *testing.M) {
	if os.Getenv("PROCESS_TEST") != "" {
		os.Exit(Run(manyThreads))
	}
	os.Exit(m.Run())
}

// A program that waits in many threads never waits in the main one, which receives the
// signals.
func TestNothingRunsOnTheMainThread(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := exec.Command(self)
	program.Env = append(os.Environ(), "PROCESS_TEST=1")
	if err := program.Run(); err != nil {
		t.Error(err)
	}
}

// manyThreads waits in 64 threads at once. It fails if the main thread is among them.
func manyThreads() (status int) {
	var found atomic.Bool
	var all, there sync.WaitGroup
	there.Add(64)
	for range 64 {
		all.Go(func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				found.Store(true)
			}
			there.Done()
			there.Wait()
		})
	}
	all.Wait()
	if found.Load() {
		return 1
	}
	return 0
}

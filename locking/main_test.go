package locking

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The other processes of a test run this test binary again. peerEnv names the role of the
// process, and its arguments are those of the role.
const peerEnv = "LOCKING_TEST_PEER"

func TestMain(m *testing.M) {
	roles := map[string]func(args []string) error{
		"hold": holdLock, "count": countUnderLock, "spawn": spawnChild, "idle": stayIdle, "limited": registerLimited,
	}
	name, isPeer := os.LookupEnv(peerEnv)
	if !isPeer {
		os.Exit(m.Run())
	}
	if err := roles[name](os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// holdLock DIR SHARD locks, prints "ready", and unlocks when its input ends.
func holdLock(args []string) error {
	u, err := Acquire(context.Background(), args[0], args[1], AcquireOptions{Create: true})
	if err != nil {
		return err
	}
	if err := stayIdle(nil); err != nil {
		return err
	}
	return u.Unlock()
}

// stayIdle prints "ready" and waits until its input ends.
func stayIdle([]string) error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// spawnChild DIR SHARD locks, and starts a child that stays idle.
func spawnChild(args []string) error {
	if _, err := Acquire(context.Background(), args[0], args[1], AcquireOptions{Create: true}); err != nil {
		return err
	}
	child := peerCmd("idle")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	return child.Run()
}

// countUnderLock DIR SHARD COUNTER ROUNDS adds 1 to the number in the file COUNTER in each
// round, under the lock of a user file that it then removes.
func countUnderLock(args []string) error {
	rounds, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	for range rounds {
		u, err := Acquire(context.Background(), args[0], args[1], AcquireOptions{Create: true})
		if err != nil {
			return err
		}
		if err := errors.Join(incrementCounter(args[2]), u.Remove(), u.Unlock()); err != nil {
			return err
		}
	}
	return nil
}

// incrementCounter fails if another process is in it, too.
func incrementCounter(counter string) error {
	alone, err := os.OpenFile(counter+".alone", os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(counter)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(counter, []byte(strconv.Itoa(n+1)), 0o600),
		alone.Close(), os.Remove(alone.Name()))
}

// registerLimited DIR SHARD ID BYTES registers ID while no file may grow over BYTES, and
// prints the result: added, whether the error was EFBIG, and the number of users.
func registerLimited(args []string) error {
	bytes, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGXFSZ)
	u, err := Acquire(context.Background(), args[0], args[1], AcquireOptions{})
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: bytes}); err != nil {
		return err
	}
	added, err := u.Register(args[2])
	fmt.Println(added, errors.Is(err, unix.EFBIG), len(u.Users()))
	return u.Unlock()
}

func peerCmd(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	// Without this the race detector makes every process sleep for a second at its exit.
	cmd.Env = append(os.Environ(), peerEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

type peer struct {
	cmd    *exec.Cmd
	input  io.Closer
	output *bufio.Reader
}

// startPeer starts a process with a role. Its input ends when the test ends.
func startPeer(t *testing.T, name string, args ...string) *peer {
	t.Helper()
	p := &peer{cmd: peerCmd(name, args...)}
	in, err := p.cmd.StdinPipe()
	noError(t, err)
	out, err := p.cmd.StdoutPipe()
	noError(t, err)
	p.input, p.output = in, bufio.NewReader(out)
	noError(t, p.cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if p.cmd.ProcessState == nil {
			p.cmd.Wait()
		}
	})
	return p
}

func (p *peer) expectLine(t *testing.T, want string) {
	t.Helper()
	if got, err := p.output.ReadString('\n'); strings.TrimSpace(got) != want {
		t.Fatalf("got line %q (%v) from the peer, want %q", got, err, want)
	}
}

// waitForEnd ends the peer's input and waits until the peer exits.
func (p *peer) waitForEnd(t *testing.T) {
	t.Helper()
	noError(t, p.input.Close())
	noError(t, p.cmd.Wait())
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

func mustAcquire(t *testing.T, dir string, o AcquireOptions) *UserFile {
	t.Helper()
	u, err := Acquire(t.Context(), dir, "shard", o)
	noError(t, err)
	t.Cleanup(func() { u.Unlock() })
	return u
}

// lockDirWith makes a lock dir with a user file that contains list.
func lockDirWith(t *testing.T, list string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "shard.lock")
	noError(t, os.WriteFile(path, []byte(list), 0o644))
	return dir, path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	noError(t, err)
	return string(b)
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var s unix.Stat_t
	noError(t, unix.Lstat(path, &s))
	return s.Ino
}

// listDir returns the names in dir on one line.
func listDir(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	noError(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

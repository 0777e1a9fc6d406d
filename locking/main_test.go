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

// A test's other processes are this binary again, with the part to play in
// peerEnv and the arguments of the part.
const peerEnv = "LOCKING_TEST_PEER"

func TestMain(m *testing.M) {
	parts := map[string]func(args []string) error{
		"hold": holdLock, "count": countUnderLock, "spawn": spawnChild, "idle": stayIdle, "limited": registerLimited,
	}
	name, isPeer := os.LookupEnv(peerEnv)
	if !isPeer {
		os.Exit(m.Run())
	}
	if err := parts[name](os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// hold DIR SHARD locks, says so, and unlocks at the end of its input.
func holdLock(args []string) error {
	u, err := Acquire(context.Background(), args[0], args[1], Options{Create: true})
	if err != nil {
		return err
	}
	if err := stayIdle(nil); err != nil {
		return err
	}
	return u.Unlock()
}

// idle says so and waits for the end of its input.
func stayIdle([]string) error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// spawn DIR SHARD locks, and starts a child that idles.
func spawnChild(args []string) error {
	if _, err := Acquire(context.Background(), args[0], args[1], Options{Create: true}); err != nil {
		return err
	}
	child := peerCmd("idle")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	return child.Run()
}

// count DIR SHARD COUNTER ROUNDS adds 1 to the number in the file COUNTER each
// round, under a lock on a user file that it removes.
func countUnderLock(args []string) error {
	rounds, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	for range rounds {
		u, err := Acquire(context.Background(), args[0], args[1], Options{Create: true})
		if err != nil {
			return err
		}
		if err := errors.Join(incrementCounter(args[2]), u.Remove(), u.Unlock()); err != nil {
			return err
		}
	}
	return nil
}

// incrementCounter fails if it is not alone.
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

// limited DIR SHARD ID BYTES registers ID where no file may be longer than BYTES,
// and says what came of it.
func registerLimited(args []string) error {
	bytes, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGXFSZ)
	u, err := Acquire(context.Background(), args[0], args[1], Options{})
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
	// The race detector makes every process sleep for a second before it exits.
	cmd.Env = append(os.Environ(), peerEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

type peer struct {
	cmd    *exec.Cmd
	input  io.Closer
	output *bufio.Reader
}

// startPeer starts a part; the test's end is the end of its input.
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
		t.Fatalf("peer said %q (%v), wanted %q", got, err, want)
	}
}

// end ends the peer's input and waits for the peer.
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
		t.Errorf("%s: got %v, wanted %v", what, got, want)
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, wanted %v", got, want)
	}
}

func mustAcquire(t *testing.T, dir string, o Options) *UserFile {
	t.Helper()
	u, err := Acquire(t.Context(), dir, "shard", o)
	noError(t, err)
	t.Cleanup(func() { u.Unlock() })
	return u
}

// lockDirWith makes a lock dir with a user file of those bytes.
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

// names lists dir on one line.
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

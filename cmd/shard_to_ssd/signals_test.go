package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	shardtossd "shard_to_ssd"
)

// TestSignal sends each signal to this process while an operation runs.
func TestSignal(t *testing.T) {
	for sig, name := range map[syscall.Signal]string{
		syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP",
	} {
		interrupt := func(result error) operation {
			return func(ctx context.Context, _ settings) (*jsonResult, error) {
				if err := syscall.Kill(syscall.Getpid(), sig); err != nil {
					return nil, err
				}
				<-ctx.Done()
				return nil, result
			}
		}
		stopping := "WARNING:root:interrupted by " + name + ", stopping; a second signal kills at once\n"
		for _, test := range []struct {
			err    error
			status int
			logged string
		}{
			{fmt.Errorf("copy: %w", context.Canceled), 128 + int(sig), "ERROR:root:copy: context canceled (interrupted by " + name + ")\n"},
			{errors.New("some call failed"), 128 + int(sig), "ERROR:root:some call failed\n"},
			{shardtossd.ErrNoSpace, 4, "ERROR:root:not enough space\n"},
			{nil, 0, "WARNING:root:interrupted by " + name + " too late: the operation is complete\n"},
		} {
			var h fakeHost
			if status := h.run(interrupt(test.err), "-c", "-i", "a", "s"); status != test.status {
				t.Errorf("%s, %v: status %d, want %d", name, test.err, status, test.status)
			}
			if got, want := h.stderr.String(), stopping+test.logged; got != want {
				t.Errorf("%s, %v: logged %q, want %q", name, test.err, got, want)
			}
		}
	}
}

// TestNoSignal ensures that a context that ends without a signal is a failure.
func TestNoSignal(t *testing.T) {
	var h fakeHost
	if status := h.run(returning(nil, context.Canceled), "-c", "-i", "a", "s"); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
}

// ignoreContext is the program with an operation that ignores its context.
func ignoreContext() {
	o := func(_ context.Context, o settings) (*jsonResult, error) {
		o.Log.Log(shardtossd.Info, "root", "started")
		_, err := io.Copy(io.Discard, os.Stdin) // until the test closes it
		return nil, err
	}
	os.Exit(runHere(map[mode]operation{modeCopy: o}))
}

// startIgnoring starts a program with ignoreContext and waits for its first line.
func startIgnoring(t *testing.T, argv ...string) (command *exec.Cmd, stdin io.Closer, lines *bufio.Scanner) {
	t.Helper()
	command = exec.Command(argv[0], argv[1:]...)
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	lines = bufio.NewScanner(stderr)
	if !lines.Scan() || lines.Text() != "INFO:root:started" {
		t.Fatalf("got %q, want the first line", lines.Text())
	}
	return command, stdin, lines
}

func TestSecondSignalKills(t *testing.T) {
	command, _, lines := startIgnoring(t, "ignore_context", "-c", "-i", "a", "s")
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), "interrupted by SIGTERM") {
		t.Fatalf("got %q, want the interruption", lines.Text())
	}
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // the status is checked below
	if status := command.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("got %v, want the end by SIGINT", command.ProcessState)
	}
}

// TestTwoSignalsAtOnce ensures that a second signal kills even if the process has not
// handled the first one yet.
func TestTwoSignalsAtOnce(t *testing.T) {
	for range 20 {
		command, _, lines := startIgnoring(t, "ignore_context", "-c", "-i", "a", "s")
		timer := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			if err := command.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		for lines.Scan() { // until the end of the process
		}
		timer.Stop()
		_ = command.Wait() // the status is checked below
		status := command.ProcessState.Sys().(syscall.WaitStatus)
		if killer := status.Signal(); killer != syscall.SIGTERM && killer != syscall.SIGINT {
			t.Fatalf("got %v, want the end by SIGTERM or SIGINT", command.ProcessState)
		}
	}
}

// TestRepeatedSignal sends one signal again and again. It must not kill the process in
// the first second, and must kill it after that.
func TestRepeatedSignal(t *testing.T) {
	command, _, lines := startIgnoring(t, "ignore_context", "-c", "-i", "a", "s")
	start := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() { // until the end of the process
		}
	}()
	for running := true; running; {
		if err := command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case <-ended:
			running = false
		case <-time.After(5 * time.Millisecond):
		}
	}
	took := time.Since(start)
	_ = command.Wait() // the status is checked below
	if status := command.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("got %v, want the end by SIGTERM", command.ProcessState)
	}
	if took < time.Second {
		t.Errorf("killed after %v, want 1 s or more", took)
	}
}

// obeyContext is the program with an operation that ends with its context.
func obeyContext() {
	o := func(ctx context.Context, o settings) (*jsonResult, error) {
		fmt.Println("started")
		<-ctx.Done()
		return nil, ctx.Err()
	}
	os.Exit(runHere(map[mode]operation{modeCopy: o}))
}

// TestRepeatedSignalAtTheEnd ensures that the second of two signals does not kill a
// process that has stopped working and writes its result. An attempt counts only if all
// its signals came within the second in which they are one.
func TestRepeatedSignalAtTheEnd(t *testing.T) {
	for range 20 {
		if signalThreeTimes(t) {
			return
		}
	}
	t.Error("in 20 attempts, three signals took more than a second each time")
}

// signalThreeTimes reports whether the attempt counts.
func signalThreeTimes(t *testing.T) (counts bool) {
	t.Helper()
	stdout, writer := openPipe(t)
	command := exec.Command("obey_context", "-c", "--json", "-i", "a", "s")
	command.Stdout = writer
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	startProgram(t, command)
	output := bufio.NewReader(stdout)
	if line, err := output.ReadString('\n'); line != "started\n" {
		t.Fatalf("got %q, %v, want the first line", line, err)
	}
	fillPipe(t, writer)
	writer.Close()

	start := time.Now()
	for _, want := range []string{"WARNING:root:interrupted by SIGTERM, ", "ERROR:root:context canceled "} {
		if err := command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, stderr, want)
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if time.Since(start) >= time.Second { // then the signal may kill it
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()
		return false
	}
	text, err := io.ReadAll(output)
	if err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // the status is checked below
	if status := command.ProcessState.ExitCode(); status != 128+int(syscall.SIGTERM) {
		t.Errorf("got %v, want status 143", command.ProcessState)
	}
	if !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("standard output: got %q at the end, want a result", text[max(0, len(text)-100):])
	}
	return true
}

// awaitLine reads one line byte by byte, so that the next call finds the next one.
func awaitLine(t *testing.T, r io.Reader, want string) {
	t.Helper()
	var line []byte
	for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, one[0]) {
		if _, err := io.ReadFull(r, one); err != nil {
			t.Fatalf("got %q, %v, want a line with %q", line, err, want)
		}
	}
	if !strings.HasPrefix(string(line), want) {
		t.Fatalf("got %q, want a line with %q", line, want)
	}
}

// TestNohup ensures that a signal that the caller ignores stays ignored.
func TestNohup(t *testing.T) {
	command, stdin, lines := startIgnoring(t, "sh", "-c", `trap "" HUP; exec ignore_context -c -i a s`)
	if err := command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() {
		t.Errorf("logged %q", lines.Text())
	}
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
}

// TestLogReaderGone ensures that the copy continues without a reader of its log.
func TestLogReaderGone(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	defer writer.Close()
	command := exec.Command("ignore_context", "-c", "-i", "a", "s")
	command.Stderr = writer
	if err := command.Run(); err != nil {
		t.Error(err)
	}
}

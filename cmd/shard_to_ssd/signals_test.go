package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

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

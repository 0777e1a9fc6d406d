package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	shardtossd "shard_to_ssd"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		`INFO:shard_to_ssd:Lock on file /l/shard2.lock acquired`: `INFO:shard_to_ssd:Lock on file /l/shard2.lock acquired`,
		`a "quoted" \n name`: `a "quoted" \n name`,
		"größe 日本 \u00a0.":   "größe 日本 \u00a0.",
		"\ufffd":             "\ufffd",
		"a\nb\rc\td":         `a\nb\rc\td`,
		"\x1b[31m\x00\x7f":   `\x1b[31m\x00\x7f`,
		"\xff\x9b\xc3":       `\xff\x9b\xc3`,
		"\u2028\u202e\u0085": `\u2028\u202e\u0085`,
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// TestBarAndLines ensures that lines stay whole and the bar stays last.
func TestBarAndLines(t *testing.T) {
	var screen strings.Builder
	out := newOutput(&screen)
	out.Log(shardtossd.Info, "root", "before")
	out.setBar("[=>]")
	out.setBar("[=>]") // unchanged, so not drawn
	out.Log(shardtossd.Warning, "shard_to_ssd", "between")
	out.setBar("")
	out.Log(shardtossd.Error, "root", "after")
	out.waitBeforeExit()
	want := "INFO:root:before\n" +
		clearLine + "[=>]" +
		clearLine + "WARNING:shard_to_ssd:between\n[=>]" +
		clearLine +
		"ERROR:root:after\n"
	if screen.String() != want {
		t.Errorf("got %q, want %q", screen.String(), want)
	}
}

// blockedWriter blocks each write until the test lets it continue.
type blockedWriter struct {
	written   bytes.Buffer
	continues chan struct{}
}

func (b *blockedWriter) Write(text []byte) (int, error) {
	<-b.continues
	return b.written.Write(text)
}

// TestWaitsForStoppedReader measures in a bubble how long the program waits for a
// stopped reader. A bubble fails if a goroutine is left.
func TestWaitsForStoppedReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &blockedWriter{continues: make(chan struct{})}
		out := newOutput(reader)
		measure := func(name string, wait func(), want time.Duration) {
			t.Helper()
			start := time.Now()
			wait()
			if got := time.Since(start); got != want {
				t.Errorf("%s: waited for %v, want %v", name, got, want)
			}
		}
		measure("nothing queued", out.waitBeforeExit, 0)
		out.Log(shardtossd.Info, "root", "one")
		measure("first result", out.waitBeforeStdout, time.Second)
		measure("second result", out.waitBeforeStdout, 0)
		measure("exit", out.waitBeforeExit, time.Second)
		close(reader.continues)
		measure("reader is back", out.waitBeforeExit, 0)
		if got, want := reader.written.String(), "INFO:root:one\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestBarOfStoppedReader ensures that bars do not fill the queue, that the last one is
// drawn even if it is full, and that the number of lost lines is above it.
func TestBarOfStoppedReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &blockedWriter{continues: make(chan struct{})}
		out := newOutput(reader)
		out.Log(shardtossd.Info, "root", "one")
		synctest.Wait() // the write blocks
		for n := range 1000 {
			out.setBar(fmt.Sprintf("[%d]", n))
		}
		long := strings.Repeat("x", queueLimit)
		for range 3 {
			out.Log(shardtossd.Info, "root", long)
		}
		out.Log(shardtossd.Info, "root", "short, but the lines before it are lost")
		out.setBar("[last]")
		close(reader.continues)
		out.waitBeforeExit()
		want := "INFO:root:one\n" + clearLine + "[last]" +
			clearLine + "WARNING:root:4 lines lost here: the reader of standard error was too slow\n[last]"
		if got := reader.written.String(); got != want {
			t.Errorf("got %q, want %q", got[:min(len(got), 300)], want)
		}
	})
}

// TestOutputIsConcurrent is for the race detector. It also ensures that lines of one
// goroutine stay in order.
func TestOutputIsConcurrent(t *testing.T) {
	var screen bytes.Buffer
	out := newOutput(&screen)
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for n := range 500 {
				out.Log(shardtossd.Info, strconv.Itoa(worker), strconv.Itoa(n))
				out.setBar(strconv.Itoa(n))
			}
		})
	}
	all.Wait()
	out.waitBeforeExit()
	next := map[string]int{}
	for _, found := range regexp.MustCompile(`INFO:(\d):(\d+)\n`).FindAllStringSubmatch(screen.String(), -1) {
		if found[2] != strconv.Itoa(next[found[1]]) {
			t.Fatalf("worker %s: got line %s, want %d", found[1], found[2], next[found[1]])
		}
		next[found[1]]++
	}
	for worker, lines := range next {
		if lines != 500 {
			t.Errorf("worker %s: got %d lines, want 500", worker, lines)
		}
	}
}

// manyLines are more than the queue and a pipe take.
const manyLines = 50_000

// logMuch is the program with an operation that logs as many lines as SHARD says.
// Then it waits for the end of standard input, and logs the last line.
func logMuch() {
	o := func(ctx context.Context, o settings) (*jsonResult, error) {
		lines, err := strconv.Atoi(os.Args[len(os.Args)-1])
		if err != nil {
			return nil, err
		}
		for n := range lines {
			o.Log.Log(shardtossd.Info, "root", lineMessage(n))
		}
		fmt.Println("logged")
		input := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, os.Stdin)
			input <- err
		}()
		select {
		case err = <-input:
		case <-ctx.Done():
			err = ctx.Err()
		}
		o.Log.Log(shardtossd.Info, "root", "last")
		return nil, err
	}
	os.Exit(runHere(map[mode]operation{modeCopy: o}))
}

func lineMessage(n int) string { return fmt.Sprintf("line %d is one of many lines", n) }

func numberedLine(n int) string { return "INFO:root:" + lineMessage(n) + "\n" }

// openPipe returns the ends of a pipe that the test closes.
func openPipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		reader.Close()
		writer.Close()
	})
	return reader, writer
}

// fillPipe writes newlines until the pipe takes no more byte. It returns their number.
func fillPipe(t *testing.T, writer *os.File) (size int) {
	t.Helper()
	fd := int(writer.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := syscall.Write(fd, []byte("\n"))
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		size += n
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return size
}

// startProgram starts a program that is killed if it takes a minute.
func startProgram(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		_ = command.Process.Kill()
	})
}

// stalledProgram is logMuch with a standard error that is not read. The program has
// logged its lines.
type stalledProgram struct {
	*exec.Cmd
	stdin  io.Closer
	stderr *os.File
	filler int // bytes in standard error before the lines
}

func startStalled(t *testing.T) stalledProgram {
	t.Helper()
	reader, writer := openPipe(t)
	p := stalledProgram{Cmd: exec.Command("log_much", "-c", "-i", "a", strconv.Itoa(manyLines)), stderr: reader}
	p.filler = fillPipe(t, writer)
	p.Stderr = writer
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	startProgram(t, p.Cmd)
	writer.Close()
	awaitLine(t, stdout, "logged")
	return p
}

// TestStoppedReader ensures that the work continues and ends although the reader of
// standard error has stopped.
func TestStoppedReader(t *testing.T) {
	p := startStalled(t)
	p.stdin.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestSignalWithStoppedReader ensures that a signal ends the work although the reader
// of standard error has stopped.
func TestSignalWithStoppedReader(t *testing.T) {
	p := startStalled(t)
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // the status is checked below
	if status := p.ProcessState.ExitCode(); status != 128+int(syscall.SIGTERM) {
		t.Errorf("got %v, want status 143", p.ProcessState)
	}
}

// TestReaderContinues ensures that a reader that was stopped gets whole lines in order,
// the number of lines lost, and the lines after that.
func TestReaderContinues(t *testing.T) {
	p := startStalled(t)
	if _, err := io.CopyN(io.Discard, p.stderr, int64(p.filler)); err != nil {
		t.Fatal(err)
	}
	lines := 0
	lost := regexp.MustCompile(`^WARNING:root:(\d+) lines lost here: the reader of standard error was too slow\n`)
	var text []byte
	for buffer := make([]byte, 1<<16); !lost.Match(text); {
		n, err := p.stderr.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, buffer[:n]...)
		for bytes.HasPrefix(text, []byte(numberedLine(lines))) {
			text = text[len(numberedLine(lines)):]
			lines++
		}
	}
	found := lost.FindSubmatch(text)
	if count, _ := strconv.Atoi(string(found[1])); lines == 0 || lines+count != manyLines {
		t.Errorf("got %d lines and %d lost, want %d in all", lines, count, manyLines)
	}
	p.stdin.Close()
	rest, err := io.ReadAll(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text[len(found[0]):])+string(rest), "INFO:root:last\n"; got != want {
		t.Errorf("after that: got %q, want %q", got, want)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestNoLineIsLostAtExit ends a program right after it has logged many lines. Both
// outputs are one pipe: the result must be the last line.
func TestNoLineIsLostAtExit(t *testing.T) {
	const lines = 10_000
	var log strings.Builder
	for n := range lines {
		log.WriteString(numberedLine(n))
	}
	log.WriteString("INFO:root:last\n")
	for _, test := range []struct{ flag, result string }{
		{"--progress=none", ""},
		{"--json", `{"operation":"copy","shard":"10000","status":0,` + zeros + "}\n"},
	} {
		command := exec.Command("log_much", "-c", test.flag, "-i", "a", strconv.Itoa(lines))
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		got, want := strings.Replace(string(output), "logged\n", "", 1), log.String()+test.result
		if got != want {
			t.Errorf("%s: got %d bytes with the end %q, want %d bytes", test.flag, len(got), got[max(0, len(got)-200):], len(want))
		}
	}
}

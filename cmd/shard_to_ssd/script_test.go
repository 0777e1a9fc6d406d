package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// TestScripts runs the stories in testdata. Each runs in a directory of its own,
// which holds the files at the end of the story. testscript has commands and
// conditions; these are added:
//
//	status N command...      Run the command and expect exit status N.
//	json FILE [KEY REGEXP]...  FILE is one JSON object, and the whole value of KEY
//	                         matches REGEXP. KEY is a path such as "status" or
//	                         "shards.0.name". A missing value is an empty string.
//	users FILE ID...         FILE has exactly these ids, joined by newlines.
//	snapshot PATH...         Record these trees: contents, modes, owners, inodes,
//	                         mtime and ctime. Holes are read too.
//	unchanged PATH...        The trees are the same as in their snapshot.
//	mount DIR OPTIONS        Mount a tmpfs on the new directory DIR until the end.
//	start NAME command...    Run the command in the background, with its output in
//	                         NAME.stdout and NAME.stderr.
//	await FILE REGEXP        Wait until FILE exists and has a match.
//	signal NAME SIGNAL       Send the signal, such as TERM, to a started command.
//	ends NAME N              Wait for its end and expect exit status N, or -1 if it
//	                         was killed.
//	[root]                   The test may mount, and give files to other owners.
func TestScripts(t *testing.T) {
	// Under nohup this process ignores SIGHUP, and its children inherit that. They do not
	// inherit a handler, so it is caught here.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) }) // after the stories, which run in parallel
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":    scriptStatus,
			"json":      scriptJSON,
			"users":     scriptUsers,
			"snapshot":  scriptSnapshot,
			"unchanged": scriptUnchanged,
			"mount":     scriptMount,
			"start":     scriptStart,
			"await":     scriptAwait,
			"signal":    scriptSignal,
			"ends":      scriptEnds,
		},
		Condition: func(condition string) (bool, error) {
			if condition != "root" {
				return false, errors.New("unknown condition")
			}
			return os.Geteuid() == 0 && os.Getenv("SHARD_TO_SSD_TESTS") != "check", nil
		},
		// The stories must not depend on the caller's environment.
		Setup: func(env *testscript.Env) error {
			// A binary built with -race waits a second before it exits, and dozens run here.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv(envLockDir, "")
			env.Setenv(envSSDDir, "")
			env.Values["state"] = &scriptState{map[string]testkit.Tree{}, map[string]*exec.Cmd{}}
			return nil
		},
	})
}

// scriptState is the state of one script, for its commands.
type scriptState struct {
	snapshots map[string]testkit.Tree // by path
	started   map[string]*exec.Cmd    // by name
}

func stateOf(ts *testscript.TestScript) *scriptState { return ts.Value("state").(*scriptState) }

// requireArgs ends the script unless a command has at least this many arguments.
func requireArgs(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 2, "status N command [args]")
	requireStatus(ts, ts.Exec(args[1], args[2:]...), args[0])
}

// requireStatus ends the script unless err, of a command, is this exit status.
func requireStatus(ts *testscript.TestScript, err error, want string) {
	status := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got := strconv.Itoa(status); got != want {
		ts.Fatalf("got exit status %s, want %s", got, want)
	}
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 1, "json FILE [KEY REGEXP]...")
	var object map[string]any
	text := ts.ReadFile(args[0])
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		ts.Fatalf("%s is not a JSON object: %v in %q", args[0], err, text)
	}
	for i := 1; i+1 < len(args); i += 2 {
		value := lookUpKey(object, args[i])
		if !regexp.MustCompile(`^(?:` + args[i+1] + `)$`).MatchString(value) {
			ts.Fatalf("%s: %s is %q, want %q in %s", args[0], args[i], value, args[i+1], text)
		}
	}
}

// lookUpKey returns the value at a key: a string as it is, any other value as JSON,
// and a missing one as "".
func lookUpKey(value any, key string) string {
	for part := range strings.SplitSeq(key, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(v) {
				return ""
			}
			value = v[i]
		default:
			return ""
		}
	}
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func scriptUsers(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 1, "users FILE ID...")
	if got, want := ts.ReadFile(args[0]), strings.Join(args[1:], "\n"); got != want {
		ts.Fatalf("%s is %q, want %q", args[0], got, want)
	}
}

func scriptSnapshot(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 1, "snapshot PATH...")
	for _, path := range args {
		stateOf(ts).snapshots[path] = testkit.SnapshotTree(ts.MkAbs(path))
	}
}

func scriptUnchanged(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 1, "unchanged PATH...")
	for _, path := range args {
		before, ok := stateOf(ts).snapshots[path]
		if !ok {
			ts.Fatalf("no snapshot of %s", path)
		}
		if diff := testkit.DiffSnapshots(before, testkit.SnapshotTree(ts.MkAbs(path))); len(diff) > 0 {
			ts.Fatalf("%s changed:\n%s", path, strings.Join(diff, "\n"))
		}
	}
}

func scriptMount(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 2, "mount DIR OPTIONS")
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, args[1]))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, unix.MNT_DETACH)) })
}

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 2, "start NAME command [args]")
	state, name := stateOf(ts), args[0]
	if state.started[name] != nil {
		ts.Fatalf("%s is started already", name)
	}
	// A shell finds the command in the PATH of the script, redirects its output, and
	// replaces itself by it.
	command := exec.Command("/bin/sh", append([]string{"-c", `exec "$@" >"$0.stdout" 2>"$0.stderr"`}, args...)...)
	command.Dir = ts.MkAbs(".")
	for _, variable := range []string{"PATH", "TMPDIR", "GORACE"} {
		command.Env = append(command.Env, variable+"="+ts.Getenv(variable))
	}
	ts.Check(command.Start())
	state.started[name] = command
	ts.Defer(func() { // without effect if it has ended
		_ = command.Process.Kill()
		_ = command.Wait()
	})
}

// scriptAwait checks FILE after every change in the directories of its path.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 2, "await FILE REGEXP")
	want := regexp.MustCompile(args[1])
	events, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	ts.Check(err)
	defer unix.Close(events)
	deadline := time.Now().Add(20 * time.Second)
	for {
		// Watch first, from the top down, and read then: no change is missed in between.
		watchDir(ts, events, ".")
		for i, c := range args[0] {
			if c == '/' {
				watchDir(ts, events, args[0][:i])
			}
		}
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && want.Match(text) {
			return
		}
		fds := []unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, int(time.Until(deadline).Milliseconds())); n == 0 || time.Now().After(deadline) {
			text, err := os.ReadFile(ts.MkAbs(args[0]))
			ts.Fatalf("no match in %s after 20 s: %.1000q, %v", args[0], text, err)
		}
		_, _ = unix.Read(events, make([]byte, 64<<10)) // the kind of change does not matter
	}
}

func watchDir(ts *testscript.TestScript, events int, dir string) {
	_, err := unix.InotifyAddWatch(events, ts.MkAbs(dir), unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY)
	if err != nil && err != unix.ENOENT {
		ts.Fatalf("watch %s: %v", dir, err)
	}
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 2, "signal NAME SIGNAL")
	ts.Check(startedBy(ts, args[0]).Process.Signal(signalNamed(ts, args[1])))
}

func scriptEnds(ts *testscript.TestScript, neg bool, args []string) {
	requireArgs(ts, neg, args, 2, "ends NAME N")
	command := startedBy(ts, args[0])
	err := command.Wait()
	delete(stateOf(ts).started, args[0])
	ts.Logf("%s", ts.ReadFile(args[0]+".stderr"))
	requireStatus(ts, err, args[1])
}

func startedBy(ts *testscript.TestScript, name string) *exec.Cmd {
	command := stateOf(ts).started[name]
	if command == nil {
		ts.Fatalf("%s is not started", name)
	}
	return command
}

func signalNamed(ts *testscript.TestScript, name string) syscall.Signal {
	number := unix.SignalNum("SIG" + name)
	if number == 0 {
		ts.Fatalf("unknown signal %s", name)
	}
	return number
}

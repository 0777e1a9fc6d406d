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

// TestScripts runs the stories in testdata, each in a directory of its own with
// the files at its end in it. Besides testscript's own commands and conditions
// there are:
//
//	status N command...      run the command: it ends with exit status N
//	json FILE [KEY REGEXP]...  FILE is one JSON object; what KEY leads to matches
//	                         all of REGEXP. KEY is "status" or "shards.0.name"; what
//	                         is not there is an empty string
//	users FILE ID...         FILE has these ids, joined by newlines, and nothing else
//	snapshot PATH...         remember these trees, with contents, modes, owners,
//	                         inodes, mtime and ctime (it reads holes, too)
//	unchanged PATH...        they are as they were at their snapshot
//	mount DIR OPTIONS        mount a tmpfs on the new directory DIR, until the end
//	start NAME command...    run the command in the background, its output in
//	                         NAME.stdout and NAME.stderr
//	await FILE REGEXP        wait until FILE is there and something in it matches
//	signal NAME SIGNAL       send the signal, such as TERM, to what was started
//	ends NAME N              wait until it ends, with exit status N, -1 if killed
//	[root]                   may mount, and give files away
func TestScripts(t *testing.T) {
	// Who runs the tests with nohup has SIGHUP ignored, which children inherit; of what is
	// caught here they do not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) }) // after the stories, which run beside each other
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
			return os.Geteuid() == 0, nil
		},
		// Nothing may hang on the caller's settings.
		Setup: func(env *testscript.Env) error {
			// A race-detecting binary waits a second before it exits; dozens run here.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv(envLockDir, "")
			env.Setenv(envSSDDir, "")
			env.Values["state"] = &scriptState{map[string]testkit.Tree{}, map[string]*exec.Cmd{}}
			return nil
		},
	})
}

// scriptState is what the commands of one script remember.
type scriptState struct {
	snapshots map[string]testkit.Tree // by path
	started   map[string]*exec.Cmd    // by name
}

func stateOf(ts *testscript.TestScript) *scriptState { return ts.Value("state").(*scriptState) }

// wantArgs ends the script unless a command has at least this many arguments.
func wantArgs(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "status N command [args]")
	checkStatus(ts, ts.Exec(args[1], args[2:]...), args[0])
}

// checkStatus ends the script unless a command that ended with err had the status.
func checkStatus(ts *testscript.TestScript, err error, wanted string) {
	status := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got := strconv.Itoa(status); got != wanted {
		ts.Fatalf("exit status %s, wanted %s", got, wanted)
	}
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "json FILE [KEY REGEXP]...")
	var object map[string]any
	text := ts.ReadFile(args[0])
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		ts.Fatalf("%s: %v in %q", args[0], err, text)
	}
	for i := 1; i+1 < len(args); i += 2 {
		value := lookUp(object, args[i])
		if !regexp.MustCompile(`^(?:` + args[i+1] + `)$`).MatchString(value) {
			ts.Fatalf("%s: %s is %q, wanted %q in %s", args[0], args[i], value, args[i+1], text)
		}
	}
}

// lookUp is the text of what a key leads to: a string as it is, anything else in
// JSON, nothing for what is not there.
func lookUp(value any, key string) string {
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
	wantArgs(ts, neg, args, 1, "users FILE ID...")
	if got, wanted := ts.ReadFile(args[0]), strings.Join(args[1:], "\n"); got != wanted {
		ts.Fatalf("%s is %q, wanted %q", args[0], got, wanted)
	}
}

func scriptSnapshot(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "snapshot PATH...")
	for _, path := range args {
		stateOf(ts).snapshots[path] = testkit.Snapshot(ts.MkAbs(path))
	}
}

func scriptUnchanged(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "unchanged PATH...")
	for _, path := range args {
		before, ok := stateOf(ts).snapshots[path]
		if !ok {
			ts.Fatalf("no snapshot of %s", path)
		}
		if diff := testkit.Diff(before, testkit.Snapshot(ts.MkAbs(path))); len(diff) > 0 {
			ts.Fatalf("%s changed:\n%s", path, strings.Join(diff, "\n"))
		}
	}
}

func scriptMount(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "mount DIR OPTIONS")
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, args[1]))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, unix.MNT_DETACH)) })
}

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "start NAME command [args]")
	state, name := stateOf(ts), args[0]
	if state.started[name] != nil {
		ts.Fatalf("%s is started already", name)
	}
	// A shell finds the command by the PATH and in the environment of the script,
	// puts its output where it belongs, and becomes it.
	command := exec.Command("/bin/sh", append([]string{"-c", `exec "$@" >"$0.stdout" 2>"$0.stderr"`}, args...)...)
	command.Dir = ts.MkAbs(".")
	for _, variable := range []string{"PATH", "TMPDIR", "GORACE"} {
		command.Env = append(command.Env, variable+"="+ts.Getenv(variable))
	}
	ts.Check(command.Start())
	state.started[name] = command
	ts.Defer(func() { // no-ops if it has ended
		_ = command.Process.Kill()
		_ = command.Wait()
	})
}

// scriptAwait hears of every change in the directories that FILE is in.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "await FILE REGEXP")
	wanted := regexp.MustCompile(args[1])
	events, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	ts.Check(err)
	defer unix.Close(events)
	deadline := time.Now().Add(20 * time.Second)
	for {
		// Watch first, from the top down, and look then: nothing is missed between.
		watchDir(ts, events, ".")
		for i, c := range args[0] {
			if c == '/' {
				watchDir(ts, events, args[0][:i])
			}
		}
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && wanted.Match(text) {
			return
		}
		fds := []unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, int(time.Until(deadline).Milliseconds())); n == 0 || time.Now().After(deadline) {
			text, err := os.ReadFile(ts.MkAbs(args[0]))
			ts.Fatalf("not in %s, in all this time: %.1000q, %v", args[0], text, err)
		}
		_, _ = unix.Read(events, make([]byte, 64<<10)) // what happened does not matter
	}
}

func watchDir(ts *testscript.TestScript, events int, dir string) {
	_, err := unix.InotifyAddWatch(events, ts.MkAbs(dir), unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY)
	if err != nil && err != unix.ENOENT {
		ts.Fatalf("watch %s: %v", dir, err)
	}
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "signal NAME SIGNAL")
	ts.Check(startedBy(ts, args[0]).Process.Signal(signalNamed(ts, args[1])))
}

func scriptEnds(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "ends NAME N")
	command := startedBy(ts, args[0])
	err := command.Wait()
	delete(stateOf(ts).started, args[0])
	ts.Logf("%s", ts.ReadFile(args[0]+".stderr"))
	checkStatus(ts, err, args[1])
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

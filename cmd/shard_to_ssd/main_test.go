package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/verify"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"shard_to_ssd":   main,
		"ignore_context": ignoreContext,
		"obey_context":   obeyContext,
		"log_much":       logMuch,
	})
}

// fakeHost is a host that keeps the output, with one operation for all modes.
type fakeHost struct {
	stdout, stderr strings.Builder
}

func (f *fakeHost) run(o operation, args ...string) int {
	return run(args, host{
		getenv:  func(string) string { return "" },
		stdout:  &f.stdout,
		stderr:  &f.stderr,
		columns: func() int { return 0 },
		operations: map[mode]operation{
			modeCopy: o, modeRemove: o, modeVerify: o, modeList: o,
		},
	})
}

func returning(result *jsonResult, err error) operation {
	return func(context.Context, settings) (*jsonResult, error) { return result, err }
}

// TestRun compares the output and the exit status for each result of an operation.
func TestRun(t *testing.T) {
	damaged := &jsonResult{Operation: "verify", Shard: "s", Differences: []verify.Difference{
		{Path: "a\nb", Kind: verify.Content, Ranges: []verify.ByteRange{{From: 0, To: 4194304}, {From: 8388608, To: 8388609}}},
		{Path: "c", Kind: verify.Size, Detail: "1, expected 2"},
	}, DifferenceCount: 12}
	tests := map[string]struct {
		args           []string
		operation      operation
		status         int
		stdout, stderr string
	}{
		"quiet": {
			[]string{"-c", "-i", "a", "s"}, returning(&jsonResult{}, nil), 0, "", "",
		},
		"failure is one line": {
			[]string{"-r", "-i", "a", "s"}, returning(nil, errors.New("open \"x\": line\nbreak")), 1,
			"", "ERROR:root:open \"x\": line\\nbreak\n",
		},
		"damage": {
			[]string{"--verify", "s"}, returning(damaged, shardtossd.ErrDamaged), 3,
			"content a\\nb: bytes 0-4194304, 8388608-8388609\nsize c: 1, expected 2\n… and 10 more\n", "ERROR:root:damaged\n",
		},
		"listing": {
			[]string{"--list"}, returning(&jsonResult{Shards: []shardInfo{{Name: "s", State: shardtossd.StateForeign}}}, nil), 0,
			"s: foreign\n", "",
		},
		"json of a failure": {
			[]string{"-c", "--json", "-i", "a", "/x/s\xff/"}, returning(nil, shardtossd.ErrNoSpace), 4,
			`{"operation":"copy","shard":"s\\xff","status":4,"error":"not enough space",` + zeros + "}\n",
			"ERROR:root:not enough space\n",
		},
		"json of a success": {
			[]string{"-c", "--json", "-i", "a", "s"},
			returning(&jsonResult{Operation: "copy", Shard: "<s>", Outcome: string(shardtossd.AlreadyOnSSD)}, nil), 0,
			`{"operation":"copy","shard":"<s>","outcome":"already-on-ssd","status":0,` + zeros + "}\n", "",
		},
		"json of a usage error": {
			[]string{"-c", "--json", "s"}, nil, 2,
			`{"operation":"copy","status":2,"error":"-i NAME is missing: -c and -r need it",` + zeros + "}\n",
			"ERROR:root:-i NAME is missing: -c and -r need it\n" + usageLine + "\nsee --help\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var h fakeHost
			if status := h.run(test.operation, test.args...); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if diff := cmp.Diff(test.stdout, h.stdout.String()); diff != "" {
				t.Errorf("standard output (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.stderr, h.stderr.String()); diff != "" {
				t.Errorf("standard error (-want +got):\n%s", diff)
			}
		})
	}
}

// zeros are the members of every object.
const zeros = `"files":0,"bytes":0,"resumed_bytes":0,"seconds":0,"lock_seconds":0,"stale":false`

// TestJSONUnencodable ensures that a number without a JSON form gives an object too.
func TestJSONUnencodable(t *testing.T) {
	zero := 0.0
	text := jsonText(command{}, &jsonResult{Operation: "copy", Seconds: zero / zero}, 0, nil)
	var got jsonResult
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if got.Status != statusFailed || got.Error == "" {
		t.Errorf("got %q, want status %d and an error", text, statusFailed)
	}
}

// fullDevice is a standard output on a full device.
type fullDevice struct{}

func (fullDevice) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestStandardOutputFails(t *testing.T) {
	for _, test := range []struct {
		args   []string
		err    error
		status int
	}{
		{[]string{"--help"}, nil, 1},
		{[]string{"--version"}, nil, 1},
		{[]string{"--list"}, nil, 1},
		{[]string{"-c", "--json", "-i", "a", "s"}, nil, 1},
		{[]string{"-c", "-i", "a", "s"}, nil, 0}, // writes nothing there
		{[]string{"-c", "--json", "-i", "a", "s"}, shardtossd.ErrLockTimeout, 5},
	} {
		var stderr strings.Builder
		o := returning(&jsonResult{Shards: []shardInfo{{Name: "s"}}}, test.err)
		status := run(test.args, host{
			getenv: os.Getenv, stdout: fullDevice{}, stderr: &stderr, columns: func() int { return 0 },
			operations: map[mode]operation{modeCopy: o, modeList: o},
		})
		if status != test.status {
			t.Errorf("%q: status %d, want %d", test.args, status, test.status)
		}
		if status == 1 && !strings.Contains(stderr.String(), "ERROR:root:write to standard output: no space left on device\n") {
			t.Errorf("%q: logged %q, want the failed write", test.args, stderr.String())
		}
	}
}

// TestStandardErrorFails ensures that a log that cannot be written does not stop
// the work.
func TestStandardErrorFails(t *testing.T) {
	worked := false
	o := func(_ context.Context, o settings) (*jsonResult, error) {
		o.Log.Log(shardtossd.Info, "root", "lost")
		worked = true
		return nil, nil
	}
	status := run([]string{"-c", "-i", "a", "s"}, host{
		getenv: os.Getenv, stderr: fullDevice{}, columns: func() int { return 0 },
		operations: map[mode]operation{modeCopy: o},
	})
	if status != 0 || !worked {
		t.Errorf("status %d, worked %v, want 0 and true", status, worked)
	}
}

// TestListText lists a shard with every detail.
func TestListText(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	inCET := at.In(time.FixedZone("CET", 3600))
	got := listText([]shardInfo{
		{
			Name: "full\x1b", State: shardtossd.StatePublished, Users: []string{"b, c", "d"}, Files: 3, Bytes: 5 << 30,
			Source: "/data/full", Published: &at, Verified: &at, ReadBack: "direct", TrashTrees: 2,
			Stage: true, StageBytes: 1 << 20, StageTotal: 4 << 20, Copying: true,
		},
		{Name: "proven", State: shardtossd.StateOrphan, Published: &inCET, Files: 1, Damaged: &at, Differences: 1, DamagedReadBack: "cache"},
		{Name: "stage", State: shardtossd.StateAbsent, Stage: true},
	})
	want := `full\x1b: published, 5.0 GiB in 3 files
  user:      b, c
  user:      d
  source:    /data/full
  published: 2026-01-02T03:04:05Z
  verified:  2026-01-02T03:04:05Z, read back direct
  stage:     1.0 MiB of 4.0 MiB (25%), being copied now
  trash:     2 trees
proven: orphan, 0 B in 1 file
  published: 2026-01-02T03:04:05Z
  verified:  not since it was published
  damaged:   2026-01-02T03:04:05Z, 1 difference, read back cache
stage: absent
  stage:     0 B of 0 B (100%), interrupted
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

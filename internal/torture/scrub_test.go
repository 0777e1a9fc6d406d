package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"shard_to_ssd/internal/testkit"
)

// scrubbed is a host with three shards. The middle one is verified, or all are.
type scrubbed struct {
	*host
	others []*host
	all    bool
}

func newScrubbed(t *testing.T, dir, from string, all bool) *scrubbed {
	t.Helper()
	s := &scrubbed{host: newHost(t, faulty(t), from, dir), all: all}
	testkit.Apply(t, s.source, testkit.File("large", 9<<20, 1), testkit.File("d/small", 3000, 2), testkit.File("d/other", 5000, 3))
	for _, name := range []string{"before", "zlast"} {
		other := *s.host
		other.source = filepath.Join(filepath.Dir(s.source), name)
		if err := os.MkdirAll(other.source, 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Apply(t, other.source, testkit.File("f", 7000, 4))
		s.others = append(s.others, &other)
	}
	for _, h := range append(s.others, s.host) {
		if err := copiedFor("a")(h); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// command returns the verification. It has few calls in progress, so that they come in
// order, and it counts only the calls that read contents.
func (s *scrubbed) command(flags ...string) *exec.Cmd {
	flags = append(flags, "--json", "--jobs", "1")
	c := s.host.command("--verify", "", flags...)
	if s.all {
		c = exec.Command(s.bin, append([]string{"--verify", "--all", "-l", s.locks, "-s", s.ssd, "--progress", "none"}, flags...)...)
	}
	c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT_ONLY=cachestat")
	return c
}

// middleCalls returns some of the calls during which the shard is read.
func (s *scrubbed) middleCalls(t *testing.T, r *round) (at []int) {
	t.Helper()
	for i, call := range callsOf(t, s.command()) {
		if strings.Contains(call, s.published()+"/") {
			at = append(at, i+1)
		}
	}
	if len(at) < 6 {
		t.Fatalf("only %d calls read the shard", len(at))
	}
	if !r.full {
		at = []int{at[0], at[1+r.IntN(len(at)-2)], at[len(at)-1]}
	}
	return at
}

// verdict is one object of --json.
type verdict struct {
	Operation, Shard, Outcome, Error string
	Status                           int
	Count                            int `json:"difference_count"`
	Files, Bytes                     int64
	FilesRead                        int64 `json:"files_read"`
	BytesRead                        int64 `json:"bytes_read"`
	Scrub                            struct{ Shards, Verified, Skipped, Gone, Left, Damaged int }
}

// parseVerdicts returns the objects of the shards, by name, and the summary as "".
func (o outcome) parseVerdicts() (map[string]verdict, error) {
	of := map[string]verdict{}
	for line := range strings.Lines(o.out) {
		var v verdict
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			return nil, err
		}
		if _, twice := of[v.Shard]; twice {
			return nil, fmt.Errorf("two objects of shard %q", v.Shard)
		}
		of[v.Shard] = v
	}
	return of, nil
}

// listShard returns the entry of the shard in --list.
func (s *scrubbed) listShard() (info struct {
	State    string
	Verified *time.Time
	Damaged  *time.Time
}, err error) {
	o := runCommand(s.host.command("--list", "", "--json"))
	var list struct{ Shards []json.RawMessage }
	if err = json.Unmarshal([]byte(o.out), &list); err == nil {
		err = json.Unmarshal(list.Shards[0], &info)
	}
	return info, err
}

// runMeanwhile stops the verification in the middle of the shard and runs a function
// before it continues.
func (s *scrubbed) runMeanwhile(t *testing.T, at int, meanwhile func() error, flags ...string) (o outcome, of map[string]verdict) {
	t.Helper()
	o, reached, err := runHeld(s.command(flags...), fmt.Sprint("stop-before@", at), meanwhile)
	if err == nil && !reached {
		err = errors.New("the verification was not stopped")
	}
	if err == nil {
		of, err = o.parseVerdicts()
	}
	if err != nil {
		t.Fatalf("stopped at %d: %v\n%v", at, err, o)
	}
	return o, of
}

func eachScrub(t *testing.T, r *round, try func(s *scrubbed, at int)) {
	dir, n := testkit.Mount(t, "ext4", 1<<30), 0
	fresh := func(all bool) *scrubbed {
		n++
		return newScrubbed(t, filepath.Join(dir, fmt.Sprint(n)), filepath.Join(dir, fmt.Sprint("from", n)), all)
	}
	for _, all := range []bool{false, true} {
		for _, at := range fresh(all).middleCalls(t, r) {
			try(fresh(all), at)
		}
	}
}

// A hook runs to its end during a verification of the shard, and the verification finds
// the shard undamaged.
func TestScrubIsInNobodysWay(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		eachScrub(t, r, func(s *scrubbed, at int) {
			o, _ := s.runMeanwhile(t, at, func() error {
				for _, hook := range []*exec.Cmd{s.host.command("-c", "b", "--lock-timeout", "0"), s.host.command("-r", "b", "--lock-timeout", "0"), s.others[1].command("-r", "a", "--lock-timeout", "0"),
					s.others[1].command("-c", "a", "--lock-timeout", "0")} {
					if o := runCommand(hook); o.status != 0 {
						return fmt.Errorf("%q: %v", hook.Args, o)
					}
				}
				return nil
			})
			if info, err := s.listShard(); o.status != 0 || err != nil || info.Verified == nil {
				t.Errorf("all %v, stopped at %d: %+v, %v, %v", s.all, at, info, err, o)
			}
			count("hooks during a verification", 4)
		})
	})
}

// changesOf are changes of a shard during its verification.
var changesOf = map[string]func(s *scrubbed) error{
	"removed": func(s *scrubbed) error { return runHooks(s.host.command("-r", "a")) },
	"copied again": func(s *scrubbed) error {
		return runHooks(s.host.command("-r", "a"), s.host.command("-c", "a"))
	},
	"copied again, another": func(s *scrubbed) error {
		err := runHooks(s.host.command("-r", "a"))
		return errors.Join(err, os.WriteFile(filepath.Join(s.source, "large"), []byte("short now"), 0o644), runHooks(s.host.command("-c", "a")))
	},
	"replaced": func(s *scrubbed) error {
		err := os.Rename(s.published(), filepath.Join(s.ssd, "aside"))
		err = errors.Join(err, os.Mkdir(s.published(), 0o755), os.WriteFile(s.userFile(), nil, 0o644))
		err = errors.Join(err, runHooks(s.host.command("-c", "a")))
		return errors.Join(err, os.RemoveAll(filepath.Join(s.ssd, "aside")))
	},
	"copied again, and verified": func(s *scrubbed) error {
		return runHooks(s.host.command("-r", "a"), s.host.command("-c", "a"), s.host.command("--verify", ""))
	},
}

func runHooks(commands ...*exec.Cmd) error {
	for _, c := range commands {
		if o := runCommand(c); o.status != 0 {
			return fmt.Errorf("%q: %v", c.Args, o)
		}
	}
	return nil
}

// A shard that is removed or replaced during its verification is reported as gone, not
// as damaged. Nothing is recorded for the new shard, and the other shards are verified.
func TestShardGoesWhileItIsVerified(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		for name, change := range changesOf {
			eachScrub(t, r, func(s *scrubbed, at int) {
				o, of := s.runMeanwhile(t, at, func() error { return change(s) })
				if err := s.checkGone(o, of, name); err != nil {
					t.Errorf("%s, all %v, stopped at %d: %v\n%v", name, s.all, at, err, o)
				}
				count("shards removed or replaced during a verification", 1)
			})
		}
	})
}

func (s *scrubbed) checkGone(o outcome, of map[string]verdict, how string) error {
	const message = "shard shard was removed or replaced while it was verified: nothing is known about the new one"
	v := of[shardName]
	switch {
	case v.Count != 0 || !strings.Contains(o.err, message):
		return errors.New("the shard was not reported as gone")
	case !s.all && (o.status != 1 || v.Error != message):
		return fmt.Errorf("got verdict %+v", v)
	case s.all && (o.status != 0 || v.Outcome != "gone" || of[""].Scrub.Gone != 1 || of[""].Scrub.Verified != 2):
		return fmt.Errorf("got verdict %+v, summary %+v", v, of[""])
	case s.all && (of["before"].Outcome != "verified" || of["zlast"].Outcome != "verified"):
		return fmt.Errorf("the other shards were not verified: %+v", of)
	}
	info, err := s.listShard()
	if (info.Verified != nil) != strings.HasSuffix(how, "and verified") || info.Damaged != nil {
		err = fmt.Errorf("--list shows more than was found: %+v", info)
	}
	return err
}

// A signal ends a verification within a second, even during a wait for the rate limit.
// The result has the bytes that were read, and no damage in blocks that were not read.
// Blocks in progress are read to the end, which may be that of the shard.
func TestSignalWhileVerifying(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for _, flags := range [][]string{nil, {"--bwlimit", "1K"}} {
			eachScrub(t, r, func(s *scrubbed, at int) {
				if flags != nil { // with this rate limit it gets no further
					at = 1
				}
				signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[r.IntN(2)]
				c := s.command(flags...)
				var sent time.Time
				o, reached, err := runHeld(c, fmt.Sprint("stop-before@", at), func() error {
					sent = time.Now()
					return c.Process.Signal(signal)
				})
				took := time.Since(sent)
				if err == nil {
					err = s.checkCoverage(o, signal)
				}
				if !reached || err != nil || took > time.Second {
					t.Errorf("all %v, %q, stopped at %d: %v after %v\n%v", s.all, flags, at, err, took, o)
				}
				count("signals to a verification", 1)
			})
		}
	})
}

func (s *scrubbed) checkCoverage(o outcome, signal syscall.Signal) error {
	of, err := o.parseVerdicts()
	if err != nil {
		return err
	}
	last := of[shardName]
	complete := last.Outcome == "verified" && last.BytesRead == last.Bytes // the signal came during the last files
	if complete && o.status == 0 && (!s.all || of[""].Scrub.Verified == 3) {
		return nil
	}
	if s.all {
		last = of[""]
		if last.Scrub.Shards != 3 || last.Scrub.Left+last.Scrub.Verified != 3 || last.Scrub.Left == 0 || len(of) > last.Scrub.Verified+2 {
			return fmt.Errorf("got summary %+v", last.Scrub)
		}
	}
	wanted := 9<<20 + 8000
	if s.all {
		wanted += 2 * 7000
	}
	switch {
	case o.status != 128+int(signal) || last.Status != o.status:
		return fmt.Errorf("got status %d", o.status)
	case last.Bytes != int64(wanted) || last.BytesRead >= last.Bytes || last.Count > 0 || !strings.Contains(last.Error, "interrupted by SIG"):
		return fmt.Errorf("got verdict %+v", last)
	case !strings.Contains(o.err, fmt.Sprintf("%d of %d bytes", last.BytesRead, last.Bytes)):
		return errors.New("the bytes that were read are not reported")
	}
	info, err := s.listShard()
	if (info.Verified != nil) != complete || info.Damaged != nil {
		err = fmt.Errorf("--list shows more than was found: %+v", info)
	}
	if err == nil && s.all {
		err = s.checkContinued(last.Scrub.Verified)
	}
	return err
}

// checkContinued verifies the rest, and only the rest.
func (s *scrubbed) checkContinued(verified int) error {
	o := runCommand(s.command("--max-age", "1h"))
	of, err := o.parseVerdicts()
	if now := of[""].Scrub; err == nil && (o.status != 0 || now.Skipped != verified || now.Verified != 3-verified) {
		err = fmt.Errorf("after %d verified shards the next run ended with %+v: %v", verified, now, o)
	}
	return err
}

// Damage that was found before a signal is reported, and recorded.
func TestDamageBeforeSignal(t *testing.T) {
	dir := testkit.Mount(t, "ext4", 256<<20)
	for _, all := range []bool{false, true} {
		s := newScrubbed(t, filepath.Join(dir, fmt.Sprint(all)), filepath.Join(dir, fmt.Sprint("from", all)), all)
		if o := runCommand(s.command()); o.status != 0 {
			t.Fatal(o)
		}
		large := filepath.Join(s.published(), "large")
		before, err := os.Stat(large)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(large, os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("damage"), 0)
			err = errors.Join(err, f.Sync(), f.Close(), os.Chtimes(large, before.ModTime(), before.ModTime()))
		}
		if err != nil {
			t.Fatal(err)
		}
		c := s.command("--bwlimit", "20M") // a block takes longer than the handling of a signal
		o, reached, err := runHeld(c, fmt.Sprint("stop-before@", readsOf(t, s, large)[2]), func() error { return c.Process.Signal(syscall.SIGTERM) })
		of, err2 := o.parseVerdicts()
		v := of[shardName]
		info, err3 := s.listShard()
		if err = errors.Join(err, err2, err3); err != nil || !reached || o.status != 3 || v.Status != 3 || v.Count != 1 || !strings.Contains(v.Error, "interrupted by SIGTERM") {
			t.Errorf("all %v: %v, %+v\n%v", all, err, v, o)
		}
		if info.Damaged == nil || info.Verified == nil || info.Damaged.Before(*info.Verified) {
			t.Errorf("all %v: --list shows %+v", all, info)
		}
		if o := runCommand(s.command("--max-age", "1h")); o.status != 3 {
			t.Errorf("all %v: the pass before the damage still counts: %v", all, o)
		}
	}
}

// readsOf returns the numbers of the calls just before and just after each block of a
// damaged file is read.
func readsOf(t *testing.T, s *scrubbed, path string) (at []int) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	c := s.command()
	c.Env = append(c.Environ(), "SHARD_TO_SSD_FAULT_LOG="+log)
	runCommand(c) // it finds the damage
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range slices.Collect(strings.Lines(string(text))) {
		if strings.Contains(line, path) {
			at = append(at, i+1)
		}
	}
	if len(at) < 4 {
		t.Fatalf("only %d calls read %s", len(at), path)
	}
	return at
}

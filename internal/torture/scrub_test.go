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

// scrubbed is a host with three shards, of which the one in the middle is verified, or
// all are.
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
		if err := copied("a")(h); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// command is the verification, with few calls at once, so that they come in order. It
// counts the calls that only reading contents makes.
func (s *scrubbed) command(flags ...string) *exec.Cmd {
	flags = append(flags, "--json", "--jobs", "1")
	c := s.host.command("--verify", "", flags...)
	if s.all {
		c = exec.Command(s.bin, append([]string{"--verify", "--all", "-l", s.locks, "-s", s.ssd, "--progress", "none"}, flags...)...)
	}
	c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT_ONLY=cachestat")
	return c
}

// middles are the calls in which the shard is being read, some of them.
func (s *scrubbed) middles(t *testing.T, r *round) (at []int) {
	t.Helper()
	for i, call := range calls(t, s.command()) {
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

// verdicts are those of the shards, by name, and of all, under "".
func (o outcome) verdicts() (map[string]verdict, error) {
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

// listed is what --list says of the shard.
func (s *scrubbed) listed() (info struct {
	State    string
	Verified *time.Time
	Damaged  *time.Time
}, err error) {
	o := run(s.host.command("--list", "", "--json"))
	var list struct{ Shards []json.RawMessage }
	if err = json.Unmarshal([]byte(o.out), &list); err == nil {
		err = json.Unmarshal(list.Shards[0], &info)
	}
	return info, err
}

// beside runs something while the verification is stopped in the middle of the shard.
func (s *scrubbed) beside(t *testing.T, at int, meanwhile func() error, flags ...string) (o outcome, of map[string]verdict) {
	t.Helper()
	o, reached, err := held(s.command(flags...), fmt.Sprint("stop-before@", at), meanwhile)
	if err == nil && !reached {
		err = errors.New("it was not stopped")
	}
	if err == nil {
		of, err = o.verdicts()
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
		for _, at := range fresh(all).middles(t, r) {
			try(fresh(all), at)
		}
	}
}

// A hook runs to its end while a verification is in the middle of the shard, which is
// found as it was published all the same.
func TestScrubIsInNobodysWay(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		eachScrub(t, r, func(s *scrubbed, at int) {
			o, _ := s.beside(t, at, func() error {
				for _, hook := range []*exec.Cmd{s.host.command("-c", "b", "--lock-timeout", "0"), s.host.command("-r", "b", "--lock-timeout", "0"), s.others[1].command("-r", "a", "--lock-timeout", "0"),
					s.others[1].command("-c", "a", "--lock-timeout", "0")} {
					if o := run(hook); o.status != 0 {
						return fmt.Errorf("%q: %v", hook.Args, o)
					}
				}
				return nil
			})
			if info, err := s.listed(); o.status != 0 || err != nil || info.Verified == nil {
				t.Errorf("all %v, stopped at %d: %+v, %v, %v", s.all, at, info, err, o)
			}
			count("hooks beside a verification", 4)
		})
	})
}

// changesOf are what happens to a shard while it is verified.
var changesOf = map[string]func(s *scrubbed) error{
	"removed": func(s *scrubbed) error { return hooks(s.host.command("-r", "a")) },
	"copied again": func(s *scrubbed) error {
		return hooks(s.host.command("-r", "a"), s.host.command("-c", "a"))
	},
	"copied again, another": func(s *scrubbed) error {
		err := hooks(s.host.command("-r", "a"))
		return errors.Join(err, os.WriteFile(filepath.Join(s.source, "large"), []byte("short now"), 0o644), hooks(s.host.command("-c", "a")))
	},
	"replaced": func(s *scrubbed) error {
		err := os.Rename(s.published(), filepath.Join(s.ssd, "aside"))
		err = errors.Join(err, os.Mkdir(s.published(), 0o755), os.WriteFile(s.userFile(), nil, 0o644))
		err = errors.Join(err, hooks(s.host.command("-c", "a")))
		return errors.Join(err, os.RemoveAll(filepath.Join(s.ssd, "aside")))
	},
	"copied again, and verified": func(s *scrubbed) error {
		return hooks(s.host.command("-r", "a"), s.host.command("-c", "a"), s.host.command("--verify", ""))
	},
}

func hooks(commands ...*exec.Cmd) error {
	for _, c := range commands {
		if o := run(c); o.status != 0 {
			return fmt.Errorf("%q: %v", c.Args, o)
		}
	}
	return nil
}

// A shard that goes while it is verified is told as that: it is no damage, and nothing
// is recorded of the one that is there now. The others go on.
func TestShardGoesWhileItIsVerified(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		for name, change := range changesOf {
			eachScrub(t, r, func(s *scrubbed, at int) {
				o, of := s.beside(t, at, func() error { return change(s) })
				if err := s.toldGone(o, of, name); err != nil {
					t.Errorf("%s, all %v, stopped at %d: %v\n%v", name, s.all, at, err, o)
				}
				count("shards that go while they are verified", 1)
			})
		}
	})
}

func (s *scrubbed) toldGone(o outcome, of map[string]verdict, how string) error {
	const message = "shard shard was removed or replaced while it was verified: nothing is known of the one that is there now"
	v := of[shardName]
	switch {
	case v.Count != 0 || !strings.Contains(o.err, message):
		return errors.New("it is not told that the shard has gone")
	case !s.all && (o.status != 1 || v.Error != message):
		return fmt.Errorf("it is told as %+v", v)
	case s.all && (o.status != 0 || v.Outcome != "gone" || of[""].Scrub.Gone != 1 || of[""].Scrub.Verified != 2):
		return fmt.Errorf("it is told as %+v, and of all %+v", v, of[""])
	case s.all && (of["before"].Outcome != "verified" || of["zlast"].Outcome != "verified"):
		return fmt.Errorf("the others did not go on: %+v", of)
	}
	info, err := s.listed()
	if (info.Verified != nil) != strings.HasSuffix(how, "and verified") || info.Damaged != nil {
		err = fmt.Errorf("--list knows more than was found: %+v", info)
	}
	return err
}

// A signal ends a verification within a second, also one that waits for its pace. It
// says what was covered, and calls nothing damaged that it did not read. What it was
// reading it reads to the end, which may be that of the shard.
func TestSignalWhileVerifying(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for _, flags := range [][]string{nil, {"--bwlimit", "1K"}} {
			eachScrub(t, r, func(s *scrubbed, at int) {
				if flags != nil { // it would not get further than this
					at = 1
				}
				signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[r.IntN(2)]
				c := s.command(flags...)
				var sent time.Time
				o, reached, err := held(c, fmt.Sprint("stop-before@", at), func() error {
					sent = time.Now()
					return c.Process.Signal(signal)
				})
				took := time.Since(sent)
				if err == nil {
					err = s.toldCovered(o, signal)
				}
				if !reached || err != nil || took > time.Second {
					t.Errorf("all %v, %q, stopped at %d: %v after %v\n%v", s.all, flags, at, err, took, o)
				}
				count("signals to a verification", 1)
			})
		}
	})
}

func (s *scrubbed) toldCovered(o outcome, signal syscall.Signal) error {
	of, err := o.verdicts()
	if err != nil {
		return err
	}
	last := of[shardName]
	complete := last.Outcome == "verified" && last.BytesRead == last.Bytes // it was in its last files
	if complete && o.status == 0 && (!s.all || of[""].Scrub.Verified == 3) {
		return nil
	}
	if s.all {
		last = of[""]
		if last.Scrub.Shards != 3 || last.Scrub.Left+last.Scrub.Verified != 3 || last.Scrub.Left == 0 || len(of) > last.Scrub.Verified+2 {
			return fmt.Errorf("the summary is %+v", last.Scrub)
		}
	}
	wanted := 9<<20 + 8000
	if s.all {
		wanted += 2 * 7000
	}
	switch {
	case o.status != 128+int(signal) || last.Status != o.status:
		return fmt.Errorf("it ended with %d", o.status)
	case last.Bytes != int64(wanted) || last.BytesRead >= last.Bytes || last.Count > 0 || !strings.Contains(last.Error, "interrupted by SIG"):
		return fmt.Errorf("it is told as %+v", last)
	case !strings.Contains(o.err, fmt.Sprintf("%d of %d bytes", last.BytesRead, last.Bytes)):
		return errors.New("it is not said what was covered")
	}
	info, err := s.listed()
	if (info.Verified != nil) != complete || info.Damaged != nil {
		err = fmt.Errorf("--list knows more than was found: %+v", info)
	}
	if err == nil && s.all {
		err = s.goesOn(last.Scrub.Verified)
	}
	return err
}

// goesOn has the rest verified, and only that.
func (s *scrubbed) goesOn(verified int) error {
	o := run(s.command("--max-age", "1h"))
	of, err := o.verdicts()
	if now := of[""].Scrub; err == nil && (o.status != 0 || now.Skipped != verified || now.Verified != 3-verified) {
		err = fmt.Errorf("%d were verified, and the next run ends with %+v: %v", verified, now, o)
	}
	return err
}

// Damage that was found before a signal came is damage: told, and not forgotten.
func TestDamageBeforeSignal(t *testing.T) {
	dir := testkit.Mount(t, "ext4", 256<<20)
	for _, all := range []bool{false, true} {
		s := newScrubbed(t, filepath.Join(dir, fmt.Sprint(all)), filepath.Join(dir, fmt.Sprint("from", all)), all)
		if o := run(s.command()); o.status != 0 {
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
		c := s.command("--bwlimit", "20M") // a block takes long enough for a signal to be heard
		o, reached, err := held(c, fmt.Sprint("stop-before@", readsOf(t, s, large)[2]), func() error { return c.Process.Signal(syscall.SIGTERM) })
		of, err2 := o.verdicts()
		v := of[shardName]
		info, err3 := s.listed()
		if err = errors.Join(err, err2, err3); err != nil || !reached || o.status != 3 || v.Status != 3 || v.Count != 1 || !strings.Contains(v.Error, "interrupted by SIGTERM") {
			t.Errorf("all %v: %v, %+v\n%v", all, err, v, o)
		}
		if info.Damaged == nil || info.Verified == nil || info.Damaged.Before(*info.Verified) {
			t.Errorf("all %v: --list says %+v", all, info)
		}
		if o := run(s.command("--max-age", "1h")); o.status != 3 {
			t.Errorf("all %v: a pass before the damage counts: %v", all, o)
		}
	}
}

// readsOf are the numbers of the calls that a verification makes around reading each
// block of a damaged file, before and after.
func readsOf(t *testing.T, s *scrubbed, path string) (at []int) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	c := s.command()
	c.Env = append(c.Environ(), "SHARD_TO_SSD_FAULT_LOG="+log)
	run(c) // it finds damage
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

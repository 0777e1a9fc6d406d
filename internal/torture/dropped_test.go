package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"shard_to_ssd/internal/faultfs"
	"shard_to_ssd/internal/testkit"
)

// A dropStory is one call of the tool after some others. A power cut during it, on a
// disk that keeps only synced data, must leave what is promised.
//
// The shard has no hard links and few files, so the tool syncs each file and directory.
// With hard links it uses syncfs, which the kernel does not pass on to FUSE;
// powercut_test.go tests those.
type dropStory struct {
	name   string
	before []step
	soft   []step // after that; only what they sync is durable
	last   step
	old    []string // users before the last call
	users  []string // and after it
}

// step is a call of the tool. killed, if any, is a SHARD_TO_SSD_FAULT, and only are the
// operations that it counts.
type step struct{ mode, id, killed, only string }

func dropStories() []dropStory {
	a, b := step{mode: "-c", id: "a"}, step{mode: "-c", id: "b"}
	crowd := strings.Repeat("long", 1100) // more than a page
	return []dropStory{
		{name: "copy", last: a, users: []string{"a"}},
		{name: "resume", before: []step{{"-c", "a", "kill-after@1", "fdatasync"}}, last: a, users: []string{"a"}},
		{name: "resume what is not synced", soft: []step{{"-c", "a", "kill-before@1", "fdatasync"}}, last: a, users: []string{"a"}},
		{name: "register", before: []step{a}, last: b, old: []string{"a"}, users: []string{"a", "b"}},
		{name: "unregister", before: []step{a, b}, last: step{mode: "-r", id: "b"}, old: []string{"a", "b"}, users: []string{"a"}},
		{name: "register again", before: []step{a}, soft: []step{{"-c", "b", "kill-before@1", "fdatasync"}}, last: b, old: []string{"a"}, users: []string{"a", "b"}},
		{name: "unregister again", before: []step{a, b}, soft: []step{{"-r", "b", "kill-before@1", "fdatasync"}},
			last: step{mode: "-r", id: "b"}, old: []string{"a", "b"}, users: []string{"a"}},
		{name: "remove", before: []step{a}, last: step{mode: "-r", id: "a"}, old: []string{"a"}},
		{name: "adopt", before: []step{a, {"-r", "a", "kill-before@1", "rename"}}, last: b, users: []string{"b"}},
		{name: "adopt what is not synced", soft: []step{{"-c", "a", "kill-after@4", "rename"}}, last: b, users: []string{"b"}},
		{name: "remove trash", before: []step{a}, soft: []step{{"-r", "a", "kill-after@1", "rename"}}, last: step{mode: "-r", id: "a"}},
		{name: "lengthen a long list", before: []step{a, {mode: "-c", id: crowd}}, last: b, old: []string{"a", crowd}, users: []string{"a", crowd, "b"}},
		{name: "shorten a long list", before: []step{a, {mode: "-c", id: crowd}}, last: step{mode: "-r", id: crowd}, old: []string{"a", crowd}, users: []string{"a"}},
	}
}

func (s step) runOn(h *host, env ...string) outcome {
	c := h.command(s.mode, s.id, "--jobs", "1")
	c.Env = append(os.Environ(), env...)
	if s.killed != "" {
		c.Env = append(c.Env, "SHARD_TO_SSD_FAULT="+s.killed, "SHARD_TO_SSD_FAULT_ONLY="+s.only)
	}
	return runCommand(c)
}

// cutter runs a story again and again.
type cutter struct {
	*dropStory
	disk    *faultfs.FS
	h       *host
	restore func() error
}

// syncs limits a fault to the calls that change what is durable on such a disk.
const syncs = "SHARD_TO_SSD_FAULT_ONLY=fsync,fdatasync,syncfs"

// newCutter makes a host and runs the calls before the story. All of that is durable.
func newCutter(t *testing.T, s *dropStory) *cutter {
	t.Helper()
	testkit.RequireRoot(t)
	disk := faultfs.New(t, 64<<20)
	h := newHost(t, faulty(t), filepath.Join(disk.Dir, "source"), disk.Dir)
	testkit.Apply(t, h.source, testkit.File("big", blockSize+100_000, 1), testkit.File("dir/small", 5000, 2),
		testkit.File("dir/empty", 0, 3), testkit.Dir("none", 0o750))
	if err := runSteps(h, s.before); err != nil {
		t.Fatal(err)
	}
	return &cutter{s, disk, h, disk.Checkpoint()}
}

func runSteps(h *host, steps []step) error {
	for _, s := range steps {
		if o := s.runOn(h); (o.status != 0) != (s.killed != "") {
			return fmt.Errorf("prepare: %.100v: %v", s, o)
		}
	}
	return nil
}

// cutOnce runs the story with an environment that may kill the tool, cuts the power,
// and checks the files that are left.
func (c *cutter) cutOnce(keep func() bool, env ...string) (o outcome, err error) {
	if err := errors.Join(c.restore(), runSteps(c.h, c.soft)); err != nil {
		return o, err
	}
	o = c.last.runOn(c.h, env...)
	if err := c.disk.CutPower(keep); err != nil {
		return o, err
	}
	if err := c.checkAfterCut(o.status == 0); err != nil {
		return o, fmt.Errorf("%s, %q: %w\nthe call that was cut: %v", c.name, env, err, o)
	}
	return o, nil
}

func (c *cutter) checkAfterCut(complete bool) error {
	if _, err := os.Lstat(c.h.userFile() + ".log"); err == nil { // the next call repairs a torn list
		if o := (step{mode: "-r", id: "nobody"}).runOn(c.h); o.status != 0 {
			return fmt.Errorf("the call after the power cut: %v", o)
		}
	}
	lists := [][]string{c.old, c.users}
	if complete {
		lists = lists[1:]
	}
	if err := c.h.checkSound(lists...); err != nil {
		return err
	}
	if err := c.checkReliable(); err != nil {
		return err
	}
	if complete && len(c.users) == 0 {
		return c.h.checkTraceless()
	}
	return c.h.checkRecovery()
}

// checkReliable checks that a shard with users is published, and that a published shard
// has its manifest.
func (c *cutter) checkReliable() error {
	users, err := c.h.users()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.h.published()); err != nil {
		if len(users) > 0 {
			return fmt.Errorf("users %q have no shard: %w", users, err)
		}
		return nil
	}
	_, err = os.Lstat(filepath.Join(c.h.stateDir(), "manifest"))
	return err
}

// syncStep is the distance of the syncs that a bounded round cuts at.
const syncStep = 3

// cutAtSyncs cuts the power at the end of the story, and after each sync in it. A
// bounded round takes every third sync, from a random one on.
func (c *cutter) cutAtSyncs(r *round) (tried int, err error) {
	first, step := 1, 1
	if !r.full {
		first, step = 1+r.IntN(syncStep), syncStep
	}
	o, err := c.cutOnce(nil, syncs)
	if err == nil && o.status != 0 {
		err = fmt.Errorf("%s without a fault: %v", c.name, o)
	}
	for n := first; err == nil && (n == first || o.status == 137); n += step {
		o, err = c.cutOnce(nil, syncs, fmt.Sprintf("SHARD_TO_SSD_FAULT=kill-after@%d", n))
		tried++
	}
	return tried, err
}

// A power cut after each sync, and at the end. On a disk that keeps only synced data,
// no other moment makes a difference.
func TestOnlySyncedSurvives(t *testing.T) {
	rounds(t, 0.03, func(t *testing.T, r *round) {
		for _, s := range dropStories() {
			if r.over() {
				break
			}
			n, err := newCutter(t, &s).cutAtSyncs(r)
			if err != nil {
				t.Fatal(err)
			}
			count("power cuts after a sync", n)
		}
	})
}

// A power cut at any call, after which some of the data that was not synced is on the
// disk.
func TestSomeSurvives(t *testing.T) {
	rounds(t, 0.05, func(t *testing.T, r *round) {
		tries := 2
		if r.full {
			tries = 100
		}
		for _, s := range dropStories() {
			if r.over() {
				break
			}
			c := newCutter(t, &s)
			calls, err := c.countCalls(t)
			for i := 0; i < tries && err == nil; i++ {
				chance := r.Float64()
				where := []string{fmt.Sprintf("SHARD_TO_SSD_FAULT=kill-before@%d", 1+r.IntN(calls))}
				if i%2 == 0 { // kill early, when much is not synced
					where = []string{fmt.Sprintf("SHARD_TO_SSD_FAULT=kill-before@%d", 1+r.IntN(calls/12)), syncs}
				}
				_, err = c.cutOnce(func() bool { return r.Float64() < chance }, where...)
			}
			if err != nil {
				t.Fatal(err)
			}
			count("power cuts that keep some unsynced data", tries)
		}
	})
}

// countCalls returns the number of system calls of the story.
func (c *cutter) countCalls(t *testing.T) (int, error) {
	log := filepath.Join(t.TempDir(), "log")
	if err := errors.Join(c.restore(), runSteps(c.h, c.soft)); err != nil {
		return 0, err
	}
	if o := c.last.runOn(c.h, "SHARD_TO_SSD_FAULT_LOG="+log); o.status != 0 {
		return 0, errors.New(o.String())
	}
	text, err := os.ReadFile(log)
	lines := slices.Collect(strings.Lines(string(text)))
	if len(lines) == 0 {
		return 0, errors.Join(err, errors.New("no system call in the log"))
	}
	n, _, _ := strings.Cut(lines[len(lines)-1], "\t")
	return strconv.Atoi(n)
}

package shardtossd_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
	"shard_to_ssd/internal/testkit"
)

const mebi = 1 << 20

// A site has the directories that one test copies a shard from and to.
type site struct {
	t      testing.TB
	source string // the shard
	ssd    string // the SSD dir
	locks  string // the lock dir
	log    lines  // of the last call
}

// newSite makes the directories of a site: an empty shard called "shard" below from,
// and the SSD dir below to. The lock dir is a temporary directory of its own.
func newSite(t testing.TB, from, to string) *site {
	t.Helper()
	s := &site{t: t, locks: t.TempDir()}
	for dir, below := range map[*string]string{&s.source: from, &s.ssd: to} {
		made, err := os.MkdirTemp(below, "site")
		if err != nil {
			t.Fatal(err)
		}
		*dir = made
	}
	s.source = filepath.Join(s.source, "shard")
	if err := os.Mkdir(s.source, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) publishedPath() string { return filepath.Join(s.ssd, filepath.Base(s.source)) }

func (s *site) stateDir() string {
	return filepath.Join(s.ssd, ".shard_to_ssd", filepath.Base(s.source))
}

func (s *site) stageDir() string { return filepath.Join(s.stateDir(), copier.StageName) }

func (s *site) userFile() string { return filepath.Join(s.locks, filepath.Base(s.source)+".lock") }

// lines collects the messages that a call logs.
type lines []string

func (l *lines) Log(_ shardtossd.Level, _, message string) { *l = append(*l, message) }

// An ensureOption sets a field of the options of Ensure.
type ensureOption func(*shardtossd.EnsureOptions)

func withEngine(e copier.Engine) ensureOption {
	return func(o *shardtossd.EnsureOptions) { o.Engine = e }
}

func withObserver(by copier.Observer) ensureOption {
	return func(o *shardtossd.EnsureOptions) { o.Observer = by }
}

func withJobs(n int) ensureOption { return func(o *shardtossd.EnsureOptions) { o.Jobs = n } }

func withoutResume(o *shardtossd.EnsureOptions) { o.NoResume = true }

// newHost returns the lock dir and the SSD dir of the site, and starts a new log.
func (s *site) newHost() shardtossd.Host {
	s.log = nil
	return shardtossd.Host{LockDir: s.locks, SSDDir: s.ssd, Log: &s.log}
}

func (s *site) ensureOptions(options ...ensureOption) shardtossd.EnsureOptions {
	o := shardtossd.EnsureOptions{Host: s.newHost(), Shard: s.source, ID: "instance1"}
	for _, set := range options {
		set(&o)
	}
	return o
}

func (s *site) releaseOptions() shardtossd.ReleaseOptions {
	return shardtossd.ReleaseOptions{Host: s.newHost(), Shard: s.source, ID: "instance1"}
}

func (s *site) verifyOptions() shardtossd.VerifyOptions {
	return shardtossd.VerifyOptions{Host: s.newHost(), Shard: s.source}
}

func (s *site) repairOptions() shardtossd.RepairOptions {
	return shardtossd.RepairOptions{Host: s.newHost(), Shard: s.source}
}

// runEnsure calls Ensure and checks that it leaves no descriptors and no goroutines
// behind, even if it fails.
func (s *site) runEnsure(ctx context.Context, options ...ensureOption) (*shardtossd.EnsureResult, error) {
	s.t.Helper()
	descriptors, goroutines := openDescriptors(s.t), runtime.NumGoroutine()
	r, err := shardtossd.Ensure(ctx, s.ensureOptions(options...))
	if now := openDescriptors(s.t); !slices.Equal(now, descriptors) {
		s.t.Errorf("got descriptors %q after Ensure, want those from before, %q", now, descriptors)
	}
	// A goroutine that has delivered its result may still be about to return.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			s.t.Errorf("got %d goroutines after Ensure, want %d as before", runtime.NumGoroutine(), goroutines)
			break
		}
	}
	return r, err
}

// openDescriptors lists the open descriptors of this process, each with its target.
func openDescriptors(t testing.TB) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // the descriptor of ReadDir is closed by now
			open = append(open, e.Name()+" "+to)
		}
	}
	return open
}

// mustCopy calls Ensure and checks that it copies everything and registers the user.
func (s *site) mustCopy(options ...ensureOption) *shardtossd.EnsureResult {
	s.t.Helper()
	r, err := s.runEnsure(s.t.Context(), options...)
	if err != nil {
		s.t.Fatalf("Ensure: %v", err)
	}
	if r.Outcome != shardtossd.Copied {
		s.t.Fatalf("Ensure: got outcome %q, want %q", r.Outcome, shardtossd.Copied)
	}
	testkit.ExpectSame(s.t, s.source, s.publishedPath())
	if moved := movedBytes(r) + r.ResumedBytes; moved != r.Bytes {
		s.t.Errorf("got %d bytes copied or resumed, want %d: %+v", moved, r.Bytes, r)
	}
	users, err := os.ReadFile(s.userFile())
	if err != nil || string(users) != "instance1" {
		s.t.Errorf("user file: got %q, %v, want %q", users, err, "instance1")
	}
	return r
}

// movedBytes returns the bytes that all engines copied together.
func movedBytes(r *shardtossd.EnsureResult) (moved int64) {
	for _, u := range r.Engines {
		moved += u.Bytes
	}
	return moved
}

// mustVerify calls Verify and checks that it finds no difference.
func (s *site) mustVerify() {
	s.t.Helper()
	r, err := shardtossd.Verify(s.t.Context(), s.verifyOptions())
	if err != nil || r.Outcome != shardtossd.Verified {
		s.t.Errorf("Verify: got %q, %v, differences %+v, want %q", r.Outcome, err, r.Differences, shardtossd.Verified)
	}
}

// mustRelease calls Release for the last user and checks that it leaves nothing on disk.
func (s *site) mustRelease() {
	s.t.Helper()
	r, err := shardtossd.Release(s.t.Context(), s.releaseOptions())
	if err != nil || r.Outcome != shardtossd.Removed {
		s.t.Fatalf("Release: got %q, %v, want %q", r.Outcome, err, shardtossd.Removed)
	}
	s.expectNothingLeft()
}

// expectNothingLeft checks that the SSD dir and the lock dir are empty: no published
// shard, no stage, no user. Only the parent of the state dirs may exist.
func (s *site) expectNothingLeft() {
	s.t.Helper()
	for _, dir := range []string{s.ssd, s.locks} {
		tree := testkit.SnapshotTree(dir)
		delete(tree, ".")
		delete(tree, ".shard_to_ssd")
		if len(tree) > 0 {
			s.t.Errorf("got entries in %s, want none: %q", dir, slices.Sorted(maps.Keys(tree)))
		}
	}
}

// copyAndCheck copies the shard, checks the copy in each way that the tests have, and releases it.
func copyAndCheck(s *site, options ...ensureOption) *shardtossd.EnsureResult {
	s.t.Helper()
	r := s.mustCopy(options...)
	s.expectSums(r.Files)
	s.mustVerify()
	s.mustRelease()
	return r
}

// expectSourceUnchanged reports each difference between the source and its earlier snapshot.
func (s *site) expectSourceUnchanged(before testkit.Tree) {
	s.t.Helper()
	for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(s.source)) {
		s.t.Errorf("the source was changed: %s", line)
	}
}

package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"shard_to_ssd/internal/sys/leasetest"
	"shard_to_ssd/internal/testkit"
)

// leasedHost makes a host on ext4, which has leases.
func leasedHost(t *testing.T, bin string) *host {
	t.Helper()
	dir := testkit.Mount(t, "ext4", 256<<20)
	h := newHost(t, bin, filepath.Join(dir, "source"), dir)
	testkit.Apply(t, h.source,
		testkit.File("big", bigSize, 1), testkit.File("dir/small", 5000, 2), testkit.File("dir/other", 6000, 3), testkit.File("empty", 0, 4))
	return h
}

// damage changes two files of the published shard.
func (h *host) damage(t *testing.T) {
	testkit.Apply(t, h.published(), testkit.Write("big", blockSize, "damage"), testkit.Write("dir/small", 0, "damage"))
}

// forgetManifest makes the published shard one of the older script.
func (h *host) forgetManifest(t *testing.T) {
	if err := os.RemoveAll(h.stateDir()); err != nil {
		t.Fatal(err)
	}
}

// removeAll removes the published shard.
func (h *host) removeAll(t *testing.T) {
	for _, id := range []string{"a", "b"} {
		if o := runCommand(h.command("-r", id)); o.status != 0 {
			t.Error(o)
		}
	}
}

// A lease on a file of the source, on a published file or on the user file is waited for,
// as Samba and NFS servers hold them. It is no damage, and nothing fails.
func TestLeasesAreWaitedFor(t *testing.T) {
	for _, bin := range []string{program(t), faulty(t)} { // faulty reads even a few small files in batches
		h := leasedHost(t, bin)
		if o := runCommand(h.command("-c", "a")); o.status != 0 {
			t.Fatal(o)
		}
		source := []string{h.source + "/big", h.source + "/dir/small"}
		both := append([]string{h.published() + "/big", h.published() + "/dir/small"}, source...)
		user := []string{h.userFile()}
		for _, c := range []struct {
			before   func(*testing.T)
			mode, id string
			flags    []string
			leased   []string
		}{
			{nil, "--verify", "", nil, both[:2]},
			{nil, "--verify", "", []string{"--source"}, both},
			{h.damage, "--repair", "", nil, both},
			{h.forgetManifest, "--adopt", "", nil, both},
			{nil, "-c", "b", nil, user},
			{nil, "-r", "b", nil, user},
			{h.removeAll, "-c", "a", nil, source},
		} {
			if c.before != nil {
				c.before(t)
			}
			var leases []*leasetest.Lease
			for _, path := range c.leased {
				leases = append(leases, leasetest.HoldUntilWanted(t, path, nil))
			}
			if err := h.runLeased(leases, c.mode, c.id, c.flags...); err != nil {
				t.Errorf("%s %v: %v", c.mode, c.flags, err)
			}
		}
	}
}

// runLeased runs the tool, which must succeed, break the leases, and leave the shard whole.
func (h *host) runLeased(leases []*leasetest.Lease, mode, id string, flags ...string) error {
	o := runCommand(h.command(mode, id, flags...))
	var errs []error
	if o.status != 0 {
		errs = append(errs, fmt.Errorf("got %v, want status 0", o))
	}
	for i, l := range leases {
		if !l.WasWanted() {
			errs = append(errs, fmt.Errorf("lease %d was not asked for", i))
		}
		l.Close()
	}
	count("leases waited for", len(leases))
	return errors.Join(append(errs, h.checkWhole())...)
}

// A lease that its holder does not give up ends after the break time of the kernel.
func TestLeaseThatIsNeverGivenUp(t *testing.T) {
	h := leasedHost(t, program(t))
	leasetest.SetBreakTime(t, 1)
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	for _, c := range []struct{ mode, leased string }{
		{"--verify", h.published() + "/big"},
		{"--repair", h.published() + "/dir/small"},
		{"-r", h.userFile()},
		{"-c", h.source + "/dir/small"},
	} {
		id := ""
		if len(c.mode) == len("-c") {
			id = "a"
		}
		lease := leasetest.HoldForever(t, c.leased)
		if err := h.runLeased([]*leasetest.Lease{lease}, c.mode, id); err != nil {
			t.Errorf("%s: %v", c.mode, err)
		}
	}
}

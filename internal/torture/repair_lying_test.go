package torture

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"shard_to_ssd/internal/faultfs"
	"shard_to_ssd/internal/testkit"
)

// checkRepaired wants a successful repair, after which the shard equals the source.
func (h *host) checkRepaired(o outcome) error {
	if o.status != 0 {
		return errors.New(o.String())
	}
	if v := runCommand(h.command("--verify", "")); v.status != 0 {
		return errors.New(v.String())
	}
	return h.checkWhole()
}

// Flipped bits are repaired in every place and with each engine, and so are blocks that
// could not be read. A block that is still unreadable afterwards is reported, with
// status 3. A bounded round tries each place with each engine once.
func TestRotIsRepaired(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	for i, way := range copyWays() {
		for j, spot := range spots {
			if *torture == 0 && (i+j)%2 > 0 {
				continue // this engine repairs it with the other number of workers
			}
			if err := disk.FlipOnDisk("ssd/"+shardName+"/"+spot.file, spot.at); err != nil {
				t.Fatal(err)
			}
			disk.DropCache()
			o := runCommand(h.command("--repair", "", way...))
			if err := h.checkRepaired(o); err != nil || strings.TrimSpace(o.out) != "copied "+spot.file {
				t.Errorf("byte %d of %s, %q: %v, %v", spot.at, spot.file, way, err, o)
			}
			count("rotten bits, repaired", 1)
		}
	}
	const seen, lockedAndSeen = 1, 2 // by the check without the lock; and by that with it
	bad := faultfs.Fault{Op: faultfs.Read, Name: "ssd/" + shardName + "/big", From: blockSize, To: blockSize + 1, Err: syscall.EIO}
	for _, times := range []int{seen, lockedAndSeen} {
		bad.Times, bad.Err = times, mediaErrors[times]
		remove := injectFaults(disk, bad)
		if err := h.checkRepaired(runCommand(h.command("--repair", "", "--jobs", "1"))); err != nil {
			t.Errorf("unreadable %d times: %v", times, err)
		}
		remove()
	}
	bad.Times = 0
	remove := injectFaults(disk, bad)
	if o := runCommand(h.command("--repair", "")); o.status != 3 || !strings.Contains(o.err, "still differs from its manifest") {
		t.Errorf("always unreadable: %v", o)
	}
	remove()
	if err := h.checkRepaired(runCommand(h.command("--repair", ""))); err != nil {
		t.Error(err)
	}
}

// A directory that once could not be listed is checked again completely, and all
// differences in it are repaired.
func TestUnlistedDirectoryIsRepaired(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	testkit.Apply(t, h.published(), testkit.TextFile("dir/stranger", "x"))
	disk.DropCache()
	defer injectFaults(disk, faultfs.Fault{Op: faultfs.List, Name: "ssd/" + shardName + "/dir", Times: 1, Err: syscall.EIO})()
	if err := h.checkRepaired(runCommand(h.command("--repair", ""))); err != nil {
		t.Error(err)
	}
}

// A repair that finds no space, early or late, ends with status 4 and changes nothing.
func TestRepairOnAFullDisk(t *testing.T) {
	disk, h := lyingHost(t, program(t))
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	if err := disk.FlipOnDisk("ssd/"+shardName+"/big", 5); err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []bool{false, true} {
		disk.DropCache()
		before := testkit.SnapshotTree(h.published())
		disk.SetSize(disk.UsedBytes()+3<<20, hidden)
		if o := runCommand(h.command("--repair", "")); o.status != 4 || !strings.Contains(o.err, "nothing of it was changed") {
			t.Errorf("hidden %v: %v", hidden, o)
		}
		for _, line := range testkit.DiffSnapshots(before, testkit.SnapshotTree(h.published())) {
			t.Error(line)
		}
		for _, left := range namesIn(h.stateDir()) {
			if left == "stage" || left == "trash" {
				t.Errorf("%s was left", filepath.Join(h.stateDir(), left))
			}
		}
	}
	disk.SetSize(256<<20, false)
	if err := h.checkRepaired(runCommand(h.command("--repair", ""))); err != nil {
		t.Error(err)
	}
}

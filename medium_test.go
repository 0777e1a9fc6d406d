package shardtossd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// What is said to be read back from the device is, also on a file system that takes O_DIRECT and
// goes through the page cache all the same, as ext4 does with data=journal.
func TestReadBackReadsTheDevice(t *testing.T) {
	testkit.NeedRoot(t)
	for _, options := range []string{"remount,data=ordered", "data=journal"} {
		dir := testkit.Mount(t, "ext4", 256<<20)
		if options == "data=journal" { // cannot be changed by a remount
			image := filepath.Join(filepath.Dir(dir), "ext4.img")
			testkit.Command(t, "umount", dir)
			testkit.Command(t, "mount", "-o", "loop,"+options, image, dir)
		}
		s := newSite(t, t.TempDir(), dir)
		testkit.Apply(t, s.source, testkit.File("large", 40<<20+1, 1), testkit.File("small", 1<<20, 2))
		before := sectorsRead(t, dir)
		r, err := s.ensure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if read := (sectorsRead(t, dir) - before) * 512; read < r.Bytes && r.ReadBack != "cache" {
			t.Errorf("%s: %d bytes were read from the device for %d that were read back (%s)", options, read, r.Bytes, r.ReadBack)
		}
	}
}

// sectorsRead is the third number of a block device's statistics, see
// Documentation/admin-guide/iostats.rst of Linux: 512-byte sectors read.
func sectorsRead(t *testing.T, dir string) (sectors int64) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	dev := info.Sys().(*syscall.Stat_t).Dev
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		t.Fatal(err)
	}
	var ios, merges int64
	if _, err := fmt.Sscan(strings.TrimSpace(string(text)), &ios, &merges, &sectors); err != nil {
		t.Fatal(err)
	}
	return sectors
}

package shardtossd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/testkit"
)

// Data that is reported as read back from the device was read from the device. This holds
// even for ext4 with data=journal, which accepts O_DIRECT and uses the page cache anyway.
func TestReadBackReadsTheDevice(t *testing.T) {
	testkit.RequireRoot(t)
	for _, options := range []string{"remount,data=ordered", "data=journal"} {
		dir := testkit.Mount(t, "ext4", 256<<20)
		if options == "data=journal" { // a remount cannot change this option
			mountAgain(t, dir, options)
		}
		s := newSite(t, t.TempDir(), dir)
		testkit.Apply(t, s.source, testkit.File("large", 40<<20+1, 1), testkit.File("small", 1<<20, 2))
		before := sectorsRead(t, dir)
		r, err := s.runEnsure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if read := (sectorsRead(t, dir) - before) * 512; read < r.Bytes && r.ReadBack != "cache" {
			t.Errorf("%s: got %d bytes read from the device, want at least %d, read back is %q", options, read, r.Bytes, r.ReadBack)
		}
	}
}

// mountAgain unmounts a file system of testkit.Mount and mounts it with other options. That
// also empties the page cache.
func mountAgain(t *testing.T, dir, options string) {
	t.Helper()
	testkit.RunCommand(t, "umount", dir)
	testkit.RunCommand(t, "mount", "-o", "loop,"+options, filepath.Join(filepath.Dir(dir), "ext4.img"), dir)
}

// A verification reads large and small files from the device, even if services have them
// in the page cache. If O_DIRECT is accepted but ignored, or there is no device, it reports
// the mode that it used.
func TestVerifyReadsTheDevice(t *testing.T) {
	testkit.RequireRoot(t)
	for _, test := range []struct {
		kind, options, mode string
		fromDevice          bool
	}{{"ext4", "data=ordered", "direct", true}, {"ext4", "data=journal", "buffered", true}, {"tmpfs", "", "cache", false}} {
		dir := testkit.Mount(t, test.kind, 256<<20)
		s := newSite(t, t.TempDir(), dir)
		testkit.Apply(t, s.source, testkit.File("large", 40<<20+1, 1))
		for i := range 1500 { // about 1,000 files or more are read in a batch
			testkit.Apply(t, s.source, testkit.File(fmt.Sprintf("d/%d", i), 5000, uint64(i)))
		}
		if _, err := s.runEnsure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if test.fromDevice {
			mountAgain(t, dir, test.options)
		}
		for _, used := range []string{"large", "d/7", "d/1400"} { // brings them into the page cache
			if _, err := os.ReadFile(filepath.Join(s.publishedPath(), used)); err != nil {
				t.Fatal(err)
			}
		}
		before := int64(0)
		if test.fromDevice {
			before = sectorsRead(t, dir)
		}
		r, err := shardtossd.Verify(t.Context(), s.verifyOptions())
		if err != nil || string(r.ReadBack) != test.mode {
			t.Errorf("%s %s: got read back %q, %v, want %q", test.kind, test.options, r.ReadBack, err, test.mode)
		}
		if test.fromDevice && (sectorsRead(t, dir)-before)*512 < r.Bytes {
			t.Errorf("%s %s: got %d bytes read from the device, want at least %d", test.kind, test.options, (sectorsRead(t, dir)-before)*512, r.Bytes)
		}
	}
}

// sectorsRead returns the number of 512-byte sectors read from the block device below dir.
// It is the third number of the statistics of the device, see
// Documentation/admin-guide/iostats.rst of Linux.
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

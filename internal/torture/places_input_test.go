package torture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// bindMount mounts one directory below base at another place as well.
func bindMount(from, to string) func(t *testing.T, base string) {
	return mounted(to, func(base string) error {
		return unix.Mount(filepath.Join(base, from), filepath.Join(base, to), "", unix.MS_BIND, "")
	})
}

// readOnly makes a directory below base a read-only mount.
func readOnly(dir string) func(t *testing.T, base string) {
	return mounted(dir, func(base string) error {
		path := filepath.Join(base, dir)
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	})
}

// mountTmpfs mounts an empty file system.
func mountTmpfs(dir string) func(t *testing.T, base string) {
	return mounted(dir, func(base string) error {
		return unix.Mount("tmpfs", filepath.Join(base, dir), "tmpfs", 0, "mode=0755,size=1m")
	})
}

func mounted(dir string, mount func(base string) error) func(t *testing.T, base string) {
	return func(t *testing.T, base string) {
		t.Helper()
		testkit.RequireRoot(t)
		path := filepath.Join(base, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for range 2 { // after a failed remount the first mount remains
				_ = unix.Unmount(path, unix.UMOUNT_NOFOLLOW) // usually one call is enough
			}
		})
		if err := mount(base); err != nil {
			t.Fatal(err)
		}
	}
}

// publishFor copies the shard for the user u.
func publishFor(t *testing.T, base string) {
	t.Helper()
	if o := runCommand(commandAs(base, 0, program(t), words("-c -l locks -s ssd -i u source/shard")...)); o.status != 0 {
		t.Fatal(o)
	}
}

// afterPublishing runs a function, such as a mount, after the shard was published.
func afterPublishing(do func(t *testing.T, base string), more ...testkit.Step) func(t *testing.T, base string) {
	return func(t *testing.T, base string) {
		t.Helper()
		publishFor(t, base)
		testkit.Apply(t, base, more...)
		if do != nil {
			do(t, base)
		}
	}
}

// emptyUserFile makes the user file empty.
func emptyUserFile() testkit.Step { return testkit.TextFile("locks/shard.lock", "") }

// Sources that cannot be copied.
func TestSourcesThatAreRefused(t *testing.T) {
	loop := []testkit.Step{testkit.Symlink("loop", "source/loop")}
	checkRefusals(t, []refusal{
		{name: "missing", args: copyArgs("source/none"), status: 1, says: "open source: open "},
		{name: "missing above", args: copyArgs("none/none"), status: 1, says: "no such file or directory"},
		{name: "below a file", args: copyArgs("source/shard/file/x"), status: 1, says: "not a directory"},
		{name: "dangling link", before: []testkit.Step{testkit.Symlink("none", "source/link")}, args: copyArgs("source/link"), status: 1, says: "no such file or directory"},
		{name: "loop of links", before: loop, args: copyArgs("source/loop"), status: 1, says: "too many levels of symbolic links"},
		{name: "FIFO", before: []testkit.Step{testkit.FIFO("source/fifo")}, args: copyArgs("source/fifo"), status: 1, says: "neither a directory nor a regular file"},
		{name: "socket", before: []testkit.Step{testkit.Socket("source/socket")}, args: copyArgs("source/socket"), status: 1, says: "neither a directory nor a regular file"},
		{name: "device", args: copyArgs("/dev/null"), status: 1, says: "neither a directory nor a regular file"},
		{name: "FIFO in it", before: []testkit.Step{testkit.FIFO("source/shard/dir/f")}, args: copyArgs("source/shard"), status: 1, says: `"dir/f" (FIFO)`},
		{name: "socket in it", before: []testkit.Step{testkit.Socket("source/shard/s")}, args: copyArgs("source/shard"), status: 1, says: `"s" (socket)`},
		{name: "device in it", before: []testkit.Step{testkit.Device("source/shard/d", 1, 3)}, args: copyArgs("source/shard"), status: 1, says: `"d" (character device)`},
		{name: "in the SSD dir", before: []testkit.Step{testkit.Dir("ssd/own", 0o755)}, args: copyArgs("ssd/own", "--replace"), status: 1, says: "is inside the SSD dir"},
		{name: "deep in the SSD dir", before: []testkit.Step{testkit.Dir("ssd/a/own", 0o755)}, args: copyArgs("ssd/a/own"), status: 1, says: "is inside the SSD dir"},
		{name: "link into the SSD dir", before: []testkit.Step{testkit.Dir("ssd/a/own", 0o755), testkit.Symlink("../ssd/a/own", "source/own")}, args: copyArgs("source/own"), status: 1, says: "is inside the SSD dir"},
		{name: "the SSD dir", args: copyArgs("ssd"), status: 1, says: "is inside "},
		{name: "SSD dir in it", args: append(words("-c -l locks -i a -s source/shard/dir"), "source/shard"), status: 1, says: "is inside the source"},
		{name: "SSD dir in it by a link", before: []testkit.Step{testkit.Symlink("source/shard/dir", "way")},
			args: append(words("-c -l locks -i a -s way"), "source/shard"), status: 1, says: "is inside the source"},
		{name: "the published shard itself", mount: afterPublishing(nil, emptyUserFile(), testkit.Remove("ssd/.shard_to_ssd/shard/manifest")),
			args: copyArgs("ssd/shard"), status: 1, says: "is inside the SSD dir"},
		{name: "the published shard by a bind mount", mount: afterPublishing(bindMount("ssd/shard", "again/shard"), emptyUserFile(), testkit.Remove("ssd/.shard_to_ssd/shard/manifest")),
			args: copyArgs("again/shard"), status: 1, says: "is the published shard itself"},
		{name: "the published shard by a bind mount, replaced", mount: afterPublishing(bindMount("ssd/shard", "again/shard"), testkit.Remove("locks/shard.lock"), testkit.Remove("ssd/.shard_to_ssd/shard/manifest")),
			args: copyArgs("again/shard", "--replace"), status: 1, says: "is the published shard itself"},
		{name: "lock dir in it", locks: "source/shard/dir", args: append(words("-c -s ssd -i a -l source/shard/dir"), "source/shard"), status: 1, says: "lock dir"},
		{name: "lock dir in it by a link", locks: "source/shard", before: []testkit.Step{testkit.Symlink("source/shard", "way")},
			args: append(words("-c -s ssd -i a -l way"), "source/shard"), status: 1, says: "lock dir"},
		{name: "lock dir in the shard's public path", locks: "ssd/shard/l", before: []testkit.Step{testkit.Dir("ssd/shard/l", 0o755)},
			args: append(words("-c -s ssd -i a -l ssd/shard/l --replace"), "source/shard"), status: 1, says: "lock dir"},
		{name: "lock dir in the state dirs", locks: "ssd/.shard_to_ssd/l", before: []testkit.Step{testkit.Dir("ssd/.shard_to_ssd/l", 0o700), testkit.Chmod("ssd/.shard_to_ssd", 0o700)},
			args: append(words("-c -s ssd -i a -l ssd/.shard_to_ssd/l"), "source/shard"), status: 1, says: "lock dir"},
	})
}

// A user who is not root gets a message about entries without the necessary rights.
func TestRightsThatAreMissing(t *testing.T) {
	testkit.RequireRoot(t)
	own := []testkit.Step{testkit.Chmod("locks", 0o777), testkit.Chmod("ssd", 0o777)}
	with := func(more ...testkit.Step) []testkit.Step { return append(more, own...) }
	checkRefusals(t, []refusal{
		{name: "source", before: with(testkit.Chmod("source/shard", 0o700)), as: nobody, args: copyArgs("source/shard"), status: 1, says: "shard: permission denied"},
		{name: "above the source", before: with(testkit.Chmod("source", 0o700)), as: nobody, args: copyArgs("source/shard"), status: 1, says: "permission denied"},
		{name: "file in it", before: with(testkit.Chmod("source/shard/file", 0o600)), as: nobody, args: copyArgs("source/shard"), status: 1, says: "shard/file: permission denied", keeps: true},
		{name: "large file in it", before: with(testkit.File("source/shard/large", 9<<20, 1), testkit.Chmod("source/shard/large", 0o600)),
			as: nobody, args: copyArgs("source/shard"), status: 1, says: "shard/large: permission denied", keeps: true},
		{name: "directory in it", before: with(testkit.Chmod("source/shard/dir", 0o700)), as: nobody, args: copyArgs("source/shard"), status: 1, says: "shard/dir: permission denied"},
		{name: "names of a directory in it", before: with(testkit.Chmod("source/shard/dir", 0o711)), as: nobody, args: copyArgs("source/shard"), status: 1, says: "permission denied"},
		{name: "lock dir", before: []testkit.Step{testkit.Chmod("ssd", 0o777)}, as: nobody, args: copyArgs("source/shard"), status: 1, says: "shard.lock: permission denied"},
		{name: "lock dir's names", before: []testkit.Step{testkit.Chmod("locks", 0o700)}, as: nobody, args: removeArgs("shard"), status: 1, says: "locks: permission denied"},
		{name: "SSD dir", before: []testkit.Step{testkit.Chmod("locks", 0o777)}, as: nobody, args: copyArgs("source/shard"), status: 1, says: ".shard_to_ssd: permission denied"},
		{name: "state dirs", before: with(testkit.Dir("ssd/.shard_to_ssd", 0o700)), as: nobody, args: copyArgs("source/shard"), status: 1, says: "permission denied"},
		{name: "state dirs of a shard that is there", mount: afterPublishing(nil, testkit.Chmod("locks/shard.lock", 0o666)), as: nobody, args: copyArgs("source/shard"), status: 1, says: "permission denied"},
		{name: "user file", mount: afterPublishing(nil), as: nobody, args: removeArgs("shard"), status: 1, says: "shard.lock: permission denied"},
		{name: "verify", mount: afterPublishing(nil), as: nobody, args: words("--verify -s ssd -l locks shard"), status: 1, says: "permission denied"},
	})
}

// Lock dirs and SSD dirs that cannot be used.
func TestPlacesThatAreRefused(t *testing.T) {
	odd := []testkit.Step{testkit.TextFile("plain", "x"), testkit.Symlink("none", "dangling"), testkit.Symlink("loop", "loop"), testkit.FIFO("fifo")}
	var table []refusal
	for place, says := range map[string]string{
		"none": "no such file or directory", "plain": "not a directory", "dangling": "no such file or directory",
		"loop": "too many levels of symbolic links", "fifo": "not a directory", "plain/x": "not a directory",
	} {
		for _, mode := range []string{"-c -i a", "-r -i a", "--verify", "--list"} {
			table = append(table, refusal{name: mode + " -s " + place, before: odd, status: 1, says: "SSD dir: open " + place,
				args: words(mode + " -l locks -s " + place + " source/shard")})
			if missing := place == "none" || place == "dangling"; mode == "-c -i a" || mode == "-r -i a" && !missing {
				table = append(table, refusal{name: mode + " -l " + place, before: odd, status: 1, says: says,
					args: words(mode + " -s ssd -l " + place + " source/shard")})
			}
		}
	}
	gone := []testkit.Step{testkit.TextFile("locks/shard.lock", "a\nb")}
	checkRefusals(t, append(table,
		refusal{name: "read-only lock dir", mount: readOnly("locks"), args: copyArgs("source/shard"), status: 1, says: "read-only file system"},
		refusal{name: "-c, read-only lock dir with a user file", before: gone, mount: readOnly("locks"), args: copyArgs("source/shard"), status: 1, says: "shard.lock: read-only file system"},
		refusal{name: "-r, read-only lock dir with a user file", before: gone, mount: readOnly("locks"), args: removeArgs("source/shard"), status: 1, says: "shard.lock: read-only file system"},
		refusal{name: "read-only SSD dir", mount: readOnly("ssd"), args: copyArgs("source/shard"), status: 1, says: "read-only file system"},
		refusal{name: "no mount point", args: copyArgs("source/shard", "--require-mount"), status: 1, says: "is not a mount point"},
		refusal{name: "state dirs on another file system", mount: mountTmpfs("ssd/.shard_to_ssd"), args: copyArgs("source/shard"), status: 1, says: "is a mount, or on another file system"},
		refusal{name: "state dir on another file system", mount: func(t *testing.T, base string) {
			testkit.Apply(t, base, testkit.Dir("ssd/.shard_to_ssd", 0o700))
			mountTmpfs("ssd/.shard_to_ssd/shard")(t, base)
		}, args: copyArgs("source/shard"), status: 1, says: "is a mount, or on another file system"},
		refusal{name: "state dirs a bind mount", mount: func(t *testing.T, base string) {
			testkit.Apply(t, base, testkit.Dir("elsewhere", 0o700))
			bindMount("elsewhere", "ssd/.shard_to_ssd")(t, base)
		}, args: copyArgs("source/shard"), status: 1, says: "is a mount, or on another file system"},
	))
}

// State dirs that are not valid.
func TestStateDirsThatAreRefused(t *testing.T) {
	var table []refusal
	for _, dir := range []string{"ssd/.shard_to_ssd", "ssd/.shard_to_ssd/shard"} {
		for kind, c := range map[string]struct {
			step testkit.Step
			says string
		}{
			"file":          {testkit.TextFile(dir, "x"), "not a directory"},
			"link":          {testkit.Symlink("/tmp", dir), "not a directory"},
			"dangling link": {testkit.Symlink("none", dir), "not a directory"},
			"FIFO":          {testkit.FIFO(dir), "not a directory"},
			"somebody's":    {func(base string) error { return dirOf(dir, nobody)(base) }, "belongs to user 65534"},
		} {
			before := []testkit.Step{c.step}
			if dir != "ssd/.shard_to_ssd" {
				before = []testkit.Step{testkit.Dir("ssd/.shard_to_ssd", 0o700), c.step}
			}
			name := strings.TrimPrefix(dir, "ssd/") + " a " + kind
			table = append(table,
				refusal{name: "-c, " + name, before: before, args: copyArgs("source/shard"), status: 1, says: c.says},
				refusal{name: "-c of an orphan, " + name, before: append(before, emptyUserFile(), testkit.TextFile("ssd/shard/x", "")), args: copyArgs("source/shard"), status: 1, says: c.says},
				refusal{name: "-c of another's, " + name, before: append(before, testkit.TextFile("locks/shard.lock", "b"), testkit.TextFile("ssd/shard/x", "")), args: copyArgs("source/shard"), status: 1, says: c.says},
				refusal{name: "-r, " + name, before: append(before, testkit.TextFile("locks/shard.lock", "a"), testkit.TextFile("ssd/shard/x", "")), args: removeArgs("source/shard"), status: 1, says: c.says},
				refusal{name: "--verify, " + name, before: append(before, testkit.TextFile("ssd/shard/x", "")), args: words("--verify -l locks -s ssd shard"), status: 1, says: c.says})
		}
	}
	checkRefusals(t, table)
}

// dirOf makes a directory of a user that all users may enter and write to.
func dirOf(name string, uid int) testkit.Step {
	return func(base string) error {
		for _, step := range []testkit.Step{testkit.Dir(name, 0o755), testkit.Chown(name, uid, uid)} {
			if err := step(base); err != nil {
				return err
			}
		}
		return nil
	}
}

// --list must help in an unusual state: a shard whose state cannot be read does not
// hide the others. The status is still a failure.
func TestListOfAStrangeState(t *testing.T) {
	base := newBase(t)
	publishFor(t, base)
	testkit.Apply(t, base, testkit.TextFile("ssd/.shard_to_ssd/file", "x"), testkit.Symlink("/tmp", "ssd/.shard_to_ssd/link"), testkit.FIFO("ssd/.shard_to_ssd/fifo"),
		dirOf("ssd/.shard_to_ssd/theirs", nobody), testkit.Dir("locks/dir.lock", 0o755), testkit.Symlink("none", "locks/link.lock"), testkit.FIFO("locks/fifo2.lock"),
		testkit.TextFile("locks/nul.lock", "a\x00b"), testkit.FIFO("ssd/fifo3"), testkit.Symlink("none", "ssd/link3"))
	before := testkit.SnapshotTree(base)
	o := runCommand(commandAs(base, 0, program(t), words("--list -l locks -s ssd")...))
	if o.status != 1 || !strings.Contains(o.out, "shard: published") {
		t.Errorf("--list: %v", o)
	}
	for _, name := range words("file link fifo theirs dir fifo2 nul") {
		if !strings.Contains(o.out, "\n"+name+": ") && !strings.HasPrefix(o.out, name+": ") {
			t.Errorf("--list does not name %s: %v", name, o)
		}
		if !strings.Contains(o.err, name) {
			t.Errorf("--list does not report the cause for %s: %v", name, o)
		}
	}
	if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(base)); len(changed) > 0 {
		t.Errorf("--list changed %q", changed)
	}
}

package torture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/testkit"
)

// mounting is a mount in a tree that is going to be deleted.
type mounting struct {
	from string // below base; "": an empty tmpfs
	on   string // mount point in the shard
}

// mountings are mounts on directories with and without entries, deep below, of another
// file system and of the same one, and on a file.
var mountings = []mounting{
	{"other", "dir"}, {"other", "dir/sub"}, {"other", "empty"}, {"", "dir/sub"}, {"victim", "dir"}, {"victim", "empty"}, {"victim/file", "file"},
}

// mountScene is a scene in which "other" is a tmpfs with files on it.
func mountScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	mountTmpfs("other")(t, s.base)
	testkit.Apply(t, s.base, testkit.TextFile("other/inner", canary), testkit.TextFile("other/sub/deep", canary))
	testkit.Apply(t, s.source, testkit.Dir("empty", 0o755))
	s.publishShard(t)
	t.Cleanup(func() { s.unmountAll(t) })
	return s
}

// mountOn mounts it into the tree at top.
func (s *scene) mountOn(m mounting, top string) error {
	to := filepath.Join(top, m.on)
	if m.from == "" {
		return unix.Mount("tmpfs", to, "tmpfs", 0, "size=1m")
	}
	return unix.Mount(filepath.Join(s.base, m.from), to, "", unix.MS_BIND, "")
}

// unmountAll removes all mounts from the shard, under its public name or in the trash.
func (s *scene) unmountAll(t *testing.T) {
	t.Helper()
	for _, top := range []string{s.published(), s.trashDir()} {
		for _, m := range mountings {
			err := unix.Unmount(filepath.Join(top, m.on), unix.UMOUNT_NOFOLLOW)
			if err != nil && err != unix.EINVAL && err != unix.ENOENT && err != unix.ENOTDIR {
				t.Error(err)
			}
		}
	}
}

func (s *scene) trashDir() string { return s.stateDir() + "/trash" }

// listPrecious lists the mounted files, which must stay.
func (s *scene) listPrecious() string {
	return fmt.Sprint(testkit.SnapshotTree(s.victim), testkit.SnapshotTree(filepath.Join(s.base, "other")))
}

// A mount in a shard, or in the trash, is neither entered nor deleted: the call fails
// and names the mount, and the next call without the mount succeeds.
func TestRemovalStopsAtMounts(t *testing.T) {
	testkit.RequireRoot(t)
	orphan := func(s *scene) error { return os.Truncate(s.userFile(), 0) }
	trashed := func(s *scene) error {
		return s.runKilled(fault{action: "kill-after", at: 1, only: "rename"}, "-r", "a")
	}
	for name, c := range map[string]struct {
		prepare func(s *scene) error
		top     func(s *scene) string
		mode    string
	}{
		"-r of a shard":   {func(*scene) error { return nil }, func(s *scene) string { return s.published() }, "-r"},
		"-r of an orphan": {orphan, func(s *scene) string { return s.published() }, "-r"},
		"-r of trash":     {trashed, (*scene).trashDir, "-r"},
		"-c over trash":   {trashed, (*scene).trashDir, "-c"},
	} {
		for _, m := range mountings {
			t.Run(fmt.Sprint(name, ", ", m), func(t *testing.T) {
				s := mountScene(t)
				if err := errors.Join(c.prepare(s), s.mountOn(m, c.top(s))); err != nil {
					t.Fatal(err)
				}
				before := s.listPrecious()
				o := runCommand(s.command(c.mode, "a"))
				if o.status != 1 || !strings.Contains(o.err, "trash/"+m.on+": ") || !strings.Contains(o.err, "something is mounted there") {
					t.Errorf("want status 1 and an error about trash/%s: %v", m.on, o)
				}
				if s.listPrecious() != before {
					t.Errorf("the mounted files changed: %v", o)
				}
				s.unmountAll(t)
				if o := runCommand(s.command("-r", "a")); o.status != 0 {
					t.Errorf("after the unmount: %v", o)
				}
				if err := s.checkTraceless(); err != nil {
					t.Error(err)
				}
				count("mounts in deleted trees", 1)
			})
		}
	}
}

// A mount appears between any two calls of a removal: nothing in it is deleted. The
// removal succeeds, or fails as above.
func TestMountWhileRemoving(t *testing.T) {
	testkit.RequireRoot(t)
	rounds(t, 0.02, func(t *testing.T, r *round) {
		steps := len(callsOf(t, mountScene(t).command("-r", "a", "--jobs", "1")))
		for _, m := range mountings {
			for at := 1; at <= steps; at++ {
				if !r.full && r.IntN(steps) > 3 {
					continue
				}
				if err := mountedWhileRemoving(t, mountScene(t), m, at); err != nil {
					t.Errorf("%v before call %d: %v", m, at, err)
				}
				count("mounts in deleted trees", 1)
			}
		}
	})
}

func mountedWhileRemoving(t *testing.T, s *scene, m mounting, at int) error {
	before := s.listPrecious()
	o, _, err := runHeld(s.command("-r", "a", "--jobs", "1"), fmt.Sprint("stop-before@", at), func() error {
		for _, top := range []string{s.published(), s.trashDir()} {
			if err := s.mountOn(m, top); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil // the mount point was already deleted
	})
	switch {
	case err != nil:
		return err
	case s.listPrecious() != before:
		return fmt.Errorf("the mounted files changed: %v", o)
	case o.status != 0 && (o.status != 1 || !strings.Contains(o.err, "something is mounted there")):
		return fmt.Errorf("want an error about the mount: %v", o)
	}
	s.unmountAll(t)
	if again := runCommand(s.command("-r", "a")); again.status != 0 {
		return fmt.Errorf("after the unmount: %v, before %v", again, o)
	}
	return s.checkTraceless()
}

// A mount on the shard directory itself is detected before anything changes.
func TestShardIsAMount(t *testing.T) {
	testkit.RequireRoot(t)
	emptied := func(s *scene) error { return os.Truncate(s.userFile(), 0) }
	for mode, prepare := range map[string]func(*scene) error{"-r": func(*scene) error { return nil }, "-c": emptied} {
		s := mountScene(t)
		top := s.published()
		if err := errors.Join(prepare(s), unix.Mount(s.victim, top, "", unix.MS_BIND, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(top, unix.UMOUNT_NOFOLLOW) }) // usually done below
		before := testkit.SnapshotTree(s.base)
		o := runCommand(s.command(mode, "a"))
		if o.status != 1 || !strings.Contains(o.err, s.published()+" is a mount") {
			t.Errorf("%s: want status 1 and an error about the mount: %v", mode, o)
		}
		if changed := testkit.DiffSnapshots(before, testkit.SnapshotTree(s.base)); len(changed) > 0 {
			t.Errorf("%s: changed %q", mode, changed)
		}
		if err := unix.Unmount(top, unix.UMOUNT_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		if err := s.checkRecovery(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// A copy frees the space of trash even if the trash of another shard cannot be deleted.
func TestMountKeepsNoSpace(t *testing.T) {
	ssd := testkit.Mount(t, "tmpfs", 24<<20)
	h := newHost(t, program(t), t.TempDir(), filepath.Dir(ssd))
	h.ssd = ssd
	testkit.Apply(t, h.source, testkit.File("large", 12<<20, 1))
	testkit.Apply(t, ssd, testkit.Dir(".shard_to_ssd", 0o700), testkit.Dir(".shard_to_ssd/a", 0o700), testkit.Dir(".shard_to_ssd/b", 0o700),
		testkit.Dir(".shard_to_ssd/a/trash/stuck", 0o755), testkit.File(".shard_to_ssd/b/trash/large", 16<<20, 2))
	mountTmpfs("tmpfs/.shard_to_ssd/a/trash/stuck")(t, filepath.Dir(ssd))
	o := runCommand(h.command("-c", "a"))
	if o.status != 0 || !strings.Contains(o.err, "WARNING:root:cannot delete the trash of shard a: ") {
		t.Errorf("want a copy and a warning: %v", o)
	}
	if err := h.checkWhole(); err != nil {
		t.Error(err)
	}
}

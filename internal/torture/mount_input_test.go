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

// mounting is somebody's mount in what is to be deleted.
type mounting struct {
	from string // below base; "": an empty tmpfs
	on   string // in the shard
}

// mountings are over what has something in it and what has not, deep below, of another
// file system and of the same one, and of a file.
var mountings = []mounting{
	{"other", "dir"}, {"other", "dir/sub"}, {"other", "empty"}, {"", "dir/sub"}, {"victim", "dir"}, {"victim", "empty"}, {"victim/file", "file"},
}

// mountScene is a scene in which "other" is a tmpfs with files on it.
func mountScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	tmpfs("other")(t, s.base)
	testkit.Apply(t, s.base, testkit.Content("other/inner", canary), testkit.Content("other/sub/deep", canary))
	testkit.Apply(t, s.source, testkit.Dir("empty", 0o755))
	s.publish(t)
	t.Cleanup(func() { s.unmount(t) })
	return s
}

// mount puts it into the tree at top.
func (s *scene) mount(m mounting, top string) error {
	to := filepath.Join(top, m.on)
	if m.from == "" {
		return unix.Mount("tmpfs", to, "tmpfs", 0, "size=1m")
	}
	return unix.Mount(filepath.Join(s.base, m.from), to, "", unix.MS_BIND, "")
}

// unmount takes all mounts out of the shard, wherever it is by now.
func (s *scene) unmount(t *testing.T) {
	t.Helper()
	for _, top := range []string{s.published(), s.trash()} {
		for _, m := range mountings {
			err := unix.Unmount(filepath.Join(top, m.on), unix.UMOUNT_NOFOLLOW)
			if err != nil && err != unix.EINVAL && err != unix.ENOENT && err != unix.ENOTDIR {
				t.Error(err)
			}
		}
	}
}

func (s *scene) trash() string { return s.state() + "/trash" }

// precious is what must be left of all that was mounted.
func (s *scene) precious() string {
	return fmt.Sprint(testkit.Snapshot(s.victim), testkit.Snapshot(filepath.Join(s.base, "other")))
}

// What is mounted in a shard, or in trash, is neither entered nor deleted: the call
// fails and names the mount, and the next one succeeds when it is gone.
func TestRemovalStopsAtMounts(t *testing.T) {
	testkit.NeedRoot(t)
	orphan := func(s *scene) error { return os.Truncate(s.userFile(), 0) }
	trashed := func(s *scene) error { return s.killed(fault{action: "kill-after", at: 1, only: "rename"}, "-r", "a") }
	for name, c := range map[string]struct {
		prepare func(s *scene) error
		top     func(s *scene) string
		mode    string
	}{
		"-r of a shard":   {func(*scene) error { return nil }, func(s *scene) string { return s.published() }, "-r"},
		"-r of an orphan": {orphan, func(s *scene) string { return s.published() }, "-r"},
		"-r of trash":     {trashed, (*scene).trash, "-r"},
		"-c over trash":   {trashed, (*scene).trash, "-c"},
	} {
		for _, m := range mountings {
			t.Run(fmt.Sprint(name, ", ", m), func(t *testing.T) {
				s := mountScene(t)
				if err := errors.Join(c.prepare(s), s.mount(m, c.top(s))); err != nil {
					t.Fatal(err)
				}
				before := s.precious()
				o := run(s.command(c.mode, "a"))
				if o.status != 1 || !strings.Contains(o.err, "trash/"+m.on+": ") || !strings.Contains(o.err, "something is mounted there") {
					t.Errorf("wanted status 1, and trash/%s named: %v", m.on, o)
				}
				if s.precious() != before {
					t.Errorf("what was mounted was touched: %v", o)
				}
				s.unmount(t)
				if o := run(s.command("-r", "a")); o.status != 0 {
					t.Errorf("without the mount: %v", o)
				}
				if err := s.traceless(); err != nil {
					t.Error(err)
				}
				count("mounts in what is deleted", 1)
			})
		}
	}
}

// A mount comes between any two calls of a removal: nothing in it is deleted, and the
// removal succeeds, or fails as above.
func TestMountWhileRemoving(t *testing.T) {
	testkit.NeedRoot(t)
	rounds(t, 0.02, func(t *testing.T, r *round) {
		steps := len(calls(t, mountScene(t).command("-r", "a", "--jobs", "1")))
		for _, m := range mountings {
			for at := 1; at <= steps; at++ {
				if !r.full && r.IntN(steps) > 3 {
					continue
				}
				if err := mountedWhileRemoving(t, mountScene(t), m, at); err != nil {
					t.Errorf("%v before call %d: %v", m, at, err)
				}
				count("mounts in what is deleted", 1)
			}
		}
	})
}

func mountedWhileRemoving(t *testing.T, s *scene, m mounting, at int) error {
	before := s.precious()
	o, _, err := held(s.command("-r", "a", "--jobs", "1"), fmt.Sprint("stop-before@", at), func() error {
		for _, top := range []string{s.published(), s.trash()} {
			if err := s.mount(m, top); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil // it was deleted already
	})
	switch {
	case err != nil:
		return err
	case s.precious() != before:
		return fmt.Errorf("what was mounted was touched: %v", o)
	case o.status != 0 && (o.status != 1 || !strings.Contains(o.err, "something is mounted there")):
		return fmt.Errorf("wanted the mount named: %v", o)
	}
	s.unmount(t)
	if again := run(s.command("-r", "a")); again.status != 0 {
		return fmt.Errorf("without the mount: %v, before %v", again, o)
	}
	return s.traceless()
}

// A mount in the place of the shard itself is found before anything is done.
func TestShardIsAMount(t *testing.T) {
	testkit.NeedRoot(t)
	emptied := func(s *scene) error { return os.Truncate(s.userFile(), 0) }
	for mode, prepare := range map[string]func(*scene) error{"-r": func(*scene) error { return nil }, "-c": emptied} {
		s := mountScene(t)
		top := s.published()
		if err := errors.Join(prepare(s), unix.Mount(s.victim, top, "", unix.MS_BIND, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(top, unix.UMOUNT_NOFOLLOW) }) //nolint:errcheck // mostly done below
		before := testkit.Snapshot(s.base)
		o := run(s.command(mode, "a"))
		if o.status != 1 || !strings.Contains(o.err, s.published()+" is a mount") {
			t.Errorf("%s: wanted status 1 and the mount named: %v", mode, o)
		}
		if changed := testkit.Diff(before, testkit.Snapshot(s.base)); len(changed) > 0 {
			t.Errorf("%s: changed %q", mode, changed)
		}
		if err := unix.Unmount(top, unix.UMOUNT_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		if err := s.recovers(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// Trash of another shard that cannot be deleted does not keep the space of a third's.
func TestMountKeepsNoSpace(t *testing.T) {
	ssd := testkit.Mount(t, "tmpfs", 24<<20)
	h := newHost(t, program(t), t.TempDir(), filepath.Dir(ssd))
	h.ssd = ssd
	testkit.Apply(t, h.source, testkit.File("large", 12<<20, 1))
	testkit.Apply(t, ssd, testkit.Dir(".shard_to_ssd", 0o700), testkit.Dir(".shard_to_ssd/a", 0o700), testkit.Dir(".shard_to_ssd/b", 0o700),
		testkit.Dir(".shard_to_ssd/a/trash/stuck", 0o755), testkit.File(".shard_to_ssd/b/trash/large", 16<<20, 2))
	tmpfs("tmpfs/.shard_to_ssd/a/trash/stuck")(t, filepath.Dir(ssd))
	o := run(h.command("-c", "a"))
	if o.status != 0 || !strings.Contains(o.err, "WARNING:root:the trash of shard a could not be removed: ") {
		t.Errorf("wanted a copy, and a warning: %v", o)
	}
	if err := h.whole(); err != nil {
		t.Error(err)
	}
}

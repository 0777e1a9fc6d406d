package torture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/testkit"
)

// Another user cannot look into a stage at any moment of a copy, with any umask and any
// inherited ACL of the SSD dir.
func TestStageIsPrivate(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireTools(t, "setfacl")
	rounds(t, 0.01, func(t *testing.T, r *round) {
		lines := callsOf(t, newScene(t).command("-c", "a", "--jobs", "1"))
		for _, fault := range r.attackMoments(lines, ".shard_to_ssd", 12) {
			s := newScene(t)
			testkit.Apply(t, s.base, testkit.Chmod("ssd", 0o2777))
			testkit.RunCommand(t, "setfacl", "-d", "-m", fmt.Sprintf("u:%d:rwx,g::rwx,o::rwx", nobody), s.ssd)
			c := s.command("-c", "a", "--jobs", "1")
			c.Args = append([]string{"sh", "-c", `umask 0; exec "$0" "$@"`, s.bin}, c.Args[1:]...)
			c.Path = "/bin/sh"
			o, reached, err := runHeld(c, fault, s.checkPrivacy)
			if err != nil || !reached || o.status != 0 {
				t.Fatalf("%s: %v, %v", fault, err, o)
			}
			count("looks into a stage", 1)
		}
	})
}

// checkPrivacy reports an error if another user can see unpublished files.
func (s *scene) checkPrivacy() error {
	look := `cd .shard_to_ssd 2>/dev/null && echo entered; ls .shard_to_ssd .shard_to_ssd/shard; cd .shard_to_ssd/shard && echo entered;
		cat .shard_to_ssd/shard/{stage/file,stage/dir/inner,stage/large,plan,journal,manifest.new,manifest,lockdir,lockdir.new}; : >.shard_to_ssd/x`
	o := runCommand(commandAs(s.ssd, nobody, "bash", "-c", look))
	for line := range strings.Lines(o.err) {
		if !strings.Contains(line, "ermission denied") && !strings.Contains(line, "No such file") && !strings.Contains(line, "cannot create") {
			return fmt.Errorf("access to the stage by another user: %v", o)
		}
	}
	names := namesIn(filepath.Join(s.ssd, ".shard_to_ssd"))
	if _, err := os.Lstat(filepath.Join(s.ssd, ".shard_to_ssd/x")); o.out != "" || err == nil || len(names) > 0 && !strings.Contains(o.err, "ermission denied") {
		return fmt.Errorf("access to the stage by another user: %v, %q", o, names)
	}
	return nil
}

// In an SSD dir that all may write to, another user puts a shard, with a state dir and
// a manifest that this tool made. The tool does not take it for a published shard.
func TestForgedStateDir(t *testing.T) {
	testkit.RequireRoot(t)
	bin, base := programForAll(t), newBase(t)
	testkit.Apply(t, base, testkit.Chmod("ssd", 0o1777), dirOf("theirs", nobody))
	if o := runCommand(commandAs(base, nobody, bin, words("-c -l theirs -s ssd -i x source/shard")...)); o.status != 0 {
		t.Fatal(o)
	}
	testkit.Apply(t, base, testkit.TextFile("ssd/.shard_to_ssd/shard/lockdir", base+"/locks"), testkit.TextFile("ssd/shard/file", "CONTENT"))
	for _, users := range []string{"no file", "", "b"} {
		if users != "no file" {
			testkit.Apply(t, base, testkit.TextFile("locks/shard.lock", users))
		}
		before := testkit.SnapshotTree(base)
		for _, mode := range []string{"-c -i a", "-r -i b", "--verify"} {
			o := runCommand(commandAs(base, 0, bin, words("-l locks -s ssd "+mode+" source/shard")...))
			if changed := (&refusal{}).unexpectedChanges(testkit.DiffSnapshots(before, testkit.SnapshotTree(base))); o.status != 1 || !strings.Contains(o.err, "belongs to user 65534") || len(changed) > 0 {
				t.Errorf("users %q, %s: changed %q, %v", users, mode, changed, o)
			}
		}
	}
}

// The tool reads a log next to the user file only if its owner may also write the user
// file.
func TestForgedLog(t *testing.T) {
	testkit.RequireRoot(t)
	first, second := strings.Repeat("someone-else\n", 400), strings.Repeat("other\n", 999)
	old, forged := first+"A\n"+second, first+"B\n"+second+"mallory"
	log := []byte("s2sulog1")
	log = binary.LittleEndian.AppendUint64(log, uint64(4096))
	log = binary.LittleEndian.AppendUint64(log, uint64(len(forged)))
	log = append(append(log, old[:4096]...), forged...)
	log = binary.LittleEndian.AppendUint64(log, xxhash.Sum64(log))
	now := append([]byte(old)[:4096:4096], []byte(forged)[4096:8192]...)
	for _, c := range []struct {
		uid      int
		link     bool
		believed bool
	}{{0, false, true}, {nobody, false, false}, {0, true, false}} {
		s := newScene(t)
		s.publishShard(t)
		if err := os.WriteFile(s.userFile(), now, 0o644); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(os.WriteFile(s.userFile()+".log", log, 0o644), os.Chown(s.userFile()+".log", c.uid, c.uid))
		if c.link {
			err = errors.Join(err, os.Link(s.userFile()+".log", s.base+"/second"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if o := runCommand(s.command("-c", "new")); o.status != 0 {
			t.Fatal(o)
		}
		list, err := os.ReadFile(s.userFile())
		if err != nil || bytes.Contains(list, []byte("mallory")) != c.believed || !bytes.Contains(list, []byte("new")) {
			t.Errorf("%+v: the list has mallory: %v, %v", c, bytes.Contains(list, []byte("mallory")), err)
		}
		if left := namesIn(s.locks); len(left) != 1 {
			t.Errorf("%+v: the lock dir has %q", c, left)
		}
	}
}

package torture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// Directories and files of the source change into links, FIFOs and each other during a
// copy.
func TestSourceIsSwapped(t *testing.T) {
	testkit.RequireRoot(t)
	rounds(t, 0.02, func(t *testing.T, r *round) {
		lines := callsOf(t, newScene(t).command("-c", "a", "--jobs", "1"))
		for name := range newScene(t).treeSwaps() {
			for _, fault := range r.attackMoments(lines, "shard/"+strings.Fields(name)[0], 2) {
				t.Run(name+", "+fault, func(t *testing.T) { // the directories are deleted with the subtest
					s := newScene(t)
					attack := func() error { return s.treeSwaps()[name](s.source) }
					if err := s.checkAttacked(s.command("-c", "a", "--jobs", "1"), fault, attack); err != nil {
						t.Fatal(err)
					}
					if err := s.checkAfterwards(); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	})
}

// checkAfterwards checks that the host works again. A copy refuses special files in the
// source, so they are deleted first.
func (s *scene) checkAfterwards() error {
	for _, name := range []string{"dir", "dir/inner", "large"} {
		path := filepath.Join(s.source, name)
		if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeNamedPipe != 0 {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	if users, _ := s.users(); len(users) == 1 {
		if o := runCommand(s.command("-r", "a")); o.status != 0 {
			return fmt.Errorf("the next removal: %v", o)
		}
	}
	return s.checkRecovery()
}

// Directories and files of the published shard, or the shard itself, change while it is
// removed, verified, adopted, replaced or repaired. The attacker has the shard open,
// and can still change it in the trash.
func TestPublishedShardIsSwapped(t *testing.T) {
	testkit.RequireRoot(t)
	calm := func(*scene) error { return nil }
	orphan := func(s *scene) error { return os.Truncate(s.userFile(), 0) }
	foreign := func(s *scene) error { return errors.Join(orphan(s), os.Remove(s.stateDir()+"/manifest")) }
	unknown := func(s *scene) error { return os.Remove(s.stateDir() + "/manifest") }
	broken := func(s *scene) error {
		return errors.Join(os.WriteFile(s.published()+"/file", []byte("other"), 0o644), os.Chmod(s.published()+"/dir/inner", 0o600),
			os.RemoveAll(s.published()+"/dir/sub"), os.WriteFile(s.published()+"/large", []byte("short"), 0o644))
	}
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for name, c := range map[string]struct {
			mode, id string
			before   func(s *scene) error
		}{
			"remove": {"-r", "a", calm}, "verify": {"--verify", "", calm}, "adopt": {"-c", "b", orphan}, "replace": {"-c", "b", foreign},
			"repair": {"--repair", "", broken}, "adopt without manifest": {"--adopt", "", unknown},
		} {
			prepared := func(t *testing.T) *scene {
				s := newScene(t)
				s.publishShard(t)
				if err := c.before(s); err != nil {
					t.Fatal(err)
				}
				return s
			}
			lines := callsOf(t, prepared(t).command(c.mode, c.id, "--jobs", "1"))
			kinds := newScene(t).treeSwaps()
			kinds["shard link"] = nil
			for kind := range kinds {
				if name != "remove" && r.leavesOut(3) {
					continue
				}
				for _, fault := range r.attackMoments(lines, "/"+strings.Fields(kind)[0], 1) {
					t.Run(fmt.Sprint(name, ", ", kind, ", ", fault), func(t *testing.T) {
						if err := prepared(t).swapsPublished(c.mode, c.id, kind, fault); err != nil {
							t.Fatal(err)
						}
					})
				}
			}
		}
	})
}

func (s *scene) swapsPublished(mode, id, kind, fault string) error {
	d, err := os.Open(s.published())
	if err != nil {
		return err
	}
	defer d.Close()
	attack := func() error {
		if kind == "shard link" {
			return s.swapName(shardName, linkTo(s.victim))(s.ssd)
		}
		return s.treeSwaps()[kind](fmt.Sprint("/proc/self/fd/", d.Fd()))
	}
	return s.checkAttacked(s.command(mode, id, "--jobs", "1"), fault, attack)
}

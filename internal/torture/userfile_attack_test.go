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

// userFileSwaps are attacks in a lock dir that all users may write to. Some of them are
// more than its sticky bit allows.
func (s *scene) userFileSwaps() map[string]func() error {
	theirs := func(_, name string) testkit.Step {
		return func(root string) error {
			return errors.Join(testkit.TextFile(name, "x\ny")(root), testkit.Chown(name, nobody, nobody)(root))
		}
	}
	swaps := map[string]func() error{}
	for kind, make := range map[string]func(root, name string) testkit.Step{
		"link": linkTo("../victim/file"), "hard link": hardLinkTo(s.victim + "/file"), "FIFO": makeFIFO, "directory": makeDir, "theirs": theirs,
	} {
		swaps["user file, "+kind] = func() error { return s.swapName(shardName+".lock", make)(s.locks) }
		swaps["log, "+kind] = func() error {
			path := filepath.Join(s.locks, shardName+".lock.log")
			if err := os.WriteFile(path, nil, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			return s.swapName(shardName+".lock.log", make)(s.locks)
		}
	}
	return swaps
}

// withUsers makes a scene with users, in a lock dir for all users. A list longer than a
// page is changed with a log next to it.
func withUsers(t *testing.T, users string, long bool) *scene {
	s := newScene(t)
	testkit.Apply(t, s.base, testkit.Chmod("locks", 0o1777))
	if users == "" {
		return s
	}
	s.publishShard(t)
	if long {
		users += strings.Repeat("\nsomeone-else", 1000)
	}
	testkit.Apply(t, s.locks, testkit.Write(shardName+".lock", 0, users))
	return s
}

// The user file and its log change into links to a victim, FIFOs, directories and files
// of another user, while a user is registered or unregistered, or the shard is removed.
func TestUserFileIsSwapped(t *testing.T) {
	testkit.RequireRoot(t)
	rounds(t, 0.02, func(t *testing.T, r *round) {
		for _, c := range []struct {
			mode, id, users string
			long            bool
		}{
			{"-c", "a", "", false}, {"-c", "b", "a", false}, {"-c", "b", "a", true},
			{"-r", "b", "a\nb", false}, {"-r", "b", "a\nb", true}, {"-r", "a", "a", false},
		} {
			lines := callsOf(t, withUsers(t, c.users, c.long).command(c.mode, c.id))
			for name := range newScene(t).userFileSwaps() {
				if r.leavesOut(4) {
					continue
				}
				for _, fault := range r.attackMoments(lines, shardName+".lock", 1) {
					t.Run(fmt.Sprint(c.mode, ", ", name, ", ", fault), func(t *testing.T) {
						s := withUsers(t, c.users, c.long)
						if err := s.checkAttacked(s.command(c.mode, c.id), fault, s.userFileSwaps()[name]); err != nil {
							t.Fatal(err)
						}
					})
				}
			}
		}
	})
}

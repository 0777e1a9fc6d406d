package shardtossd_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"shard_to_ssd/internal/testkit"
)

// With a limit, every engine moves bytes in small pieces, so that other processes do not wait
// long for the device. The tests of internal/pool show that the rate is kept.
func TestBandwidthLimitMovesSmallPieces(t *testing.T) {
	bin := buildProgram(t)
	transfer := regexp.MustCompile(`^(\w+)\(\d+<(?:shard|ssd/\S*shard/stage|ssd/shard)/[^>]*>.* = (\d+)$`)
	for _, engine := range []string{"direct", "buffered", "range"} {
		dir := t.TempDir()
		testkit.Apply(t, dir, testkit.Dir("locks", 0o755), testkit.Dir("ssd", 0o755),
			testkit.File("shard/large", 9<<20, 1), testkit.File("shard/middling", 1<<20, 2))
		const size, most = 10 << 20, 256 << 10
		place := []string{"-l", filepath.Join(dir, "locks"), "-s", filepath.Join(dir, "ssd"), filepath.Join(dir, "shard"), "--bwlimit", "1T"}
		read, wrote := 0, 0
		for _, args := range [][]string{{"-c", "-i", "a", "--engine", engine}, {"--verify"}, {"--repair"}, {"--adopt"}} {
			switch args[0] {
			case "--repair":
				testkit.Apply(t, dir, testkit.Write("ssd/shard/large", 5<<20, "damage"))
			case "--adopt": // the older script writes no state
				if err := os.RemoveAll(filepath.Join(dir, "ssd", ".shard_to_ssd")); err != nil {
					t.Fatal(err)
				}
			}
			for _, call := range traceCalls(t, "pread64,preadv2,pwrite64,pwritev2,copy_file_range", bin, dir, append(args, place...)...) {
				found := transfer.FindStringSubmatch(call)
				if found == nil {
					continue
				}
				n, err := strconv.Atoi(found[2])
				if err != nil || n > most {
					t.Errorf("%s: got %d bytes in one call, want at most %d: %s", engine, n, most, call)
				}
				if strings.HasPrefix(found[1], "pread") {
					read += n
				} else {
					wrote += n
				}
			}
		}
		// The copy reads the source and reads back, --verify and --repair read the copy once, --adopt reads both.
		if read < 6*size || wrote < size {
			t.Errorf("%s: got %d bytes read and %d written, want at least %d and %d", engine, read, wrote, 6*size, size)
		}
		if lines := testkit.CompareTrees(filepath.Join(dir, "shard"), filepath.Join(dir, "ssd", "shard")); len(lines) > 0 {
			t.Errorf("%s: %s", engine, strings.Join(lines, "\n"))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Names of contenders that targets refer to.
const (
	ours       = "shard_to_ssd"
	fioSame    = "fio, the same I/O"
	cp         = "cp -a"
	rsync      = "rsync -a"
	rclone     = "rclone copy"
	fpsync     = "fpsync"
	tar        = "tar | tar"
	cpDiff     = "cp, diff -r"
	rsyncCheck = "rsync, rsync -c"
	rcloneSums = "rclone copy, check"
	readAlone  = "cat"
	present    = "-c, present"
	others     = "-r, others remain"
	flockTrue  = "flock FILE true"
	removeLast = "-r, last user"
	rmRF       = "rm -rf"
	scrub      = "--verify"
	fioRead    = "fio, direct reads"
	xxhsum     = "xxhsum -c"
	checking   = "rclone check"
)

// contender is one way to do the work.
type contender struct {
	name string

	// command is timed. bash runs it with -e and pipefail, and with the variables of
	// place.variables.
	command string
	// bare commands run without a shell, which would take longer than the command.
	bare bool

	prepare string // a command before caches are dropped, not timed
	after   string // a command after each sample, not timed
	check   string // a command after the last sample, which fails if the result is wrong

	tools []string // programs that are brought into the page cache before each sample

	// around is called before the command. It returns a function that is called after
	// the command and adds to the sample.
	around func(ctx context.Context, p place) (finish func(*sample) error, err error)
	// parse adds values from the command's output to the sample.
	parse func(p place, stdout []byte, s *sample) error
}

// place is the set of directories that a contender works in.
type place struct {
	source string // the shard to copy
	mount  string // the SSD
	temp   string // neither source nor SSD
	build  Build
}

// variables are the environment variables of command lines.
func (p place) variables() map[string]string {
	return map[string]string{
		"SRC": p.source, "DST": p.ssdDir(), "LOCKS": filepath.Join(p.mount, "locks"),
		"MOUNT": p.mount, "TMP": p.temp, "BIN": p.build.Path, "LABEL": p.build.Label,
	}
}

// ssdDir is the directory that contenders copy into.
func (p place) ssdDir() string { return filepath.Join(p.mount, "ssd") }

// copyPath is the path of the copy.
func (p place) copyPath() string { return filepath.Join(p.ssdDir(), "shard") }

// makeDirs makes the directories that every contender needs.
func (p place) makeDirs() error {
	for _, dir := range []string{p.ssdDir(), filepath.Join(p.mount, "locks"), p.temp} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Parts of command lines.
const (
	ensure  = `"$BIN" -c --json --progress none -l "$LOCKS" -s "$DST" -i a "$SRC"`
	release = `"$BIN" -r --progress none -l "$LOCKS" -s "$DST" -i a "$SRC"`
	equal   = `diff -r --no-dereference "$SRC" "$DST/shard"`
	synced  = ` && sync -f "$DST"`
)

// ourTool is shard_to_ssd, which reads back and syncs without another command.
func ourTool() contender {
	return contender{name: ours, command: ensure, check: equal, parse: parseJSON}
}

// unverifiedPeers are the tools that do not compare the copy, in the fastest settings
// that were found for them.
func unverifiedPeers() []contender {
	peer := func(name, command string, tools ...string) contender {
		return contender{name: name, command: command + synced, check: equal, tools: tools}
	}
	return []contender{
		peer(cp, `cp -a "$SRC" "$DST/"`, "cp"),
		peer(rsync, `rsync -a --whole-file --inplace "$SRC" "$DST/"`, "rsync"),
		peer(rclone, rcloneCopy, "rclone"),
		peer(fpsync, `fpsync -n 8 -f 500 -s 268435456 -o "-lptgoD --numeric-ids --whole-file --inplace" -t "$TMP/fpsync" "$SRC/" "$DST/shard/"`,
			"fpsync", "fpart", "rsync"),
		peer(tar, `tar -C "${SRC%/*}" -b 512 -cf - "${SRC##*/}" | tar -C "$DST" -b 512 -xf -`, "tar"),
	}
}

// rcloneCopy does not list the destination, which is empty, and does not compare
// checksums at the end. rclone uses several streams for a local file only with the
// option.
const rcloneCopy = `rclone --config "" copy --transfers 16 --checkers 16 --multi-thread-streams 4 --multi-thread-cutoff 64M ` +
	`--no-check-dest --ignore-checksum "$SRC" "$DST/shard"`

// verifiedPeers are the same tools, followed by their own way to compare.
func verifiedPeers() []contender {
	return []contender{
		{name: cpDiff, tools: []string{"cp", "diff"}, check: equal,
			command: `cp -a "$SRC" "$DST/"` + synced + ` && echo 3 >/proc/sys/vm/drop_caches && ` + equal},
		{name: rsyncCheck, tools: []string{"rsync"}, check: equal,
			command: `rsync -a --whole-file --inplace "$SRC" "$DST/"` + synced + ` && test -z "$(rsync -acni "$SRC" "$DST/")"`},
		{name: rcloneSums, tools: []string{"rclone"}, check: equal,
			command: rcloneCopy + synced + ` && rclone --config "" check --download --checkers 16 "$SRC" "$DST/shard"`},
	}
}

func contenderNames(all []contender) (list []string) {
	for _, c := range all {
		list = append(list, c.name)
	}
	return list
}

// toolResult has the fields of the --json object that are used here.
type toolResult struct {
	Jobs     int     `json:"jobs"`
	Bytes    int64   `json:"bytes"`
	Seconds  float64 `json:"seconds"`
	ReadBack string  `json:"read_back"`
	Engines  map[string]struct {
		Bytes int64 `json:"bytes"`
	} `json:"engines"`
	Phases []struct {
		Name    string  `json:"name"`
		Seconds float64 `json:"seconds"`
	} `json:"phases"`
}

func parseToolResult(stdout []byte) (r toolResult, err error) {
	if err := json.Unmarshal(stdout, &r); err != nil {
		return r, fmt.Errorf("read the output of --json: %w", err)
	}
	return r, nil
}

// parseJSON keeps the phases, and the settings that shard_to_ssd chose.
func parseJSON(_ place, stdout []byte, s *sample) error {
	r, err := parseToolResult(stdout)
	if err != nil {
		return err
	}
	for _, phase := range r.Phases {
		s.setValue("phase "+phase.Name, phase.Seconds)
	}
	s.Chose = fmt.Sprintf("%d jobs, ", r.Jobs)
	if engines := slices.Sorted(maps.Keys(r.Engines)); len(engines) > 0 { // --verify has none
		s.Chose += fmt.Sprintf("engines %s, ", strings.Join(engines, " and "))
	}
	s.Chose += "read back " + r.ReadBack
	return nil
}

// cloningTool copies from the SSD's own file system, and removes the copy afterwards.
func cloningTool() contender {
	c := ourTool()
	c.command = `"$BIN" -c --json --progress none -l "$LOCKS" -s "$DST" -i a "$MOUNT/shard"`
	c.check = `cmp "$MOUNT"/shard/* "$DST"/shard/*`
	c.after = release
	c.parse = func(p place, stdout []byte, s *sample) error {
		if err := parseJSON(p, stdout, s); err != nil {
			return err
		}
		if !strings.Contains(s.Chose, "engines clone,") {
			return fmt.Errorf("not all files were cloned: %s", s.Chose)
		}
		return nil
	}
	return c
}

// measuredMemory measures with time(1): the peak that wait4 returns for a child is never
// less than the memory that its parent had at the fork.
func measuredMemory() contender {
	c := ourTool()
	c.command = `command time -f %M -o "$TMP/peak" ` + ensure
	c.parse = func(p place, stdout []byte, s *sample) error {
		text, err := os.ReadFile(filepath.Join(p.temp, "peak"))
		if err != nil {
			return err
		}
		peak, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return err
		}
		s.setValue("peak", float64(peak*kib))
		return parseJSON(p, stdout, s)
	}
	return c
}

// measuredCache copies while a part of the source is in the page cache.
func measuredCache(c contender) contender {
	c.around = watchCache
	return c
}

// slowSourceReaders are the copy, and a program that only reads the source.
func slowSourceReaders() []contender {
	return []contender{
		ourTool(),
		{name: readAlone, command: `find "$SRC" -type f -exec cat {} + >/dev/null`, tools: []string{"find", "cat"}},
	}
}

// shortCalls take milliseconds. The first two undo each other, and each build has a user
// of its own.
func shortCalls() []contender {
	return []contender{
		{name: present, bare: true, command: `$BIN -c --progress none -l $LOCKS -s $DST -i b$LABEL $SRC`},
		{name: others, bare: true, command: `$BIN -r --progress none -l $LOCKS -s $DST -i b$LABEL $SRC`},
		{name: flockTrue, bare: true, command: `flock $LOCKS/other.lock true`, tools: []string{"flock", "true"}},
	}
}

// removalTools delete a fresh copy, and sync.
func removalTools() []contender {
	const gone = `test ! -e "$DST/shard"`
	return []contender{
		{name: removeLast, prepare: ensure, command: release + synced, check: gone, around: watchRemoval},
		{name: rmRF, prepare: ensure, command: `rm -rf "$DST/shard"` + synced, check: gone, around: watchRemoval, tools: []string{"rm"}},
	}
}

// scrubTools compare the copy on the SSD with its checksums; rclone compares it with
// the source.
func scrubTools() []contender {
	return []contender{
		{name: scrub, command: `"$BIN" --verify --json --progress none -l "$LOCKS" -s "$DST" "$SRC"`, parse: parseJSON},
		{name: xxhsum, command: `cd "$DST/shard" && xxhsum -c --quiet "$DST/.shard_to_ssd/shard/sums.xxh64"`, tools: []string{"xxhsum"}},
		{name: checking, command: `rclone --config "" check --download --checkers 16 "$SRC" "$DST/shard"`, tools: []string{"rclone"}},
	}
}

// usesVariable reports whether the timed command refers to the variable.
func (c contender) usesVariable(variable string) bool { return strings.Contains(c.command, variable) }

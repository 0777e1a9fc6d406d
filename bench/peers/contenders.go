package main

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

// Names of contenders that targets speak of.
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

	// command is timed. It is run by bash, with -e and pipefail, and finds what it
	// needs in the variables of [place.env].
	command string
	// bare commands are run without a shell, which would take longer than they do.
	bare bool

	prepare string // a command before caches are dropped, not timed
	after   string // another, after each sample
	check   string // another, after the last sample: is what was made right?

	tools []string // their programs are brought into the page cache before each sample

	// around is called before the command. What it returns is called after it, and
	// adds to the sample.
	around func(ctx context.Context, p place) (finish func(*sample) error, err error)
	// read takes more from what the command wrote.
	read func(p place, stdout []byte, s *sample) error
}

// place is where a contender works.
type place struct {
	source string // the shard that is copied
	mount  string // the SSD
	temp   string // neither
	build  build
}

func (p place) env() map[string]string {
	return map[string]string{
		"SRC": p.source, "DST": p.ssd(), "LOCKS": filepath.Join(p.mount, "locks"),
		"MOUNT": p.mount, "TMP": p.temp, "BIN": p.build.path, "LABEL": p.build.label,
	}
}

// ssd is the directory that is copied into.
func (p place) ssd() string { return filepath.Join(p.mount, "ssd") }

// copied is the copy.
func (p place) copied() string { return filepath.Join(p.ssd(), "shard") }

// makeDirs makes the directories that every contender finds.
func (p place) makeDirs() error {
	for _, dir := range []string{p.ssd(), filepath.Join(p.mount, "locks"), p.temp} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

const (
	ensure  = `"$BIN" -c --json --progress none -l "$LOCKS" -s "$DST" -i a "$SRC"`
	release = `"$BIN" -r --progress none -l "$LOCKS" -s "$DST" -i a "$SRC"`
	equal   = `diff -r --no-dereference "$SRC" "$DST/shard"`
	synced  = ` && sync -f "$DST"`
)

// tool is shard_to_ssd, which reads back and syncs by itself.
func tool() contender {
	return contender{name: ours, command: ensure, check: equal, read: readTool}
}

// unverified are the peers, in settings that were tried and are good to them.
func unverified() []contender {
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

// rcloneCopy neither lists the destination, which is empty, nor compares checksums
// at the end. Local copies take several streams for a file only if told so.
const rcloneCopy = `rclone --config "" copy --transfers 16 --checkers 16 --multi-thread-streams 4 --multi-thread-cutoff 64M ` +
	`--no-check-dest --ignore-checksum "$SRC" "$DST/shard"`

// verified are the same peers, followed by their own ways to compare.
func verified() []contender {
	return []contender{
		{name: cpDiff, tools: []string{"cp", "diff"}, check: equal,
			command: `cp -a "$SRC" "$DST/"` + synced + ` && echo 3 >/proc/sys/vm/drop_caches && ` + equal},
		{name: rsyncCheck, tools: []string{"rsync"}, check: equal,
			command: `rsync -a --whole-file --inplace "$SRC" "$DST/"` + synced + ` && test -z "$(rsync -acni "$SRC" "$DST/")"`},
		{name: rcloneSums, tools: []string{"rclone"}, check: equal,
			command: rcloneCopy + synced + ` && rclone --config "" check --download --checkers 16 "$SRC" "$DST/shard"`},
	}
}

func names(all []contender) (list []string) {
	for _, c := range all {
		list = append(list, c.name)
	}
	return list
}

// toolResult is what is read of the object that --json prints.
type toolResult struct {
	Jobs     int    `json:"jobs"`
	ReadBack string `json:"read_back"`
	Engines  map[string]struct {
		Bytes int64 `json:"bytes"`
	} `json:"engines"`
	Phases []struct {
		Name    string  `json:"name"`
		Seconds float64 `json:"seconds"`
	} `json:"phases"`
}

// readTool keeps the phases and what was chosen.
func readTool(_ place, stdout []byte, s *sample) error {
	var r toolResult
	if err := json.Unmarshal(stdout, &r); err != nil {
		return fmt.Errorf("read the output of --json: %w", err)
	}
	for _, phase := range r.Phases {
		s.set("phase "+phase.Name, phase.Seconds)
	}
	s.Chose = fmt.Sprintf("%d jobs, engines %s, read back %s", r.Jobs, strings.Join(slices.Sorted(maps.Keys(r.Engines)), " and "), r.ReadBack)
	return nil
}

// cloning copies from the SSD's own file system, and takes the copy away again.
func cloning() contender {
	c := tool()
	c.command = `"$BIN" -c --json --progress none -l "$LOCKS" -s "$DST" -i a "$MOUNT/shard"`
	c.check = `cmp "$MOUNT"/shard/* "$DST"/shard/*`
	c.after = release
	c.read = func(p place, stdout []byte, s *sample) error {
		if err := readTool(p, stdout, s); err != nil {
			return err
		}
		if !strings.Contains(s.Chose, "engines clone,") {
			return fmt.Errorf("nothing was cloned, or not all: %s", s.Chose)
		}
		return nil
	}
	return c
}

// measuringMemory asks time(1): what wait4 says of a child is never less than what
// its parent had when it forked.
func measuringMemory() contender {
	c := tool()
	c.command = `command time -f %M -o "$TMP/peak" ` + ensure
	c.read = func(p place, stdout []byte, s *sample) error {
		text, err := os.ReadFile(filepath.Join(p.temp, "peak"))
		if err != nil {
			return err
		}
		peak, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return err
		}
		s.set("peak", float64(peak*kib))
		return readTool(p, stdout, s)
	}
	return c
}

// watchingCache copies while a part of the source is in the page cache.
func watchingCache(c contender) contender {
	c.around = watchCache
	return c
}

// slowSource are the copy, and its source alone.
func slowSource() []contender {
	return []contender{
		tool(),
		{name: readAlone, command: `find "$SRC" -type f -exec cat {} + >/dev/null`, tools: []string{"find", "cat"}},
	}
}

// calls take milliseconds. The first two undo each other, for each build by itself.
func calls() []contender {
	return []contender{
		{name: present, bare: true, command: `$BIN -c --progress none -l $LOCKS -s $DST -i b$LABEL $SRC`},
		{name: others, bare: true, command: `$BIN -r --progress none -l $LOCKS -s $DST -i b$LABEL $SRC`},
		{name: flockTrue, bare: true, command: `flock $LOCKS/other.lock true`, tools: []string{"flock", "true"}},
	}
}

// removals delete a fresh copy, and sync.
func removals() []contender {
	const gone = `test ! -e "$DST/shard"`
	return []contender{
		{name: removeLast, prepare: ensure, command: release + synced, check: gone, around: watchName},
		{name: rmRF, prepare: ensure, command: `rm -rf "$DST/shard"` + synced, check: gone, around: watchName, tools: []string{"rm"}},
	}
}

// scrubs compare what is on the SSD with its sums; rclone with the source.
func scrubs() []contender {
	return []contender{
		{name: scrub, command: `"$BIN" --verify --json --progress none -l "$LOCKS" -s "$DST" "$SRC"`, read: readTool},
		{name: xxhsum, command: `cd "$DST/shard" && xxhsum -c --quiet "$DST/.shard_to_ssd/shard/sums.xxh64"`, tools: []string{"xxhsum"}},
		{name: checking, command: `rclone --config "" check --download --checkers 16 "$SRC" "$DST/shard"`, tools: []string{"rclone"}},
	}
}

// uses reports whether the timed command has the variable.
func (c contender) uses(variable string) bool { return strings.Contains(c.command, variable) }

package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/testkit"
)

// The limits of memory, in bytes, and of time for any manifest. The blocks of two
// workers take 8 MiB.
const (
	mostMemory = 256 << 20
	mostTime   = 20 * time.Second
)

// runFrugally runs a command, and fails if it took too long, panicked or was killed.
// The Go runtime ends a process with a message if it needs more memory than the limit.
func runFrugally(c *exec.Cmd) (outcome, error) {
	began := time.Now()
	limited := exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -d %d; exec "$0" "$@"`, mostMemory>>10)}, c.Args...)...)
	timer := time.AfterFunc(2*mostTime, func() { limited.Process.Kill() })
	o := runCommand(limited)
	timer.Stop()
	switch {
	case time.Since(began) > mostTime:
		return o, fmt.Errorf("it took %v", time.Since(began))
	case o.status > 5 || o.status < 0 || strings.Contains(o.err, "goroutine ") || strings.Contains(o.err, "out of memory"):
		return o, fmt.Errorf("it panicked or was killed: %.3000v", o)
	}
	return o, nil
}

// withTrailer appends the matching trailer to a stream.
func withTrailer(body []byte) []byte {
	_, records, _ := bytes.Cut(body, []byte("\n\n"))
	return fmt.Appendf(slices.Clip(body), "end %d %016x\n", bytes.Count(records, []byte("\n")), xxhash.Sum64(body))
}

// withoutTrailer removes the trailer of a stream.
func withoutTrailer(text []byte) []byte {
	return text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1]
}

// damagedManifests has a published shard, and checks the tool with damaged manifests.
type damagedManifests struct {
	*host
	path string
}

func newDamagedManifests(t *testing.T) *damagedManifests {
	base := newBase(t)
	h := newHost(t, program(t), filepath.Join(base, "source"), base)
	testkit.Apply(t, h.source, testkit.File("large", 9<<20, 1), testkit.Symlink("file", "link"), testkit.Hardlink("file", "hard"))
	if o := runCommand(h.command("-c", "a")); o.status != 0 {
		t.Fatal(o)
	}
	return &damagedManifests{h, h.stateDir() + "/manifest"}
}

// goodManifest returns the manifest as it was published.
func (d *damagedManifests) goodManifest(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// cutManifest returns the first n bytes of the manifest, but never all of it: each new copy
// has a manifest of its own, which may be a few bytes shorter than the one before.
func (d *damagedManifests) cutManifest(t *testing.T, n int) []byte {
	t.Helper()
	good := d.goodManifest(t)
	return good[:min(n, len(good)-1)]
}

// tryManifest installs a manifest and runs all modes that read it: --verify reports it,
// --list continues, and -c does not adopt an orphan with it but copies again.
func (d *damagedManifests) tryManifest(what string, put func(path string) error) error {
	if err := put(d.path); err != nil {
		return err
	}
	count("damaged manifests", 1)
	o, err := runFrugally(d.command("--verify", "", "--jobs", "2"))
	if err != nil || o.status != 1 && o.status != 3 || !strings.Contains(o.err, "ERROR:") {
		return fmt.Errorf("%s: --verify: %v, %.3000v", what, err, o)
	}
	if o, err := runFrugally(d.command("--list", "")); err != nil || o.status != 0 || !strings.Contains(o.out, shardName+": ") {
		return fmt.Errorf("%s: --list: %v, %.3000v", what, err, o)
	}
	if err := os.Truncate(d.userFile(), 0); err != nil {
		return err
	}
	o, err = runFrugally(d.command("-c", "a", "--jobs", "2"))
	if err != nil || o.status != 0 || strings.Contains(o.err, "already on ssd") {
		return fmt.Errorf("%s: -c: %v, %.3000v", what, err, o)
	}
	if err := d.checkWhole(); err != nil {
		return fmt.Errorf("%s: after -c: %w", what, err)
	}
	return nil
}

func writeText(b []byte) func(path string) error {
	return func(path string) error { return os.WriteFile(path, b, 0o600) }
}

// Each bit of a manifest is flipped, and the manifest is cut to each length.
func TestManifestIsDamaged(t *testing.T) {
	rounds(t, 0.02, func(t *testing.T, r *round) {
		d := newDamagedManifests(t)
		for i := 0; i < len(d.goodManifest(t)); i++ {
			if !r.full && r.IntN(len(d.goodManifest(t))) > 4 {
				continue
			}
			flipped := d.goodManifest(t)
			flipped[min(i, len(flipped)-1)] ^= 1 << r.IntN(8)
			if err := d.tryManifest(fmt.Sprintf("bit in byte %d: %q", i, flipped[max(i-20, 0):min(i+20, len(flipped))]), writeText(flipped)); err != nil {
				t.Fatal(err)
			}
			for what, bad := range map[string][]byte{"flipped": flipped, "cut": d.cutManifest(t, i)} {
				good := d.goodManifest(t)
				if err := errors.Join(d.checkBlamed(fmt.Sprint(what, " at byte ", i), bad), os.WriteFile(d.path, good, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.tryManifest(fmt.Sprintf("cut at byte %d", i), writeText(d.cutManifest(t, i))); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// checkBlamed checks that --verify reports the manifest as damaged, and nothing about
// the shard.
func (d *damagedManifests) checkBlamed(what string, manifest []byte) error {
	if err := os.WriteFile(d.path, manifest, 0o600); err != nil {
		return err
	}
	count("damaged manifests", 1)
	o := runCommand(d.command("--verify", "", "--jobs", "1"))
	told := strings.Contains(o.err, "manifest") && (strings.Contains(o.err, ": damaged") || strings.Contains(o.err, "unknown version"))
	if o.status != 1 || o.out != "" || !told || strings.Contains(o.err, "ERROR:root:shard") {
		return fmt.Errorf("%s: want status 1 and an error about the manifest: %v", what, o)
	}
	return nil
}

// A byte is changed in each field of the header, of each kind of record and of the
// trailer. Lines are deleted, doubled and swapped.
func TestEveryFieldOfAManifest(t *testing.T) {
	d := newDamagedManifests(t)
	good := d.goodManifest(t)
	met := map[string]bool{}
	lines := bytes.SplitAfter(good, []byte("\n"))
	lines = lines[:len(lines)-1]
	for n, line := range lines {
		at, kind := len(bytes.Join(lines[:n], nil)), string(line[:1])
		if before := bytes.Index(good, []byte("\n\n")); at <= before || n == len(lines)-1 {
			kind, _, _ = strings.Cut(string(line), " ")
		}
		for i, field := range bytes.Split(bytes.TrimSuffix(line, []byte("\n")), []byte(" ")) {
			name := fmt.Sprintf("%q, field %d", kind, i)
			if !met[name] && len(field) > 0 {
				bad := bytes.Clone(good)
				bad[at+len(field)/2] ^= 1
				if err := d.checkBlamed(name, bad); err != nil {
					t.Error(err)
				}
			}
			met[name] = true
			at += len(field) + 1
		}
		for what, changed := range map[string][][]byte{
			"lost": slices.Delete(slices.Clone(lines), n, n+1), "twice": slices.Insert(slices.Clone(lines), n, line),
			"before the one before": slices.Concat(lines[:max(n-1, 0)], lines[n:n+1], lines[max(n-1, 0):n], lines[n+1:]),
		} {
			if text := bytes.Join(changed, nil); !bytes.Equal(text, good) {
				if err := d.checkBlamed(fmt.Sprintf("line %d, %q, %s", n+1, kind, what), text); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for _, want := range []string{
		`"shard_to_ssd", field 2`, `"tool", field 1`, `"shard", field 1`, `"root", field 2`, `"source", field 1`, `"origin", field 3`, `"lockdir", field 1`,
		`"published", field 1`, `"blocksize", field 1`, `"totals", field 3`, `"D", field 7`, `"d", field 1`, `"f", field 8`, `"l", field 7`,
		`"h", field 8`, `"s", field 1`, `"end", field 2`} {
		if !met[want] {
			t.Errorf("no line of kind %s was tested", want)
		}
	}
	if err := os.WriteFile(d.path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := runCommand(d.command("--verify", "")); o.status != 0 {
		t.Error(o)
	}
}

// Manifests that an attacker made, with a matching checksum.
func TestManifestIsHostile(t *testing.T) {
	d := newDamagedManifests(t)
	replace := func(pattern, with string) func([]byte) []byte {
		return func(b []byte) []byte { return regexp.MustCompile(pattern).ReplaceAll(b, []byte(with)) }
	}
	add := func(lines ...string) func([]byte) []byte {
		return func(b []byte) []byte { return append(b, strings.Join(lines, "\n")+"\n"...) }
	}
	deep := func(name string, levels int) func([]byte) []byte {
		return func(b []byte) []byte {
			for n := range levels {
				b = fmt.Appendf(b, "D %d 0755 0 0 1.000000000 - %q\n", n+1, name)
			}
			return b
		}
	}
	const file = `f 0644 0 0 1.000000000 - 4 0000000000000001 `
	for what, change := range map[string]func([]byte) []byte{
		"names that lead out":      replace(`"inner"`, `"../inner"`),
		"absolute names":           replace(`"inner"`, `"/etc/passwd"`),
		"names with NUL":           replace(`"inner"`, `"in\x00er"`),
		"dot dot":                  replace(`"inner"`, `".."`),
		"directory dot dot":        replace(`"dir"`, `".."`),
		"hard link out":            replace(`"hard" "file"|"file" "hard"`, `"hard" "../../file"`),
		"hard link to itself":      add(`h 0644 0 0 1.000000000 - 7 "z" "z"`),
		"hard links to each other": add(`h 0644 0 0 1.000000000 - 7 "y" "z"`, `h 0644 0 0 1.000000000 - 7 "z" "y"`),
		"hard link to a directory": add(`h 0644 0 0 1.000000000 - 7 "z" "dir"`),
		"duplicate names":          add(file+`"a"`, file+`"a"`),
		"wrong order":              add(file+`"b"`, file+`"a"`),
		"directory not named":      add(`D 1 0755 0 0 1.000000000 - "nowhere"`),
		"directory opened twice":   add(`D 1 0755 0 0 1.000000000 - "dir"`),
		"directory not opened":     replace(`(?s)\nD 1 .*`, "\n"),
		"sums of a directory":      add(`s 0000000000000001`),
		"endless sums":             add(`f 0644 0 0 1.000000000 - 9223372036854775807 - "a"`),
		"sums of a size not there": replace(`9437184`, `9223372036854775807`),
		"counts of 2^63":           replace(`\ntotals .*`, "\ntotals 9223372036854775808 9223372036854775808 9223372036854775808"),
		"counts of 2^63-1, a file": func(b []byte) []byte {
			return append(replace(`\ntotals .*`, "\ntotals 9223372036854775807 9223372036854775807 9223372036854775807")(b), file+"\"a\"\n"...)
		},
		"negative counts, a file": func(b []byte) []byte {
			return append(replace(`\ntotals .*`, "\ntotals -9223372036854775808 -1 -1")(b), file+"\"a\"\n"...)
		},
		"another shard":        replace(`\nshard .*`, "\nshard \"other\""),
		"another directory":    replace(`\nroot \d+`, "\nroot 1"),
		"a newer version":      replace(`manifest 1\n`, "manifest 2\n"),
		"version 2^64":         replace(`manifest 1\n`, "manifest 18446744073709551617\n"),
		"no records":           replace(`(?s)\n\n.*`, "\n\n"),
		"many headers":         replace(`\ntotals`, strings.Repeat("\nmore", 100)+"\ntotals"),
		"long headers":         replace(`\ntotals`, "\nmore "+strings.Repeat("x", 1<<20-10)+"\ntotals"),
		"levels of long names": deep(strings.Repeat("d", 255), 20_000),
		"a year that is none":  replace(`\npublished .*`, "\npublished 99999-01-01T00:00:00Z"),
		"times beyond":         replace(`\d+\.\d{9} `, "9223372036854775807.999999999 "),
	} {
		if err := d.tryManifest(what, writeText(withTrailer(change(withoutTrailer(d.goodManifest(t)))))); err != nil {
			if what == "long headers" && strings.Contains(err.Error(), "--verify: <nil>, status 0") {
				continue // long, but valid
			}
			t.Error(err)
			d = newDamagedManifests(t)
		}
	}
	for what, end := range map[string]string{"endless line": "", "endless name": file + `"`, "endless sums": "s " + strings.Repeat("0000000000000001 ", 1000)} {
		put := func(path string) error {
			if err := writeText(append(withoutTrailer(d.goodManifest(t)), end...))(path); err != nil {
				return err
			}
			return os.Truncate(path, 4<<30)
		}
		if err := d.tryManifest(what, put); err != nil {
			t.Error(err)
			d = newDamagedManifests(t)
		}
	}
}

// A manifest with 400,000 files that do not exist, and a shard with many files that are
// not in it: all differences are counted, the first are named, and memory is bounded.
func TestManyDifferences(t *testing.T) {
	d := newDamagedManifests(t)
	var lines bytes.Buffer
	for i := range 400_000 {
		fmt.Fprintf(&lines, "\nf 0644 0 0 1.000000000 - 4 0000000000000001 \"zz%07d%s\"", i, strings.Repeat("x", 240))
	}
	lines.WriteString("\nD 1 ")
	forge := func(path string) error {
		return os.WriteFile(path, withTrailer(bytes.Replace(withoutTrailer(d.goodManifest(t)), []byte("\nD 1 "), lines.Bytes(), 1)), 0o600)
	}
	if err := d.tryManifest("400,000 files", forge); err != nil {
		t.Error(err)
	}
	if err := forge(d.path); err != nil {
		t.Fatal(err)
	}
	d.checkDifferences(t, 400_000)

	d = newDamagedManifests(t)
	for i := range 20_000 {
		if err := os.WriteFile(filepath.Join(d.published(), fmt.Sprint("extra", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d.checkDifferences(t, 20_001) // and the mtime of the directory
}

// checkDifferences verifies the shard, which must have this number of differences.
func (d *damagedManifests) checkDifferences(t *testing.T, want int) {
	t.Helper()
	const named = 10_000
	o, err := runFrugally(d.command("--verify", "", "--jobs", "2"))
	if err != nil || o.status != 3 || !strings.Contains(o.err, fmt.Sprintf(": %d differences", want)) ||
		strings.Count(o.out, "\n") != named+1 || !strings.HasSuffix(o.out, fmt.Sprintf("\n… and %d more\n", want-named)) {
		t.Errorf("--verify: %v, %d lines, %.1000v, %.200s", err, strings.Count(o.out, "\n"), o.err, o.out[max(len(o.out)-200, 0):])
	}
	var r struct {
		Differences []any
		Count       int `json:"difference_count"`
	}
	o, err = runFrugally(d.command("--verify", "", "--jobs", "2", "--json"))
	if err == nil {
		err = json.Unmarshal([]byte(o.out), &r)
	}
	if err != nil || len(r.Differences) != named || r.Count != want {
		t.Errorf("--verify --json: %v, got %d named and %d counted, want %d and %d", err, len(r.Differences), r.Count, named, want)
	}
}

// A manifest that is not a regular file.
func TestManifestIsOfAnotherType(t *testing.T) {
	d := newDamagedManifests(t)
	victim := filepath.Join(t.TempDir(), "victim")
	good := d.goodManifest(t)
	if err := os.WriteFile(victim, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, make := range map[string]testkit.Step{
		"directory": testkit.Dir("manifest", 0o700), "full directory": testkit.TextFile("manifest/x", "x"), "link": testkit.Symlink(victim, "manifest"),
		"dangling link": testkit.Symlink("none", "manifest"), "FIFO": testkit.FIFO("manifest"), "socket": testkit.Socket("manifest"), "device": testkit.Device("manifest", 1, 5),
	} {
		if err := os.RemoveAll(d.path); err != nil {
			t.Fatal(err)
		}
		testkit.Apply(t, d.stateDir(), make)
		for _, c := range []*exec.Cmd{d.command("--verify", ""), d.command("-c", "a")} {
			if c.Args[1] == "-c" {
				if err := os.Truncate(d.userFile(), 0); err != nil {
					t.Fatal(err)
				}
			}
			o, err := runFrugally(c)
			afresh := c.Args[1] == "-c" && o.status == 0 // without a regular file there is no manifest
			if err != nil || o.status != 1 && !afresh || !strings.Contains(o.err, "manifest") {
				t.Errorf("%s: %s: %v, %v", what, c.Args[1], err, o)
			}
		}
		if o, err := runFrugally(d.command("--list", "")); err != nil || !strings.Contains(o.out, shardName+": ") {
			t.Errorf("%s: --list: %v, %v", what, err, o)
		}
		if now, err := os.ReadFile(victim); err != nil || !bytes.Equal(now, good) {
			t.Errorf("%s: the victim was changed: %v", what, err)
		}
	}
	if err := os.WriteFile(d.userFile(), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := runCommand(d.command("-r", "a")); o.status != 0 {
		t.Errorf("-r: %v", o)
	}
	if err := d.checkTraceless(); err != nil {
		t.Error(err)
	}
}

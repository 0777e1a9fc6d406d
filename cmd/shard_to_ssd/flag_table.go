// The one explanation of every mode and flag. --help, docs/shard_to_ssd.1 and
// docs/flags.md are laid out from these tables, and check takes from them which
// flag goes with which mode. status.go has the table of exit statuses.
//
// Explanations are plain sentences. The layouts mark up flags and placeholders,
// so a placeholder is written in capitals and a flag with its hyphens.

package main

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

//go:generate go test . -run TestGeneratedDocs -update

// usageLine is the usage in one line, for errors. --help breaks it in two.
const (
	usageModes = "usage: shard_to_ssd [-h] [-c | -r | --verify | --list | --repair | --adopt]"
	usageRest  = "[-l DIR] [-s DIR] [-i NAME] [SHARD]"
	usageLine  = usageModes + " " + usageRest
)

// summary is the purpose of the program in a few words.
const summary = "keep a verified copy of a shard on the SSD of this host"

// description returns paragraphs about the purpose and the use of the program.
func description() []string {
	return []string{
		"Keeps one verified copy of SHARD on the SSD of this host for all services that need it. " +
			"The first user copies the shard, and the last user deletes it.",
		"A shard is a directory, or one regular file, of data that services read. " +
			"SHARD is its path; the last component of the path is the name of the shard. " +
			"-c, --repair, --adopt, --source and --manifest read the path; for the rest the name is enough.",
		"Flags may stand before or after SHARD, and short flags combine, as in -cl DIR.",
	}
}

// flagName is a flag as it is typed: a letter, which may be missing, and a word.
type flagName struct{ short, long string }

// brief returns the shortest form: "-c" or "--verify".
func (n flagName) brief() string {
	if n.short != "" {
		return "-" + n.short
	}
	return "--" + n.long
}

// forms returns all forms: "-c, --copy" or "--verify".
func (n flagName) forms() string {
	if n.short != "" {
		return "-" + n.short + ", --" + n.long
	}
	return "--" + n.long
}

// modeRow explains a mode.
type modeRow struct {
	mode mode
	flagName
	with        string // another flag that the mode needs, such as "--all"
	operands    string // that follow the flag: "-i NAME SHARD"
	explanation string
	statuses    []string // that not every mode has
}

// heading returns the flags that select the mode, in all forms.
func (r modeRow) heading() string { return strings.TrimSpace(r.forms() + " " + r.with) }

// briefHeading returns the shortest flags that select the mode.
func (r modeRow) briefHeading() string { return strings.TrimSpace(r.brief() + " " + r.with) }

// modeTable lists the modes in the order of the documents.
func modeTable() []modeRow {
	return []modeRow{
		{
			mode: modeCopy, flagName: flagName{"c", "copy"}, operands: "-i NAME SHARD", statuses: []string{"3", "4", "5"},
			explanation: "Copy SHARD to the SSD unless it is there, and register NAME as a user of it. " +
				"The copy becomes visible when every block has been read back and compared.",
		},
		{
			mode: modeRemove, flagName: flagName{"r", "remove"}, operands: "-i NAME SHARD", statuses: []string{"4", "5"},
			explanation: "Unregister NAME. Delete SHARD from the SSD if it has no other user.",
		},
		{
			mode: modeVerify, flagName: flagName{"", "verify"}, operands: "SHARD", statuses: []string{"3"},
			explanation: "Read SHARD from the SSD and compare it with its manifest, the record of the data that was copied. " +
				"Print the differences, at most 10,000; damaged contents as byte ranges.",
		},
		{
			mode: modeVerifyAll, flagName: flagName{"", "verify"}, with: "--all", statuses: []string{"3"},
			explanation: "Verify every shard in the SSD dir (a scrub), beginning with the one verified longest ago.",
		},
		{
			mode: modeList, flagName: flagName{"", "list"}, operands: "[SHARD]",
			explanation: "Print each shard with its state, users, size, source, and the times when it was published, verified and found damaged. " +
				"Foreign directories, interrupted copies and trash are included. SHARD selects one.",
		},
		{
			mode: modeRepair, flagName: flagName{"", "repair"}, operands: "SHARD", statuses: []string{"3", "4", "5"},
			explanation: "Read SHARD from the SSD and replace its damaged entries with copies from the source. " +
				"If the source of a damaged entry has changed, nothing is replaced.",
		},
		{
			mode: modeAdopt, flagName: flagName{"", "adopt"}, operands: "SHARD", statuses: []string{"3", "4", "5"},
			explanation: "Compare a SHARD that this program did not copy, such as one of the older script, with its source. " +
				"If they are equal, write the manifest that --verify needs.",
		},
	}
}

// flagRow explains a flag that does not select a mode.
type flagRow struct {
	flagName
	argument    string // the name of its value; empty: it takes none
	goesWith    []mode // nil: all modes
	explanation string
	standard    string // the default, in words; empty for --help and --version
	environment string // the variable that replaces the default
}

// heading returns the flag and its value: "-l, --lockdir DIR".
func (r flagRow) heading() string { return strings.TrimSpace(r.forms() + " " + r.argument) }

// defaultText returns the default with the variable that comes before it.
func (r flagRow) defaultText() string {
	if r.environment != "" {
		return "$" + r.environment + ", else " + r.standard
	}
	return r.standard
}

// flagTable lists the other flags in the order of the documents.
func flagTable() []flagRow {
	return slices.Concat(placeFlags(), copyFlags(), verifyFlags(), outputFlags())
}

// placeFlags are about places, users and locks.
func placeFlags() []flagRow {
	return []flagRow{
		{
			flagName: flagName{"l", "lockdir"}, argument: "DIR", standard: defaultLockDir, environment: envLockDir,
			explanation: "Directory of the user files. The user file of a shard lists its users and is its lock.",
		},
		{
			flagName: flagName{"s", "ssddir"}, argument: "DIR", standard: defaultSSDDir, environment: envSSDDir,
			explanation: "Directory on the SSD in which shards are published.",
		},
		{
			flagName: flagName{"i", "id"}, argument: "NAME", goesWith: []mode{modeCopy, modeRemove}, standard: "none",
			explanation: "Unique id of the service instance, without newline and NUL. -c and -r need it.",
		},
		{
			flagName: flagName{"", "lock-timeout"}, argument: "DURATION", standard: "wait without limit",
			goesWith:    []mode{modeCopy, modeRemove, modeRepair, modeAdopt},
			explanation: "Wait at most DURATION, such as 30s or 5m, for the locks of the shard, then end with status 5. 0 tries once.",
		},
		{
			flagName: flagName{"", "require-mount"}, standard: "off, warn about the root file system",
			explanation: "Refuse an SSD dir that is not a mount point, with status 1.",
		},
	}
}

// copyFlags are about moving data.
func copyFlags() []flagRow {
	return []flagRow{
		{
			flagName: flagName{"", "jobs"}, argument: "N", standard: "0, chosen for CPUs and device, usually 16",
			explanation: "Number of workers, at most 256. Each has a buffer of 4 MiB.",
		},
		{
			flagName: flagName{"", "engine"}, argument: "ENGINE", goesWith: []mode{modeCopy, modeRepair}, standard: "auto",
			explanation: "How data is moved: auto, clone (shared extents), range (copy_file_range), direct (O_DIRECT) or buffered. " +
				"Where an engine does not work for a file, another is used.",
		},
		{
			flagName: flagName{"", "bwlimit"}, argument: "RATE", standard: "0, no limit",
			goesWith: []mode{modeCopy, modeVerify, modeVerifyAll, modeRepair, modeAdopt},
			explanation: "Read and write at most RATE bytes a second, such as 300M or 1.5G, source and SSD together. " +
				"A copy moves each byte three times, with --engine=range four times. " +
				"The suffixes K, M, G and T, or KiB to TiB, are powers of 1024; KB to TB are powers of 1000.",
		},
		{
			flagName: flagName{"", "replace"}, goesWith: []mode{modeCopy}, standard: "off, refuse",
			explanation: "Replace a directory or file on the SSD that has the name of the shard and was not published by this program.",
		},
		{
			flagName: flagName{"", "no-resume"}, goesWith: []mode{modeCopy}, standard: "off, resume",
			explanation: "Discard an interrupted copy of SHARD and begin again.",
		},
		{
			flagName: flagName{"", "dry-run"}, goesWith: []mode{modeRepair}, standard: "off",
			explanation: "Print the repairs that are needed and change nothing.",
		},
	}
}

// verifyFlags are about comparing.
func verifyFlags() []flagRow {
	return []flagRow{
		{
			flagName: flagName{"", "all"}, goesWith: []mode{modeVerifyAll}, standard: "off",
			explanation: "Verify all shards instead of SHARD.",
		},
		{
			flagName: flagName{"", "max-age"}, argument: "AGE", goesWith: []mode{modeVerify, modeVerifyAll}, standard: "0, skip none",
			explanation: "Skip a shard that was verified less than AGE ago, such as 7d, 2w, 1d12h or 90m, " +
				"unless damage was found in it since.",
		},
		{
			flagName: flagName{"", "source"}, goesWith: []mode{modeVerify}, standard: "off",
			explanation: "Read the source too. Each difference then says which side has changed: ssd, source or both.",
		},
		{
			flagName: flagName{"", "manifest"}, argument: "FILE", goesWith: []mode{modeVerify}, standard: "none",
			explanation: "Compare the files of SHARD, here any directory, with FILE: a list of XXH64 checksums in the format of xxhsum, " +
				"or - for standard input. It excludes --source and --max-age.",
		},
	}
}

// outputFlags are about the output.
func outputFlags() []flagRow {
	return []flagRow{
		{
			flagName: flagName{"", "progress"}, argument: "STYLE", standard: "auto",
			explanation: "How progress is shown: bar, plain (a line every 10 seconds) or none. auto is bar on a terminal, else plain.",
		},
		{
			flagName: flagName{"", "json"}, standard: "off",
			explanation: "Print one JSON object on standard output at the end, even after a failure. " +
				"With --all, print one line for each shard when it is done, then a summary.",
		},
		{
			flagName: flagName{"v", "verbose"}, standard: "off",
			explanation: "Log each choice (workers, block size, engine) with its reason, and the time of each step. --json always has both.",
		},
		{flagName: flagName{"h", "help"}, explanation: "Print the help and exit."},
		{flagName: flagName{"", "version"}, explanation: "Print the version of the program and exit."},
	}
}

// modeNames returns the modes that the flag goes with, or nothing if it goes with
// all: "-c", "--verify --all".
func (r flagRow) modeNames() []string {
	var names []string
	for _, row := range modeTable() {
		switch {
		case r.goesWith == nil || !r.allows(row.mode):
		case row.with == r.brief(): // --all goes with --verify, which is then the mode --verify --all
			names = append(names, row.brief())
		default:
			names = append(names, row.briefHeading())
		}
	}
	return names
}

// notes returns the modes and the default of the flag: "with -c or -r; default: none".
func (r flagRow) notes() string {
	var notes []string
	if modes := r.modeNames(); modes != nil {
		notes = append(notes, "with "+orList(modes))
	}
	if r.standard != "" {
		notes = append(notes, "default: "+r.defaultText())
	}
	return strings.Join(notes, "; ")
}

// allows reports whether the flag goes with a mode.
func (r flagRow) allows(m mode) bool { return r.goesWith == nil || slices.Contains(r.goesWith, m) }

// checkFlagsGoWith refuses a flag that does not go with the mode. --all=false counts as
// not given.
func checkFlagsGoWith(flags *pflag.FlagSet, m mode) error {
	for _, row := range flagTable() {
		flag := flags.Lookup(row.long)
		given := flag != nil && flag.Changed && (row.long != "all" || flag.Value.String() == "true")
		if given && !row.allows(m) {
			return &usageError{row.brief() + " goes with " + orList(modeFlagNames(row.goesWith)) + " only"}
		}
	}
	return nil
}

// modeFlagNames returns the brief flag of each mode once, in the order of the
// table. Without modes it returns those of all.
func modeFlagNames(modes []mode) []string {
	var names []string
	for _, row := range modeTable() {
		if modes == nil || slices.Contains(modes, row.mode) {
			names = append(names, row.brief())
		}
	}
	return slices.Compact(names)
}

// orList joins words: "a", "a or b", "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// explained is a line of another table of the documents.
type explained struct{ text, explanation string }

// fileTable lists the files that the program reads and writes.
func fileTable() []explained {
	return []explained{
		{"<lockdir>/<shard>.lock", "The user file: one id a line. It is also the lock."},
		{"<ssddir>/<shard>", "The published shard."},
		{"<ssddir>/.shard_to_ssd/<shard>/", "The state dir of the shard, mode 0700. It has the manifest, the checksums for xxhsum " +
			"(sums.xxh64), the results of verifications, interrupted copies and trash."},
	}
}

// exampleTable lists examples of command lines.
func exampleTable() []explained {
	return []explained{
		{"shard_to_ssd -c -l /var/lib/shard_to_ssd -s /ssd -i instance1 /data/shard2", "Copy a shard, in an install hook."},
		{"shard_to_ssd -r -l /var/lib/shard_to_ssd -s /ssd -i instance1 shard2", "Stop using it, in an uninstall hook."},
		{"ionice -c3 shard_to_ssd --verify --all --require-mount --max-age 7d -s /ssd", "Verify each shard once a week, from cron."},
	}
}

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
)

func noEnv(string) string { return "" }

// defaultCommand returns a command with the defaults, changed.
func defaultCommand(m mode, change func(*command)) command {
	c := command{mode: m, progress: progressAuto}
	c.settings = settings{LockDir: defaultLockDir, SSDDir: defaultSSDDir, Shard: "s"}
	change(&c)
	return c
}

func TestParse(t *testing.T) {
	withID := func(c *command) { c.settings.ID = "a" }
	zero, minute := time.Duration(0), time.Minute
	for name, test := range map[string]struct {
		args []string
		want command
	}{
		"copy":       {[]string{"-c", "-i", "a", "s"}, defaultCommand(modeCopy, withID)},
		"remove":     {[]string{"--remove", "--id", "a", "s"}, defaultCommand(modeRemove, withID)},
		"verify":     {[]string{"--verify", "s"}, defaultCommand(modeVerify, func(*command) {})},
		"verify all": {[]string{"--all", "--verify", "--max-age=1w2d"}, defaultCommand(modeVerifyAll, func(c *command) { c.settings.Shard, c.settings.MaxAge = "", 9*24*time.Hour })},
		"list":       {[]string{"--list"}, defaultCommand(modeList, func(c *command) { c.settings.Shard = "" })},
		"repair": {[]string{"--repair", "s", "--dry-run", "--engine=range", "--lock-timeout=0"}, defaultCommand(modeRepair, func(c *command) {
			c.settings.DryRun, c.settings.Engine, c.settings.LockTimeout = true, copier.Range, &zero
		})},
		"adopt":       {[]string{"s", "--adopt"}, defaultCommand(modeAdopt, func(*command) {})},
		"both sides":  {[]string{"--verify", "--source", "s"}, defaultCommand(modeVerify, func(c *command) { c.settings.Source = true })},
		"list of one": {[]string{"s", "--list"}, defaultCommand(modeList, func(*command) {})},
		"combined, after SHARD, with =": {
			[]string{"s", "-cl", "/l", "--ssddir=/d", "-ia"},
			defaultCommand(modeCopy, func(c *command) {
				c.settings.ID, c.settings.LockDir, c.settings.SSDDir = "a", "/l", "/d"
			}),
		},
		"after --": {
			[]string{"-ci", "a", "--", "-s"},
			defaultCommand(modeCopy, func(c *command) { c.settings.ID, c.settings.Shard = "a", "-s" }),
		},
		"any id": {
			[]string{"-c", "-i", "-x =\t\xff", "s"},
			defaultCommand(modeCopy, func(c *command) { c.settings.ID = "-x =\t\xff" }),
		},
		"everything": {
			[]string{"-c", "-ia", "s", "--jobs=3", "--engine=direct", "--progress=plain", "--json",
				"--lock-timeout=1m", "--require-mount", "--replace", "--no-resume"},
			defaultCommand(modeCopy, func(c *command) {
				c.settings.ID, c.settings.Jobs, c.settings.Engine = "a", 3, copier.Direct
				c.settings.LockTimeout = &minute
				c.settings.RequireMount, c.settings.Replace, c.settings.NoResume = true, true, true
				c.progress, c.json = progressPlain, true
			}),
		},
		"only try": {
			[]string{"-r", "-ia", "s", "--lock-timeout=0"},
			defaultCommand(modeRemove, func(c *command) { c.settings.ID, c.settings.LockTimeout = "a", &zero }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(test.args, noEnv)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(command{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{envLockDir: "/el", envSSDDir: "/es"}
	getenv := func(name string) string { return env[name] }
	c, err := parse([]string{"--list"}, getenv)
	if err != nil || c.settings.LockDir != "/el" || c.settings.SSDDir != "/es" {
		t.Errorf("got %+v, %v, want the directories of the environment", c.settings, err)
	}
	c, err = parse([]string{"--list", "-l", "/fl", "-s/fs"}, getenv)
	if err != nil || c.settings.LockDir != "/fl" || c.settings.SSDDir != "/fs" {
		t.Errorf("got %+v, %v, want the directories of the flags", c.settings, err)
	}
}

// TestUsageErrors breaks every rule and compares the message.
func TestUsageErrors(t *testing.T) {
	for message, args := range map[string][]string{
		"no mode: one of -c, -r, --verify, --list, --repair, --adopt is needed": {"s", "-i", "a"},
		"more than one mode: [copy remove]":                                     {"-cr", "-i", "a", "s"},
		"more than one mode: [verify list]":                                     {"--verify", "--list"},
		`more than one SHARD: ["s" "t"]`:                                        {"-c", "-i", "a", "s", "t"},
		"SHARD is missing":                                                      {"-c", "-i", "a"},
		"SHARD is empty":                                                        {"-c", "-i", "a", ""},
		"-i NAME is missing: -c and -r need it":                                 {"-r", "s"},
		"-i goes with -c or -r only":                                            {"--list", "-i", "a"},
		"the id is empty":                                                       {"-c", "-i", "", "s"},
		`newline or NUL in the id "a\nb"`:                                       {"-c", "-i", "a\nb", "s"},
		`newline or NUL in the id "a\x00b"`:                                     {"-r", "-i", "a\x00b", "s"},
		"the lock dir is empty":                                                 {"-c", "-i", "a", "-l", "", "s"},
		"the SSD dir is empty":                                                  {"-c", "-i", "a", "-s", "", "s"},
		"--jobs is negative: -1":                                                {"-c", "-i", "a", "--jobs=-1", "s"},
		"--lock-timeout is negative: -1s":                                       {"-c", "-i", "a", "--lock-timeout=-1s", "s"},
		"--source goes with --verify only":                                      {"--repair", "--source", "s"},
		"--dry-run goes with --repair only":                                     {"--adopt", "--dry-run", "s"},
		"--bwlimit goes with -c, --verify, --repair or --adopt only":            {"--list", "--bwlimit=1M"},
		"more than one mode: [repair adopt]":                                    {"--adopt", "--repair", "s"},
		"--lock-timeout goes with -c, -r, --repair or --adopt only":             {"--verify", "--lock-timeout=1s", "s"},
		"--engine goes with -c or --repair only":                                {"--verify", "--engine=direct", "s"},
		"--replace goes with -c only":                                           {"-r", "-i", "a", "--replace", "s"},
		"--no-resume goes with -c only":                                         {"--list", "--no-resume"},
		"unknown flag: --bogus":                                                 {"--bogus"},
		"unknown shorthand flag: 'x' in -x":                                     {"-x"},
		"flag needs an argument: 'l' in -l":                                     {"-l"},
		"--manifest goes with --verify only":                                    {"--list", "--manifest=f", "s"},
		"--manifest does not go with --source or --max-age":                     {"--verify", "--manifest=f", "--source", "s"},
		"the name of the manifest is empty":                                     {"--verify", "--manifest=", "s"},
		"--all goes with --verify only":                                         {"--list", "--all"},
		`--all takes no SHARD, got ["s"]`:                                       {"--verify", "--all", "s"},
		"--max-age goes with --verify only":                                     {"--list", "--max-age=1d"},
		`invalid argument "soon" for "--lock-timeout" flag: must be a duration like "30s" or "5m"`:               {"--lock-timeout=soon"},
		`invalid argument "7" for "--max-age" flag: "7" is not an age such as 7d, 2w, 1d12h or 90m`:              {"--max-age=7"},
		`invalid argument "fast" for "--engine" flag: "fast" is not one of auto, clone, range, direct, buffered`: {"--engine=fast"},
		`invalid argument "loud" for "--progress" flag: "loud" is not one of auto, bar, plain, none`:             {"--progress=loud"},
		`invalid argument "many" for "--jobs" flag: must be an integer`:                                          {"--jobs=many"},
	} {
		_, err := parse(args, noEnv)
		if err == nil || err.Error() != message {
			t.Errorf("%q: got %v, want %s", args, err, message)
		}
		if !errors.Is(err, shardtossd.ErrUsage) {
			t.Errorf("%q: %v is not a usage error", args, err)
		}
	}
}

// TestFlagTable compares the table of flags with the flags that parse knows.
func TestFlagTable(t *testing.T) {
	shorthands := map[string]string{"help": "h"} // pflag adds --help itself
	booleans := map[string]bool{"help": true}
	var c command
	var m modeFlags
	newFlagSet(&c, &m).VisitAll(func(flag *pflag.Flag) {
		shorthands[flag.Name] = flag.Shorthand
		booleans[flag.Name] = flag.Value.Type() == "bool"
	})
	explained := map[string]string{}
	for _, row := range modeTable() {
		explained[row.long] = row.short
		if !strings.HasSuffix(row.explanation, ".") {
			t.Errorf("the explanation of %s is not a sentence: %q", row.heading(), row.explanation)
		}
		if operations()[row.mode] == nil {
			t.Errorf("mode %s has no operation", row.mode)
		}
		if !strings.Contains(usageModes, row.brief()) {
			t.Errorf("the usage line does not have %s", row.brief())
		}
	}
	if got, want := len(modeTable()), len(operations()); got != want {
		t.Errorf("%d modes are explained, want %d", got, want)
	}
	for _, row := range flagTable() {
		explained[row.long] = row.short
		if (row.argument == "") != booleans[row.long] {
			t.Errorf("%s: argument %q, but the flag is boolean: %v", row.brief(), row.argument, booleans[row.long])
		}
		if !strings.HasSuffix(row.explanation, ".") || (row.standard == "") != (row.long == "help" || row.long == "version") {
			t.Errorf("%s: explanation %q, default %q", row.brief(), row.explanation, row.standard)
		}
	}
	if diff := cmp.Diff(shorthands, explained); diff != "" {
		t.Errorf("explained flags (-flags +table):\n%s", diff)
	}
}

// TestHelpFits ensures that no line of the help is too wide for a terminal of 80
// columns.
func TestHelpFits(t *testing.T) {
	for line := range strings.SplitSeq(help(), "\n") {
		if len(line) > helpWidth {
			t.Errorf("%d columns, want at most %d: %s", len(line), helpWidth, line)
		}
	}
}

// TestAllFalseIsNotGiven ensures that --all=false goes with any mode, and that no other
// flag of another mode does.
func TestAllFalseIsNotGiven(t *testing.T) {
	c, err := parse([]string{"--verify", "--all=false", "s"}, noEnv)
	if err != nil || c.mode != modeVerify {
		t.Errorf("got mode %q, %v, want %q", c.mode, err, modeVerify)
	}
	if _, err := parse([]string{"--verify", "--replace=false", "s"}, noEnv); !errors.Is(err, shardtossd.ErrUsage) {
		t.Errorf("--replace=false with --verify: got %v, want a usage error", err)
	}
}

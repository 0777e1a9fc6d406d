package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"

	shardtossd "shard_to_ssd"
)

// The lock dir and the SSD dir: the variables used without a flag, and the
// defaults used without both.
const (
	envLockDir     = "SHARD_TO_SSD_LOCKDIR"
	envSSDDir      = "SHARD_TO_SSD_SSDDIR"
	defaultLockDir = "/var/lib/shard_to_ssd"
	defaultSSDDir  = "/ssd"
)

// mode is the operation that the command line asks for, in the words of the JSON
// object.
type mode string

const (
	modeNone   mode = ""
	modeCopy   mode = "copy"
	modeRemove mode = "remove"
	modeVerify mode = "verify"
	modeList   mode = "list"
	modeRepair mode = "repair"
	modeAdopt  mode = "adopt"

	modeVerifyAll mode = "verify-all" // modeVerify with --all
)

// command is a parsed command line.
type command struct {
	mode     mode
	settings settings
	progress progressStyle
	json     bool
	help     bool
	version  bool
}

// usageError says why a command line is refused.
type usageError struct{ message string }

func (e *usageError) Error() string        { return e.message }
func (e *usageError) Is(target error) bool { return target == shardtossd.ErrUsage }

// parse reads the command line. With an error, the command holds the flags before
// the wrong one, so the caller knows whether JSON is wanted.
func parse(args []string, getenv func(string) string) (command, error) {
	c := command{progress: progressAuto}
	c.settings.LockDir = firstOf(getenv(envLockDir), defaultLockDir)
	c.settings.SSDDir = firstOf(getenv(envSSDDir), defaultSSDDir)
	var modes modeFlags
	flags := newFlagSet(&c, &modes)
	err := flags.Parse(args)
	c.mode = modes.firstMode()
	if c.mode == modeVerify && modes.all {
		c.mode = modeVerifyAll
	}
	switch {
	case errors.Is(err, pflag.ErrHelp):
		c.help = true
		return c, nil
	case err != nil:
		return c, &usageError{err.Error()}
	case c.version:
		return c, nil
	}
	if flags.Changed("lock-timeout") {
		c.settings.LockTimeout = &modes.timeout
	}
	return c, c.check(flags, modes)
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// modeFlags are the flags that do not go straight into a command.
type modeFlags struct {
	copy, remove, verify, list bool
	repair, adopt              bool
	timeout                    time.Duration
	all                        bool
}

// given returns the modes on the command line.
func (m modeFlags) given() []mode {
	var given []mode
	for _, flag := range []struct {
		set  bool
		mode mode
	}{{m.copy, modeCopy}, {m.remove, modeRemove}, {m.verify, modeVerify}, {m.list, modeList},
		{m.repair, modeRepair}, {m.adopt, modeAdopt}} {
		if flag.set {
			given = append(given, flag.mode)
		}
	}
	return given
}

func (m modeFlags) firstMode() mode {
	if given := m.given(); len(given) > 0 {
		return given[0]
	}
	return modeNone
}

// newFlagSet binds the flags. flag_table.go explains them; a test compares both.
func newFlagSet(c *command, m *modeFlags) *pflag.FlagSet {
	flags := pflag.NewFlagSet("shard_to_ssd", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVarP(&m.copy, "copy", "c", false, "")
	flags.BoolVarP(&m.remove, "remove", "r", false, "")
	flags.BoolVar(&m.verify, "verify", false, "")
	flags.BoolVar(&m.list, "list", false, "")
	flags.BoolVar(&m.all, "all", false, "")
	flags.Var((*age)(&c.settings.MaxAge), "max-age", "")
	flags.BoolVar(&m.repair, "repair", false, "")
	flags.BoolVar(&m.adopt, "adopt", false, "")
	flags.BoolVar(&c.settings.Source, "source", false, "")
	flags.BoolVar(&c.settings.DryRun, "dry-run", false, "")
	flags.StringVarP(&c.settings.LockDir, "lockdir", "l", c.settings.LockDir, "")
	flags.StringVarP(&c.settings.SSDDir, "ssddir", "s", c.settings.SSDDir, "")
	flags.StringVarP(&c.settings.ID, "id", "i", "", "")
	flags.IntVar(&c.settings.Jobs, "jobs", 0, "")
	flags.StringVar(&c.settings.Manifest, "manifest", "", "")
	flags.Var(&c.settings.Engine, "engine", "")
	flags.Var((*byteRate)(&c.settings.Bandwidth), "bwlimit", "")
	flags.Var(&c.progress, "progress", "")
	flags.BoolVar(&c.json, "json", false, "")
	flags.DurationVar(&m.timeout, "lock-timeout", 0, "")
	flags.BoolVar(&c.settings.RequireMount, "require-mount", false, "")
	flags.BoolVar(&c.settings.Replace, "replace", false, "")
	flags.BoolVar(&c.settings.NoResume, "no-resume", false, "")
	flags.BoolVarP(&c.settings.Verbose, "verbose", "v", false, "")
	flags.BoolVar(&c.version, "version", false, "")
	return flags
}

// check refuses a command line without meaning, and takes SHARD.
func (c *command) check(flags *pflag.FlagSet, modes modeFlags) error {
	if err := checkMode(modes); err != nil {
		return err
	}
	if err := checkFlagsGoWith(flags, c.mode); err != nil {
		return err
	}
	users := c.mode == modeCopy || c.mode == modeRemove
	for _, rule := range []struct {
		broken  bool
		message string
	}{
		{flags.NArg() > 1, fmt.Sprintf("more than one SHARD: %q", flags.Args())},
		{c.mode == modeVerifyAll && flags.NArg() > 0, fmt.Sprintf("--all takes no SHARD, got %q", flags.Args())},
		{flags.NArg() == 0 && c.mode != modeList && c.mode != modeVerifyAll, "SHARD is missing"},
		{flags.NArg() == 1 && flags.Arg(0) == "", "SHARD is empty"},
		{users && !flags.Changed("id"), "-i NAME is missing: -c and -r need it"},
		{users && c.settings.ID == "", "the id is empty"},
		{strings.ContainsAny(c.settings.ID, "\n\x00"), fmt.Sprintf("newline or NUL in the id %q", c.settings.ID)},
		{c.settings.LockDir == "", "the lock dir is empty"},
		{c.settings.SSDDir == "", "the SSD dir is empty"},
		{c.settings.Jobs < 0, fmt.Sprintf("--jobs is negative: %d", c.settings.Jobs)},
		{c.settings.Jobs > shardtossd.MaxJobs, fmt.Sprintf("--jobs is %d, at most %d are allowed", c.settings.Jobs, shardtossd.MaxJobs)},
		{modes.timeout < 0, fmt.Sprintf("--lock-timeout is negative: %v", modes.timeout)},
		{flags.Changed("manifest") && c.settings.Manifest == "", "the name of the manifest is empty"},
		{flags.Changed("manifest") && (flags.Changed("source") || flags.Changed("max-age")), "--manifest does not go with --source or --max-age"},
	} {
		if rule.broken {
			return &usageError{rule.message}
		}
	}
	c.settings.Shard = flags.Arg(0)
	return nil
}

// checkMode refuses a command line without a mode, or with several.
func checkMode(modes modeFlags) error {
	switch given := modes.given(); len(given) {
	case 0:
		return &usageError{"no mode: one of " + strings.Join(modeFlagNames(nil), ", ") + " is needed"}
	case 1:
		return nil
	default:
		return &usageError{fmt.Sprintf("more than one mode: %s", given)}
	}
}

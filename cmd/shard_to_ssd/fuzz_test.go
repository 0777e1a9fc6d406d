package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/copier"
)

// FuzzOneLine makes a line of any text. The line has no character that a terminal
// interprets, stays the same if it is processed again, and keeps printable text.
func FuzzOneLine(f *testing.F) {
	for _, text := range []string{"", "a\nb", "\x1b[31m", "\xff\x9b", "größe 日本", "\\n", "\u2028\u202e\u0085", "\xed\xa0\x80", "\ufffd", "e\u0301"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line := oneLine(text)
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u202e' }) {
			t.Errorf("%q: got %q", text, line)
		}
		if !utf8.ValidString(text) && !strings.Contains(line, `\x`) {
			t.Errorf("%q: got %q, which does not show every byte", text, line)
		}
		if again := oneLine(line); again != line {
			t.Errorf("%q: got %q, and from that %q", text, line, again)
		}
		plain := func(r rune) bool { return r >= ' ' && r < 0x7f }
		if !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) && line != text {
			t.Errorf("%q: got %q", text, line)
		}
	})
}

// FuzzCommandLine parses any arguments, one a line, in any environment. An accepted
// command line has one mode and the values that the mode needs. Every other one is
// a usage error.
func FuzzCommandLine(f *testing.F) {
	for _, args := range []string{"-c\n-i\na\ns", "-cl\nd\n-ia\ns", "-r\n-i\na\n--lock-timeout\n1.5h\ns/", "--list", "--verify\n--jobs=3\ns", "--help", "-h\n-c", "--version",
		"-c\n-i\na\n--engine\ndirect\n--progress=bar\ns", "-c\n-r\ns", "-c\n-i\n\ns", "--lock-timeout\n-1s\n-c\n-i\na\ns", "-c\n-i\na\n--jobs\n9223372036854775808\ns",
		"-c\n-i\na\n--\n-s", "-c\n-i\na\x00\ns", "--list\n-i\na", "--verify\n--all\n--max-age\n1w2d", "--all\ns", "--verify\n--max-age=-1d\ns", "-c=maybe", "--no-such", "-c\n-i\na\n--lock-timeout=1e9h\ns"} {
		f.Add(args, "", "/ssd")
	}
	f.Fuzz(func(t *testing.T, text, lockDir, ssdDir string) {
		args := strings.Split(text, "\n")
		c, err := parse(args, func(name string) string {
			return map[string]string{envLockDir: lockDir, envSSDDir: ssdDir}[name]
		})
		switch {
		case err != nil:
			if !errors.Is(err, shardtossd.ErrUsage) || exitStatus(err, nil) != 2 {
				t.Errorf("%q: %v", args, err)
			}
			return
		case c.help, c.version:
			return
		}
		if problem := problemOf(c); problem != "" {
			t.Errorf("%q, %q, %q: %s: %+v", args, lockDir, ssdDir, problem, c)
		}
	})
}

// problemOf returns the mistake in an accepted command line, or "".
func problemOf(c command) string {
	o, changes := c.settings, c.mode == modeCopy || c.mode == modeRemove
	switch {
	case !slices.Contains([]mode{modeCopy, modeRemove, modeVerify, modeVerifyAll, modeList}, c.mode):
		return "no mode"
	case o.Shard == "" && c.mode != modeList && c.mode != modeVerifyAll, o.Shard != "" && c.mode == modeVerifyAll:
		return "shard"
	case o.MaxAge < 0 || o.MaxAge > 0 && c.mode != modeVerify && c.mode != modeVerifyAll:
		return "age"
	case changes != (o.ID != "") || strings.ContainsAny(o.ID, "\n\x00"):
		return "id"
	case o.LockDir == "" || o.SSDDir == "":
		return "no directory"
	case o.Jobs < 0 || o.LockTimeout != nil && (*o.LockTimeout < 0 || !changes):
		return "number"
	case !slices.Contains(copier.Engines[:], copier.Engine(o.Engine.String())) || c.progress.Set(string(c.progress)) != nil:
		return "engine or progress"
	case c.mode != modeCopy && (o.Replace || o.NoResume):
		return "flag of -c"
	}
	return ""
}

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

const helpHead = usageLine + `

Puts SHARD (a directory, or one file) onto the SSD of this host, shared by all
services that need it: copied once, proven equal, deleted with its last user.

Modes, of which one is needed:
  -c, --copy         copy SHARD to the SSD if it is not there, and register NAME
                     as a user
  -r, --remove       unregister NAME; delete SHARD from the SSD if nobody else
                     uses it
      --verify       read SHARD back from the SSD and prove that it is what was
                     copied; status 3 if it is not
      --verify --all the same for every shard under the SSD dir, those not
                     verified for the longest time first
      --list         what is on the SSD: shards, users, size, source, when
                     published and last verified, orphans, foreign directories,
                     stages and trash; SHARD narrows it
      --repair       read SHARD back, and copy again from the source what is
                     damaged, if the source still has what was published
      --adopt        compare a SHARD that the older script copied with the source,
                     and give it the manifest that --verify needs
  -h, --help         this text
      --version      version of this program

Flags:
  -l, --lockdir DIR  where the user files are
                     (default: $` + envLockDir + `, else ` + defaultLockDir + `)
  -s, --ssddir DIR   where the SSD is mounted
                     (default: $` + envSSDDir + `, else ` + defaultSSDDir + `)
  -i, --id NAME      unique id of the service; needed by -c and -r (default: none)
      --manifest FILE
                     with --verify, compare the files of the directory SHARD, which
                     may be any, with FILE: a list of XXH64 that xxhsum or this
                     program has made; - is standard input (default: none)
      --jobs N       workers (default: 0, chosen from CPUs and device)
      --engine E     how -c and --repair move data: auto, clone, range, direct, buffered
                     (default: auto)
      --bwlimit RATE with all modes that read shards, at most RATE bytes a second read and
                     written in all: a copy moves each byte three times. Suffixes
                     K or KiB, M, G, T are powers of 1024, KB, MB, GB, TB of 1000
                     (default: 0, as fast as the devices)
      --all          with --verify, all shards instead of SHARD (default: off)
      --max-age AGE  with --verify, skip what was verified, and found as copied,
                     less than AGE ago, such as 7d, 2w or 36h (default: 0, nothing)
      --progress P   auto, bar, plain, none (default: auto, a bar on a terminal
                     and else a line every 10 s)
      --json         one JSON object on standard output when done; with --all one
                     a line for each shard as it is done, and a last one, of
                     "operation":"verify-all", that sums up (default: off)
  -v, --verbose      say what was chosen and why, and how long each step took
                     (default: off; --json always has it)
      --lock-timeout DURATION
                     with -c, -r, --repair and --adopt, give up waiting for
                     the lock, status 5; 0 only tries (default: wait as long as it takes)
      --require-mount
                     refuse, status 1, unless the SSD dir is a mount point of its
                     own (default: off)
      --replace      with -c, copy afresh over a directory on the SSD that this
                     program did not put there (default: off)
      --no-resume    with -c, discard what an interrupted copy left
                     (default: off, go on from there)
      --source       with --verify, read the source, too, and say which side has
                     changed (default: off)
      --dry-run      with --repair, say what would be done and change nothing
                     (default: off)

Environment:
  ` + envLockDir + `  used without --lockdir, if not empty
  ` + envSSDDir + `   used without --ssddir, if not empty

Exit status:
`

const helpTail = `
Examples:
  shard_to_ssd -c -l /var/lib/shard_to_ssd -s /ssd -i instance1 /data/shard2
  shard_to_ssd -r -l /var/lib/shard_to_ssd -s /ssd -i instance1 /data/shard2
  ionice -c3 shard_to_ssd --verify --all --max-age 7d -s /ssd
`

// help is what --help prints.
func help() string {
	var text strings.Builder
	text.WriteString(helpHead)
	for _, row := range statusTable() {
		fmt.Fprintf(&text, "  %-6s %s\n", row.status, row.meaning)
	}
	text.WriteString(helpTail)
	return text.String()
}

// version is set with -ldflags "-X main.version=...".
var version string

// versionLine is what --version prints.
func versionLine() string {
	return fmt.Sprintf("shard_to_ssd %s (%s, %s/%s)", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// programVersion is also what a manifest records.
func programVersion() string {
	known := version
	if info, ok := debug.ReadBuildInfo(); ok && known == "" {
		known = info.Main.Version // of `go install module@version`, or of the checkout
	}
	return firstOf(known, "(devel)")
}

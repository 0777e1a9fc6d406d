package torture

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// event is one operation or one look, from before its start to after its end.
type event struct {
	call, ret time.Duration
	do        string // -c, -r, old -c, old -r, read, stat
	id        string // of an operation
	outcome   string // of an operation that succeeded, as in --json
	status    int
	there     bool   // of a look: the user file or the shard exists
	raw       string // of a read: the whole user file
}

// wasKilled reports whether a signal ended the operation. It may have done all, a part
// or nothing, and does nothing after its end.
func (e *event) wasKilled() bool     { return e.status > 128 }
func (e *event) isLook() bool        { return e.do == "read" || e.do == "stat" }
func (e *event) byOlderScript() bool { return strings.HasPrefix(e.do, "old") }

func (e *event) String() string {
	if e.isLook() {
		return fmt.Sprintf("%v to %v: %s: %v %q", e.call, e.ret, e.do, e.there, e.raw)
	}
	return fmt.Sprintf("%v to %v: %s %s: status %d, %s", e.call, e.ret, e.do, e.id, e.status, e.outcome)
}

// content is the state of one shard. The state dir is not part of it, except for the
// manifest that makes a shard proven.
type content struct {
	file bool
	raw  string // the content of the user file
	next string // while it is being written: the new content
	busy bool   // it is being written
	pub  publication
}

type publication byte

const (
	absent   publication = iota
	proven               // published by this tool
	unproven             // by the older script
)

func (c content) userList() []string {
	return strings.FieldsFunc(c.raw, func(r rune) bool { return r == '\n' })
}

// couldShow reports whether a look could have seen this content. A write of the list is
// not atomic: until it returns, each byte may be the old or the new one.
func (c content) couldShow(e *event) bool {
	if e.do == "stat" {
		return e.there == (c.pub != absent)
	}
	if !e.there || !c.file {
		return e.there == c.file
	}
	return e.raw == c.raw || c.busy && mixedBytes(e.raw, c.raw, c.next)
}

func mixedBytes(seen, was, will string) bool {
	if len(seen) != len(was) && len(seen) != len(will) {
		return false
	}
	for i := range seen {
		if (i >= len(was) || seen[i] != was[i]) && (i >= len(will) || seen[i] != will[i]) {
			return false
		}
	}
	return true
}

// path is the sequence of contents that an operation makes, after the one that it
// found.
type path []content

func (p path) lastContent(found content) content {
	if len(p) == 0 {
		return found
	}
	return p[len(p)-1]
}

// writeList is how this tool changes the list: it pads the new list to the old length,
// writes it, and then truncates the file.
func (p path) writeList(now content, users []string) path {
	list := strings.Join(users, "\n")
	image := list
	if len(list) < len(now.raw) {
		image += strings.Repeat("\n", len(now.raw)-len(list))
	}
	writing, written := now, now
	writing.busy, writing.next = true, image
	written.raw = image
	p = append(p, writing, written)
	if image != list {
		written.raw = list
		p = append(p, written)
	}
	return p
}

// rewriteList is how the older script changes the list: it truncates the file to
// nothing, and then writes.
func (p path) rewriteList(now content, users []string) path {
	now.raw = ""
	p = append(p, now)
	now.raw = strings.Join(users, "\n")
	return append(p, now)
}

func withUser(users []string, id string) []string { return append(slices.Clone(users), id) }
func withoutUser(users []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(users), func(u string) bool { return u == id })
}

// copySteps returns the path of -c, and its reported outcome. A refused copy has no
// outcome.
func copySteps(found content, id string) (p path, outcome string) {
	now := found
	if !now.file {
		now.file, now.raw = true, ""
		p = append(p, now)
	}
	users := now.userList()
	switch {
	case now.pub == absent, now.pub == unproven && len(users) == 0 && found.file:
		outcome = "copied"
		now.pub = proven
		p = append(p, now)
	case now.pub == unproven && len(users) == 0:
		return nil, ""
	default:
		outcome = "already-on-ssd"
	}
	if !slices.Contains(users, id) {
		p = p.writeList(now, withUser(users, id))
	}
	return p, outcome
}

// removeSteps returns the path of -r, and its reported outcome.
func removeSteps(found content, id string) (p path, outcome string) {
	if !found.file {
		return nil, "nothing-to-do"
	}
	now, users := found, found.userList()
	outcome = "not-registered"
	registered := slices.Contains(users, id)
	if registered {
		outcome = "unregistered"
		users = withoutUser(users, id)
		p = p.writeList(now, users)
		now = p.lastContent(now)
	}
	if len(users) > 0 || now.pub == unproven && !registered {
		return p, outcome
	}
	if now.pub != absent || registered {
		outcome = "removed"
	}
	if now.pub != absent {
		now.pub = absent
		p = append(p, now)
	}
	now.file, now.raw = false, ""
	return append(p, now), outcome
}

// olderSteps returns the path of the older script, and its status. The script creates
// the user file before it has the lock, so the file exists here.
func olderSteps(found content, do, id string) (p path, status int) {
	now, users := found, found.userList()
	if do == "old -c" {
		if now.pub == absent {
			now.pub = unproven
			p = append(p, now)
		}
		if !slices.Contains(users, id) {
			p = p.rewriteList(now, withUser(users, id))
		}
		return p, 0
	}
	if users = withoutUser(users, id); len(users) > 0 {
		return p.rewriteList(now, users), 0
	}
	if now.pub == absent {
		return nil, 1
	}
	now.pub = absent
	p = append(p, now)
	now.file, now.raw = false, ""
	return append(p, now), 0
}

// possiblePaths returns the paths that explain the result of the operation.
func (e *event) possiblePaths(found content) []path {
	if e.byOlderScript() {
		p, status := olderSteps(found, e.do, e.id)
		if !found.file || status != e.status {
			return nil
		}
		return []path{p}
	}
	step := removeSteps
	if e.do == "-c" {
		step = copySteps
	}
	p, outcome := step(found, e.id)
	if !e.wasKilled() {
		if outcome != e.outcome {
			return nil
		}
		return []path{p}
	}
	all := []path{p}
	for n := len(p) - 1; n >= 0; n-- {
		all = append(all, p[:n])
	}
	if e.do == "-c" && !found.file { // the user file that it made is deleted again
		all = append(all, path{p[0], found})
	}
	return all
}

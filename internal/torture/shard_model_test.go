package torture

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// event is one operation or one look, from before it was begun to after its end.
type event struct {
	call, ret time.Duration
	do        string // -c, -r, old -c, old -r, read, stat
	id        string // of an operation
	outcome   string // of an operation that succeeded, as --json says it
	status    int
	there     bool   // of a look: the user file, the shard
	raw       string // of a read: all of the user file
}

// ended says that the operation was stopped by a signal: it has done all, a part,
// or nothing, and nothing after its end.
func (e *event) ended() bool { return e.status > 128 }
func (e *event) look() bool  { return e.do == "read" || e.do == "stat" }
func (e *event) old() bool   { return strings.HasPrefix(e.do, "old") }

func (e *event) String() string {
	if e.look() {
		return fmt.Sprintf("%v to %v: %s: %v %q", e.call, e.ret, e.do, e.there, e.raw)
	}
	return fmt.Sprintf("%v to %v: %s %s: status %d, %s", e.call, e.ret, e.do, e.id, e.status, e.outcome)
}

// content is what there is of one shard. The state dir does not count, but for what
// makes a shard proven: a manifest that is bound to it.
type content struct {
	file bool
	raw  string // what is in the user file
	next string // if it is being written: what will be
	busy bool   // it is being written
	pub  publication
}

type publication byte

const (
	absent   publication = iota
	proven               // published by this tool
	unproven             // by the older script
)

func (c content) users() []string {
	return strings.FieldsFunc(c.raw, func(r rune) bool { return r == '\n' })
}

// shows says whether a look could have seen this. A write of the list is not seen
// at once: each byte is the old one or the new one until it has returned.
func (c content) shows(e *event) bool {
	if e.do == "stat" {
		return e.there == (c.pub != absent)
	}
	if !e.there || !c.file {
		return e.there == c.file
	}
	return e.raw == c.raw || c.busy && mixed(e.raw, c.raw, c.next)
}

func mixed(seen, was, will string) bool {
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

// path is what an operation goes through, from the content it has found.
type path []content

func (p path) last(found content) content {
	if len(p) == 0 {
		return found
	}
	return p[len(p)-1]
}

// write is how this tool changes the list: padded to its old length, then cut.
func (p path) write(now content, users []string) path {
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

// rewrite is how the older script does it: emptied, then written.
func (p path) rewrite(now content, users []string) path {
	now.raw = ""
	p = append(p, now)
	now.raw = strings.Join(users, "\n")
	return append(p, now)
}

func with(users []string, id string) []string { return append(slices.Clone(users), id) }
func without(users []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(users), func(u string) bool { return u == id })
}

// copySteps is the path of -c, and what it reports. A refused one has no outcome.
func copySteps(found content, id string) (p path, outcome string) {
	now := found
	if !now.file {
		now.file, now.raw = true, ""
		p = append(p, now)
	}
	users := now.users()
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
		p = p.write(now, with(users, id))
	}
	return p, outcome
}

// removeSteps is the path of -r, and what it reports.
func removeSteps(found content, id string) (p path, outcome string) {
	if !found.file {
		return nil, "nothing-to-do"
	}
	now, users := found, found.users()
	outcome = "not-registered"
	registered := slices.Contains(users, id)
	if registered {
		outcome = "unregistered"
		users = without(users, id)
		p = p.write(now, users)
		now = p.last(now)
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

// olderSteps is the path of the older script, and its status. It opens, and so creates,
// the user file before it has the lock: there is one.
func olderSteps(found content, do, id string) (p path, status int) {
	now, users := found, found.users()
	if do == "old -c" {
		if now.pub == absent {
			now.pub = unproven
			p = append(p, now)
		}
		if !slices.Contains(users, id) {
			p = p.rewrite(now, with(users, id))
		}
		return p, 0
	}
	if users = without(users, id); len(users) > 0 {
		return p.rewrite(now, users), 0
	}
	if now.pub == absent {
		return nil, 1
	}
	now.pub = absent
	p = append(p, now)
	now.file, now.raw = false, ""
	return append(p, now), 0
}

// paths are those by which the operation can have become what it was seen to be.
func (e *event) paths(found content) []path {
	if e.old() {
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
	if !e.ended() {
		if outcome != e.outcome {
			return nil
		}
		return []path{p}
	}
	all := []path{p}
	for n := len(p) - 1; n >= 0; n-- {
		all = append(all, p[:n])
	}
	if e.do == "-c" && !found.file { // the user file that it has made goes again
		all = append(all, path{p[0], found})
	}
	return all
}

package torture

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What happened to one shard, as those who took part saw it, and whether one order
// explains it: a search as in Wing & Gong's "Testing and Verifying Concurrent
// Objects", with the memory of Lowe's. Shards are independent of each other, so each
// has a history of its own.
//
// An operation is not one step but what it does while it holds the lock: a path of
// contents that it goes through, one after the other, and nobody else changes anything
// meanwhile. That is what lets a reader without the lock be held to what it saw, and
// what says where a killed operation may have stopped.

// history is what happened to a shard; nothing was there at first.
type history []event

// undecided is how many situations are looked at before the search gives up.
const undecided = 3_000_000

// explain looks for an order. Its error is what could not be explained.
func (h history) explain() error {
	slices.SortStableFunc(h, func(a, b event) int { return cmp.Compare(a.call, b.call) })
	s := &search{history: h, seen: map[string]bool{}}
	if s.from(situation{done: make([]uint64, (len(h)+63)/64)}) {
		return nil
	}
	if len(s.seen) >= undecided {
		return fmt.Errorf("undecided after %d situations; %v", len(s.seen), s.best)
	}
	return fmt.Errorf("no order explains this; %v", s.best)
}

// situation is a point of an order that is being tried.
type situation struct {
	first  int      // all events before it are done
	done   []uint64 // a bit for each event
	now    content
	holder int  // 1 + the event that has the lock, 0: nobody
	rest   path // of the holder
}

func (s *situation) isDone(i int) bool { return s.done[i/64]&(1<<(i%64)) != 0 }

func (s *situation) mark(i int) {
	s.done[i/64] |= 1 << (i % 64)
}

func (s situation) clone() situation {
	s.done = slices.Clone(s.done)
	return s
}

// key is all that the future depends on.
func (s *situation) key() string {
	words := s.done[s.first/64:]
	last := len(words)
	for last > 0 && words[last-1] == 0 {
		last--
	}
	key := binary.AppendVarint(nil, int64(s.first))
	for _, word := range words[:last] {
		key = binary.LittleEndian.AppendUint64(key, word)
	}
	return fmt.Sprintf("%s %v %d %v", key, s.now, s.holder, s.rest)
}

type search struct {
	history history
	seen    map[string]bool
	reached int
	best    error // how far the best order came
}

// candidates are the events that may come next: not done, and begun before any
// other that is not done has ended; those first that ended first.
func (h history) candidates(s *situation) (next []int) {
	for s.first < len(h) && s.isDone(s.first) {
		s.first++
	}
	var until time.Duration
	for i := s.first; i < len(h); i++ {
		if s.isDone(i) {
			continue
		}
		if len(next) > 0 && h[i].call > until {
			break
		}
		if len(next) == 0 || h[i].ret < until {
			until = h[i].ret
		}
		next = append(next, i)
	}
	slices.SortStableFunc(next, func(a, b int) int { return cmp.Compare(h[a].ret, h[b].ret) })
	return next
}

// absorb takes everything that changes nothing, whenever it comes, and fits now: to
// take it later would never be better.
func (x *search) absorb(s *situation) (next []int) {
	for {
		next = x.history.candidates(s)
		some := false
		for _, i := range next {
			if x.fits(s, i) {
				s.mark(i)
				some = true
			}
		}
		if !some {
			return next
		}
	}
}

func (x *search) fits(s *situation, i int) bool {
	e := &x.history[i]
	if e.look() {
		return s.now.shows(e)
	}
	return e.outcome == "nothing-to-do" && !s.now.file
}

// from says whether an order goes on from here to the end.
func (x *search) from(s situation) bool {
	next := x.absorb(&s)
	x.remember(&s, next)
	if len(next) == 0 {
		return true
	}
	key := s.key()
	if x.seen[key] || len(x.seen) >= undecided {
		return false
	}
	x.seen[key] = true
	if s.holder != 0 {
		return x.from(s.advance()) || x.endedWaiting(s, next)
	}
	for _, i := range next {
		if x.history[i].look() {
			continue
		}
		for _, p := range x.history[i].paths(s.now) {
			then := s.clone()
			then.holder, then.rest = i+1, p
			if x.from(then.advance()) {
				return true
			}
		}
	}
	return x.opened(s, next)
}

// endedWaiting goes on without one that was stopped while it waited for the lock, which
// the holder may have for longer than that one lived.
func (x *search) endedWaiting(s situation, next []int) bool {
	for _, i := range next {
		if e := &x.history[i]; e.ended() && i != s.holder-1 {
			then := s.clone()
			then.mark(i)
			if x.from(then) {
				return true
			}
		}
	}
	return false
}

// advance takes the holder's next step; the last one is its end.
func (s situation) advance() situation {
	s = s.clone()
	if len(s.rest) > 0 {
		s.now, s.rest = s.rest[0], s.rest[1:]
	}
	if len(s.rest) == 0 {
		s.mark(s.holder - 1)
		s.holder = 0
	}
	return s
}

// opened goes on from where the older script has made the user file by opening it.
func (x *search) opened(s situation, next []int) bool {
	if s.now.file || !slices.ContainsFunc(next, func(i int) bool { return x.history[i].old() }) {
		return false
	}
	s = s.clone()
	s.now.file, s.now.raw = true, ""
	return x.from(s)
}

// remember keeps the longest order for the message.
func (x *search) remember(s *situation, next []int) {
	done := s.first
	for i := s.first; i < len(x.history); i++ {
		if s.isDone(i) {
			done++
		}
	}
	if done < x.reached {
		return
	}
	x.reached = done
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d events are, up to\n  content %+v", done, len(x.history), s.now)
	if s.holder != 0 {
		fmt.Fprintf(&text, ", locked by %v", &x.history[s.holder-1])
	}
	text.WriteString("\nof these none can be next:\n")
	for _, i := range next {
		fmt.Fprintf(&text, "  %v\n", &x.history[i])
	}
	text.WriteString("before:\n")
	for i := max(0, s.first-12); i < s.first; i++ {
		fmt.Fprintf(&text, "  %v\n", &x.history[i])
	}
	x.best = fmt.Errorf("%s", text.String())
}

// seq makes the events follow each other, none beside another.
func seq(events ...event) (h history) {
	for i, e := range events {
		e.call, e.ret = time.Duration(2*i), time.Duration(2*i+1)
		h = append(h, e)
	}
	return h
}

// beside makes the events of a history all happen at the same time, after others.
func (h history) beside(events ...event) history {
	at := time.Duration(2 * len(h))
	for i, e := range events {
		e.call, e.ret = at, at+time.Duration(len(events)+i)
		h = append(h, e)
	}
	return h
}

func (h history) then(events ...event) history {
	last := time.Duration(0)
	for _, e := range h {
		last = max(last, e.ret)
	}
	for _, e := range seq(events...) {
		e.call += last + 1
		e.ret += last + 1
		h = append(h, e)
	}
	return h
}

func op(do, id, outcome string) event { return event{do: do, id: id, outcome: outcome} }
func killed(do, id string) event      { return event{do: do, id: id, status: 137} }
func list(raw string) event           { return event{do: "read", there: true, raw: raw} }

var (
	noFile  = event{do: "read"}
	visible = event{do: "stat", there: true}
	gone    = event{do: "stat"}
)

// The checker must take what can be, and refuse what cannot.
func TestHistoryExplained(t *testing.T) {
	copied, joined := op("-c", "a", "copied"), op("-c", "b", "already-on-ssd")
	left, removed := op("-r", "a", "unregistered"), op("-r", "b", "removed")
	none := op("-r", "c", "nothing-to-do")
	for name, h := range map[string]history{
		"nothing":                          nil,
		"one after the other":              seq(noFile, copied, visible, list("a"), joined, list("a\nb"), left, list("b"), removed, noFile, gone, none),
		"looks at a change":                seq(copied, joined).beside(left, list("b\nb"), list("b\n\n"), list("a\nb"), list("b")),
		"at once, the other way round":     history{}.beside(joined, copied).then(list("a\nb")),
		"killed before it began":           seq(killed("-c", "a"), gone, noFile),
		"killed while it waited":           history{{do: "-c", id: "a", outcome: "copied", ret: 9}, {do: "read", there: true, call: 1, ret: 2}, {do: "-r", id: "b", status: 137, call: 3, ret: 4}, {do: "stat", call: 5, ret: 6}, {do: "read", there: true, call: 7, ret: 8}},
		"killed, left an empty user file":  seq(killed("-c", "a"), gone, list("")),
		"killed, left an orphan":           seq(killed("-c", "a"), visible, list(""), op("-c", "b", "already-on-ssd"), list("b")),
		"killed when it was done":          seq(killed("-c", "a"), visible, list("a")),
		"killed, took its user file along": history{}.beside(killed("-c", "a"), list("")).then(noFile),
		"killed after unregistering":       seq(copied, killed("-r", "a"), list(""), visible, op("-r", "c", "removed"), noFile, gone),
		"killed before cutting":            seq(copied, joined, killed("-r", "b"), list("a\n\n"), joined, list("a\nb")),
		"killed before unlinking":          seq(copied, killed("-r", "a"), list(""), gone, op("-r", "c", "not-registered"), noFile),
		"the older script":                 seq(event{do: "old -c", id: "o"}, list("o"), op("-c", "a", "already-on-ssd"), event{do: "old -r", id: "o"}, list("a"), event{do: "old -r", id: "a"}, gone, noFile, event{do: "old -r", id: "a", status: 1}, list("")),
		"the older script's orphan":        seq(event{do: "old -c", id: "o"}, killed("-r", "o"), list(""), op("-r", "a", "not-registered"), visible, copied),
		"the older script made the file":   history{}.beside(event{do: "old -c", id: "o"}, list(""), gone).then(list("o")),
	} {
		if err := h.explain(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHistoryRefused(t *testing.T) {
	copied, joined := op("-c", "a", "copied"), op("-c", "b", "already-on-ssd")
	left, removed := op("-r", "a", "unregistered"), op("-r", "a", "removed")
	for name, h := range map[string]history{
		"lost registration":                    seq(copied, joined, list("b")),
		"lost, at once":                        history{}.beside(copied, joined).then(list("b")),
		"lost with the user file":              seq(copied, noFile),
		"phantom user":                         seq(copied, joined, left, list("a\nb")),
		"phantom user, never there":            seq(copied, list("a\nx")),
		"phantom user of a kill":               seq(killed("-c", "b"), list("b"), gone),
		"the wrong order of users":             seq(copied, joined, list("b\na")),
		"two in the critical section":          history{}.beside(copied, op("-c", "b", "copied")),
		"two last users":                       seq(copied, joined).beside(removed, op("-r", "b", "removed")),
		"two who have both unregistered":       seq(copied, joined).beside(left, op("-r", "b", "unregistered")),
		"deleted while registered":             seq(copied, joined, removed),
		"deleted while registered, seen":       seq(copied, joined, left, gone),
		"deleted by a kill before it was time": seq(copied, joined, killed("-r", "a"), gone),
		"registered by a kill, not published":  seq(killed("-c", "a"), list("a"), gone),
		"deleted by a kill, still registered":  seq(copied, killed("-r", "a"), list("a"), gone),
		"effect after death":                   seq(killed("-c", "a"), noFile, list("a")),
		"no effect although told so":           seq(copied, left),
		"not there although told so":           seq(copied, gone),
		"missing user file, seen too late":     seq(copied, op("-r", "b", "nothing-to-do")),
		"what was before was seen after":       seq(copied, joined, list("a")),
		"neither old nor new":                  seq(copied, joined).beside(left, list("x\nb")),
		"not padded":                           seq(copied, joined).beside(left, list("")),
		"cut short":                            seq(copied, joined, left, list("b\n")),
		"copied what was there":                seq(copied, op("-c", "b", "copied")),
		"the older script lost it":             seq(copied, event{do: "old -c", id: "o"}, list("o")),
		"the older script removed it":          seq(copied, event{do: "old -r", id: "o"}, gone),
		"no one made the file":                 seq(list("")),
	} {
		if err := h.explain(); err == nil {
			t.Errorf("%s: explained", name)
		}
	}
}

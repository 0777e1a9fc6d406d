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

// The history of one shard is a list of events, as the processes saw them. The test
// searches for one order of the operations that explains all events, as in Wing and
// Gong, "Testing and Verifying Concurrent Objects", with the memory of Lowe. Shards are
// independent of each other, so each has its own history.
//
// An operation is not a single step. While it holds the lock it goes through a path of
// contents, one after the other, and no other process changes anything. So the search
// can also explain a reader without the lock, and an operation that was killed in the
// middle.

// history is the list of events of a shard. At first nothing exists.
type history []event

// undecided is the number of situations after which the search gives up.
const undecided = 3_000_000

// explain searches for an order. Its error names the events that no order explains.
func (h history) explain() error {
	slices.SortStableFunc(h, func(a, b event) int { return cmp.Compare(a.call, b.call) })
	s := &search{history: h, seen: map[string]bool{}}
	if s.searchFrom(situation{done: make([]uint64, (len(h)+63)/64)}) {
		return nil
	}
	if len(s.seen) >= undecided {
		return fmt.Errorf("undecided after %d situations; %v", len(s.seen), s.best)
	}
	return fmt.Errorf("no order explains this; %v", s.best)
}

// situation is a point in an order that is being tried.
type situation struct {
	first  int      // all events before it are done
	done   []uint64 // a bit for each event
	now    content
	holder int  // 1 + the event that has the lock; 0: it is free
	rest   path // the remaining path of the holder
}

func (s *situation) isDone(i int) bool { return s.done[i/64]&(1<<(i%64)) != 0 }

func (s *situation) markDone(i int) {
	s.done[i/64] |= 1 << (i % 64)
}

func (s situation) clone() situation {
	s.done = slices.Clone(s.done)
	return s
}

// key is everything that the future depends on.
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
	best    error // the longest order that was found
}

// nextCandidates returns the events that may come next: they are not done, and began
// before any other open event ended. The event that ended first comes first.
func (h history) nextCandidates(s *situation) (next []int) {
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

// absorbUnchanging takes all events that change nothing and fit now. To take them later
// would never be better.
func (x *search) absorbUnchanging(s *situation) (next []int) {
	for {
		next = x.history.nextCandidates(s)
		some := false
		for _, i := range next {
			if x.fits(s, i) {
				s.markDone(i)
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
	if e.isLook() {
		return s.now.couldShow(e)
	}
	return e.outcome == "nothing-to-do" && !s.now.file
}

// searchFrom reports whether an order continues from this situation to the end.
func (x *search) searchFrom(s situation) bool {
	next := x.absorbUnchanging(&s)
	x.rememberBest(&s, next)
	if len(next) == 0 {
		return true
	}
	key := s.key()
	if x.seen[key] || len(x.seen) >= undecided {
		return false
	}
	x.seen[key] = true
	if s.holder != 0 {
		return x.searchFrom(s.advanceHolder()) || x.searchEndedWaiting(s, next)
	}
	for _, i := range next {
		if x.history[i].isLook() {
			continue
		}
		for _, p := range x.history[i].possiblePaths(s.now) {
			then := s.clone()
			then.holder, then.rest = i+1, p
			if x.searchFrom(then.advanceHolder()) {
				return true
			}
		}
	}
	return x.searchOpened(s, next)
}

// searchEndedWaiting continues without an operation that was killed while it waited for
// the lock. The holder may keep the lock for longer than that process lived.
func (x *search) searchEndedWaiting(s situation, next []int) bool {
	for _, i := range next {
		if e := &x.history[i]; e.wasKilled() && i != s.holder-1 {
			then := s.clone()
			then.markDone(i)
			if x.searchFrom(then) {
				return true
			}
		}
	}
	return false
}

// advanceHolder takes the next step of the holder. The last step is its end.
func (s situation) advanceHolder() situation {
	s = s.clone()
	if len(s.rest) > 0 {
		s.now, s.rest = s.rest[0], s.rest[1:]
	}
	if len(s.rest) == 0 {
		s.markDone(s.holder - 1)
		s.holder = 0
	}
	return s
}

// searchOpened continues after the older script has created the user file by opening
// it.
func (x *search) searchOpened(s situation, next []int) bool {
	if s.now.file || !slices.ContainsFunc(next, func(i int) bool { return x.history[i].byOlderScript() }) {
		return false
	}
	s = s.clone()
	s.now.file, s.now.raw = true, ""
	return x.searchFrom(s)
}

// rememberBest keeps the longest order for the message.
func (x *search) rememberBest(s *situation, next []int) {
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

// inSequence makes the events follow each other without overlap.
func inSequence(events ...event) (h history) {
	for i, e := range events {
		e.call, e.ret = time.Duration(2*i), time.Duration(2*i+1)
		h = append(h, e)
	}
	return h
}

// allAtOnce adds events that all overlap, after those of the history.
func (h history) allAtOnce(events ...event) history {
	at := time.Duration(2 * len(h))
	for i, e := range events {
		e.call, e.ret = at, at+time.Duration(len(events)+i)
		h = append(h, e)
	}
	return h
}

func (h history) followedBy(events ...event) history {
	last := time.Duration(0)
	for _, e := range h {
		last = max(last, e.ret)
	}
	for _, e := range inSequence(events...) {
		e.call += last + 1
		e.ret += last + 1
		h = append(h, e)
	}
	return h
}

func opEvent(do, id, outcome string) event { return event{do: do, id: id, outcome: outcome} }
func killedEvent(do, id string) event      { return event{do: do, id: id, status: 137} }
func listEvent(raw string) event           { return event{do: "read", there: true, raw: raw} }

var (
	noFile  = event{do: "read"}
	visible = event{do: "stat", there: true}
	gone    = event{do: "stat"}
)

// The checker must accept possible histories and reject impossible ones.
func TestHistoryExplained(t *testing.T) {
	copied, joined := opEvent("-c", "a", "copied"), opEvent("-c", "b", "already-on-ssd")
	left, removed := opEvent("-r", "a", "unregistered"), opEvent("-r", "b", "removed")
	none := opEvent("-r", "c", "nothing-to-do")
	for name, h := range map[string]history{
		"nothing":                          nil,
		"one after the other":              inSequence(noFile, copied, visible, listEvent("a"), joined, listEvent("a\nb"), left, listEvent("b"), removed, noFile, gone, none),
		"looks at a change":                inSequence(copied, joined).allAtOnce(left, listEvent("b\nb"), listEvent("b\n\n"), listEvent("a\nb"), listEvent("b")),
		"at once, the other way round":     history{}.allAtOnce(joined, copied).followedBy(listEvent("a\nb")),
		"killed before it began":           inSequence(killedEvent("-c", "a"), gone, noFile),
		"killed while it waited":           history{{do: "-c", id: "a", outcome: "copied", ret: 9}, {do: "read", there: true, call: 1, ret: 2}, {do: "-r", id: "b", status: 137, call: 3, ret: 4}, {do: "stat", call: 5, ret: 6}, {do: "read", there: true, call: 7, ret: 8}},
		"killed, left an empty user file":  inSequence(killedEvent("-c", "a"), gone, listEvent("")),
		"killed, left an orphan":           inSequence(killedEvent("-c", "a"), visible, listEvent(""), opEvent("-c", "b", "already-on-ssd"), listEvent("b")),
		"killed when it was done":          inSequence(killedEvent("-c", "a"), visible, listEvent("a")),
		"killed, took its user file along": history{}.allAtOnce(killedEvent("-c", "a"), listEvent("")).followedBy(noFile),
		"killed after unregistering":       inSequence(copied, killedEvent("-r", "a"), listEvent(""), visible, opEvent("-r", "c", "removed"), noFile, gone),
		"killed before cutting":            inSequence(copied, joined, killedEvent("-r", "b"), listEvent("a\n\n"), joined, listEvent("a\nb")),
		"killed before unlinking":          inSequence(copied, killedEvent("-r", "a"), listEvent(""), gone, opEvent("-r", "c", "not-registered"), noFile),
		"the older script":                 inSequence(event{do: "old -c", id: "o"}, listEvent("o"), opEvent("-c", "a", "already-on-ssd"), event{do: "old -r", id: "o"}, listEvent("a"), event{do: "old -r", id: "a"}, gone, noFile, event{do: "old -r", id: "a", status: 1}, listEvent("")),
		"the older script's orphan":        inSequence(event{do: "old -c", id: "o"}, killedEvent("-r", "o"), listEvent(""), opEvent("-r", "a", "not-registered"), visible, copied),
		"the older script made the file":   history{}.allAtOnce(event{do: "old -c", id: "o"}, listEvent(""), gone).followedBy(listEvent("o")),
	} {
		if err := h.explain(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHistoryRefused(t *testing.T) {
	copied, joined := opEvent("-c", "a", "copied"), opEvent("-c", "b", "already-on-ssd")
	left, removed := opEvent("-r", "a", "unregistered"), opEvent("-r", "a", "removed")
	for name, h := range map[string]history{
		"lost registration":                    inSequence(copied, joined, listEvent("b")),
		"lost, at once":                        history{}.allAtOnce(copied, joined).followedBy(listEvent("b")),
		"lost with the user file":              inSequence(copied, noFile),
		"phantom user":                         inSequence(copied, joined, left, listEvent("a\nb")),
		"phantom user, never there":            inSequence(copied, listEvent("a\nx")),
		"phantom user of a kill":               inSequence(killedEvent("-c", "b"), listEvent("b"), gone),
		"the wrong order of users":             inSequence(copied, joined, listEvent("b\na")),
		"two in the critical section":          history{}.allAtOnce(copied, opEvent("-c", "b", "copied")),
		"two last users":                       inSequence(copied, joined).allAtOnce(removed, opEvent("-r", "b", "removed")),
		"two who have both unregistered":       inSequence(copied, joined).allAtOnce(left, opEvent("-r", "b", "unregistered")),
		"deleted while registered":             inSequence(copied, joined, removed),
		"deleted while registered, seen":       inSequence(copied, joined, left, gone),
		"deleted by a kill before it was time": inSequence(copied, joined, killedEvent("-r", "a"), gone),
		"registered by a kill, not published":  inSequence(killedEvent("-c", "a"), listEvent("a"), gone),
		"deleted by a kill, still registered":  inSequence(copied, killedEvent("-r", "a"), listEvent("a"), gone),
		"effect after death":                   inSequence(killedEvent("-c", "a"), noFile, listEvent("a")),
		"no effect although told so":           inSequence(copied, left),
		"not there although told so":           inSequence(copied, gone),
		"missing user file, seen too late":     inSequence(copied, opEvent("-r", "b", "nothing-to-do")),
		"what was before was seen after":       inSequence(copied, joined, listEvent("a")),
		"neither old nor new":                  inSequence(copied, joined).allAtOnce(left, listEvent("x\nb")),
		"not padded":                           inSequence(copied, joined).allAtOnce(left, listEvent("")),
		"cut short":                            inSequence(copied, joined, left, listEvent("b\n")),
		"copied what was there":                inSequence(copied, opEvent("-c", "b", "copied")),
		"the older script lost it":             inSequence(copied, event{do: "old -c", id: "o"}, listEvent("o")),
		"the older script removed it":          inSequence(copied, event{do: "old -r", id: "o"}, gone),
		"no one made the file":                 inSequence(listEvent("")),
	} {
		if err := h.explain(); err == nil {
			t.Errorf("%s: got an explanation of an impossible history", name)
		}
	}
}

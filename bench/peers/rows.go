package main

import (
	"fmt"
	"slices"
)

// row is one line of what was promised: its tables are measured and judged.
type row struct {
	number int
	title  string
	tables []table
}

// table shows one quantity of some lanes.
type table struct {
	title    string
	lanes    []lane
	quantity quantity
	targets  []target
	// byWorkload labels lines by workload, where that is what differs.
	byWorkload bool
}

// lane is a contender at work in a setting. Lanes of the same key are measured once.
type lane struct {
	setting   setting
	workload  workload
	kind      string // of the SSD's file system
	contender contender
	build     build
}

// setting is what a lane needs besides a source and a fresh file system. Lanes are
// run in turn with others of the same setting.
type setting struct {
	name    string // unique; of the plain one it is empty
	slow    bool   // the source gives out slowRate
	keep    bool   // one file system for all samples
	ready   string // with keep: a command that makes it ready, once
	warm    bool   // caches are not dropped
	samples int    // 0: as many as everybody has
}

// turn names those lanes that are run in turn.
func (l lane) turn() string {
	if l.setting.name != "" && !l.setting.slow {
		return l.setting.name + ", " + l.kind
	}
	return l.workload.name + ", " + l.kind
}

func (l lane) key() string {
	return l.setting.name + "|" + l.workload.name + "|" + l.kind + "|" + l.name()
}

// name is the contender's; of another build it has its label.
func (l lane) name() string {
	if l.build.label == "" {
		return l.contender.name
	}
	return l.contender.name + " (" + l.build.label + ")"
}

func (t table) label(l lane) string {
	if !t.byWorkload {
		return l.name()
	}
	if l.build.label == "" {
		return l.workload.name
	}
	return l.workload.name + " (" + l.build.label + ")"
}

// at puts contenders to work on a fresh file system.
func at(w workload, kind string, contenders ...contender) (lanes []lane) {
	return in(setting{}, w, kind, contenders...)
}

func in(s setting, w workload, kind string, contenders ...contender) (lanes []lane) {
	for _, c := range contenders {
		lanes = append(lanes, lane{setting: s, workload: w, kind: kind, contender: c})
	}
	return lanes
}

func on(w workload, kind string) string { return w.name + " on " + kind }

// allRows is everything that is measured. To measure more, add to it.
func allRows(s sizes, f fioSettings) []row {
	w := workloadsOf(s)
	return []row{
		{1, "large files, against fio doing the same I/O", againstFio(w, f)},
		{2, "large files, against copies that do not verify", bothSets(w, seconds,
			fasterBy(1.3, ours, "than the fastest", names(unverified())...),
			fasterBy(2, ours, "than cp, rsync, rclone, fpsync", cp, rsync, rclone, fpsync))},
		{3, "small files, against copies that do not verify", []table{
			againstUnverified(w.small, "ext4", seconds, fasterBy(1.3, ours, "than the fastest", names(unverified())...)),
			againstUnverified(w.small, "xfs", seconds, fasterBy(1.1, ours, "than the fastest", names(unverified())...)),
		}},
		{4, "against copies that verify", []table{againstVerified(w.set, 2), againstVerified(w.small, 3)}},
		{5, "a mixed shard, against copies that do not verify", []table{
			againstUnverified(w.mixed, "ext4", seconds, fasterBy(1.2, ours, "than the fastest", names(unverified())...)),
		}},
		{6, "CPU, all hashing included", bothSets(w, cpu, below(0.5, ours, cpu))},
		{7, "a slow source", []table{slowTable(w.slowOne), slowTable(w.slowMany)}},
		{8, "memory", []table{memoryTable(w.sparse), memoryTable(w.many)}},
		{9, "page cache left behind", slices.Concat(cacheTables(w.set), cacheTables(w.small))},
		{10, "nothing to copy, nothing to delete", []table{callsTable(w.few, s)}},
		{11, "removal", removalTables(w.small)},
		{12, "clone on the same file system", []table{cloneTable(w.one, "xfs"), cloneTable(w.one, "btrfs")}},
		{13, "time as work grows", []table{growthTable("files", w.moreFiles, perFile), growthTable("bytes", w.moreBytes, perGiB)}},
		{14, "who reads from the SSD meanwhile", []table{readersTable(w.set, s)}},
		{15, "verifying what is there", scrubTables(w, f)},
	}
}

func againstFio(w workloads, f fioSettings) (tables []table) {
	for _, w := range []workload{w.set, w.one} {
		tables = append(tables, table{
			title: on(w, "ext4"), quantity: seconds,
			lanes:   at(w, "ext4", tool(), fioOf(w, f)),
			targets: []target{atMost(1.05, ours, fioSame)},
		})
	}
	return tables
}

// bothSets are the large files.
func bothSets(w workloads, q quantity, targets ...target) []table {
	return []table{againstUnverified(w.set, "ext4", q, targets...), againstUnverified(w.one, "ext4", q, targets...)}
}

func againstUnverified(w workload, kind string, q quantity, targets ...target) table {
	return table{title: on(w, kind), quantity: q, lanes: at(w, kind, append([]contender{tool()}, unverified()...)...), targets: targets}
}

func againstVerified(w workload, least float64) table {
	return table{
		title: on(w, "ext4"), quantity: seconds,
		lanes:   at(w, "ext4", append([]contender{tool()}, verified()...)...),
		targets: []target{fasterBy(least, ours, "than the fastest", names(verified())...)},
	}
}

func slowTable(w workload) table {
	return table{
		title: on(w, "ext4") + fmt.Sprintf(", source limited to %d MB/s", slowRate/1_000_000), quantity: seconds,
		lanes:   in(setting{name: "slow", slow: true}, w, "ext4", slowSource()...),
		targets: []target{atMost(1.03, ours, readAlone)},
	}
}

func memoryTable(w workload) table {
	return table{
		title: on(w, "ext4"), quantity: peak,
		lanes:   in(setting{name: "memory of " + w.name, samples: 1}, w, "ext4", measuringMemory()),
		targets: []target{below(128, ours, peak)},
	}
}

func cacheTables(w workload) []table {
	contenders := []contender{watchingCache(tool()), watchingCache(unverified()[0])}
	lanes := in(setting{name: "page cache of " + w.name, samples: 2}, w, "ext4", contenders...)
	return []table{
		{title: on(w, "ext4"), quantity: cacheLeft, lanes: lanes, targets: []target{below(1, ours, cacheLeft)}},
		{title: on(w, "ext4") + ", a quarter of the source cached before", quantity: cacheKept, lanes: lanes, targets: []target{above(99, ours, cacheKept)}},
	}
}

func callsTable(w workload, s sizes) table {
	ready := ensure + ` && touch "$LOCKS/other.lock"`
	return table{
		title: on(w, "ext4") + ", caches warm", quantity: milliseconds,
		lanes:   in(setting{name: "calls", keep: true, warm: true, ready: ready, samples: s.Calls}, w, "ext4", calls()...),
		targets: []target{atMost(2, present, flockTrue), atMost(2, others, flockTrue)},
	}
}

func removalTables(w workload) []table {
	lanes := in(setting{name: "removal"}, w, "ext4", removals()...)
	return []table{
		{title: on(w, "ext4"), quantity: seconds, lanes: lanes, targets: []target{atMost(1, removeLast, rmRF)}},
		{title: on(w, "ext4"), quantity: gone, lanes: lanes, targets: []target{below(100, removeLast, gone)}},
	}
}

func cloneTable(w workload, kind string) table {
	return table{
		title: on(w, kind), quantity: copyPhase,
		lanes:   in(setting{name: "clone", keep: true, ready: `cp -a "$SRC" "$MOUNT/shard"`}, w, kind, cloning()),
		targets: []target{below(50, ours, copyPhase)},
	}
}

func scrubTables(w workloads, f fioSettings) []table {
	return []table{
		scrubTable(w.set, append(scrubs(), fioReadOf(w.set, f)), atMost(1/0.95, scrub, fioRead)),
		scrubTable(w.small, scrubs(), fasterBy(1, scrub, "than either", xxhsum, checking)),
	}
}

func scrubTable(w workload, contenders []contender, want target) table {
	s := setting{name: "verifying " + w.name, keep: true, ready: ensure}
	return table{title: on(w, "ext4"), quantity: seconds, lanes: in(s, w, "ext4", contenders...), targets: []target{want}}
}

func growthTable(of string, all []workload, q quantity) table {
	t := table{title: "more " + of + " on ext4", quantity: q, byWorkload: true}
	var labels []string
	for _, w := range all {
		t.lanes = append(t.lanes, in(setting{name: "growth of " + of, samples: 3}, w, "ext4", tool())...)
		labels = append(labels, w.name)
	}
	t.targets = []target{flat(1.15, labels...)}
	return t
}

// chosen are the rows with these numbers; all, if there are none.
func chosen(rows []row, numbers []int) ([]row, error) {
	for _, n := range numbers {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.number == n }) {
			return nil, fmt.Errorf("row %d: wanted 1 to %d", n, rows[len(rows)-1].number)
		}
	}
	if len(numbers) == 0 {
		return rows, nil
	}
	return slices.DeleteFunc(rows, func(r row) bool { return !slices.Contains(numbers, r.number) }), nil
}

// build is a shard_to_ssd that is measured; the label of the one that the targets
// are about is empty.
type build struct{ label, path string }

// withBuilds gives the first build to every lane, and repeats those lanes that run
// shard_to_ssd with the others.
func withBuilds(rows []row, builds []build) []row {
	for _, r := range rows {
		for i, t := range r.tables {
			var lanes []lane
			for _, l := range t.lanes {
				for n, b := range builds {
					l.build = b
					if n == 0 || l.contender.uses("$BIN") {
						lanes = append(lanes, l)
					}
				}
			}
			r.tables[i].lanes = lanes
		}
	}
	return rows
}

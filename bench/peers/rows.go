package peers

import (
	"fmt"
	"slices"
)

// row is a group of tables about one promise. Notes refer to its number, so the number
// must not change.
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
	// byWorkload labels the lines by workload, for lanes that differ only in that.
	byWorkload bool
}

// lane is a contender at work in a setting. Lanes of the same key are measured once.
type lane struct {
	setting   setting
	workload  workload
	kind      string // the type of the file system on the SSD
	contender contender
	build     Build
}

// setting is how a lane differs from a plain copy to a fresh file system. Lanes with
// the same setting are run in turn.
type setting struct {
	name    string // unique; empty for a plain copy
	slow    bool   // the source has the rate slowRate
	keep    bool   // one file system for all samples
	ready   string // with keep: a command that prepares the file system, once
	warm    bool   // caches are not dropped
	samples int    // 0: as many as other lanes have
}

// turnName returns the name of the turn that the lane belongs to.
func (l lane) turnName() string {
	if l.setting.name != "" && !l.setting.slow {
		return l.setting.name + ", " + l.kind
	}
	return l.workload.name + ", " + l.kind
}

func (l lane) resultKey() string {
	return l.setting.name + "|" + l.workload.name + "|" + l.kind + "|" + l.contenderName()
}

// contenderName returns the name of the contender, with the label of the build.
func (l lane) contenderName() string { return l.withLabel(l.contender.name) }

func (l lane) withLabel(name string) string {
	if l.build.Label == "" {
		return name
	}
	return name + " (" + l.build.Label + ")"
}

// labelOf returns the label of the lane's line in the table.
func (t table) labelOf(l lane) string {
	if t.byWorkload {
		return l.withLabel(l.workload.name)
	}
	return l.contenderName()
}

// freshLanes returns lanes for contenders that copy to a fresh file system.
func freshLanes(w workload, kind string, contenders ...contender) (lanes []lane) {
	return lanesIn(setting{}, w, kind, contenders...)
}

func lanesIn(s setting, w workload, kind string, contenders ...contender) (lanes []lane) {
	for _, c := range contenders {
		lanes = append(lanes, lane{setting: s, workload: w, kind: kind, contender: c})
	}
	return lanes
}

func titleOf(w workload, kind string) string { return w.name + " on " + kind }

// allRows returns all measurements. To measure more, add to it.
func allRows(s sizes, f FioSettings) []row {
	w := workloadsOf(s)
	fastest := func(least float64) target {
		return fasterBy(least, ours, "than the fastest", contenderNames(unverifiedPeers())...)
	}
	return []row{
		{1, "large files, compared with fio doing the same I/O", fioTables(w, f)},
		{2, "large files, compared with copies that do not verify", largeTables(w, seconds,
			fastest(1.3), fasterBy(2, ours, "than cp, rsync, rclone, fpsync", cp, rsync, rclone, fpsync))},
		{3, "small files, compared with copies that do not verify", []table{
			unverifiedTable(w.small, "ext4", seconds, fastest(1.3)), unverifiedTable(w.small, "xfs", seconds, fastest(1.1)),
		}},
		{4, "compared with copies that verify", []table{verifiedTable(w.set, 2), verifiedTable(w.small, 3)}},
		{5, "a mixed shard, compared with copies that do not verify", []table{unverifiedTable(w.mixed, "ext4", seconds, fastest(1.2))}},
		{6, "CPU, with all hashing", largeTables(w, cpu, medianAtMost(0.5, ours, cpu))},
		{7, "a slow source", []table{slowTable(w.slowOne), slowTable(w.slowMany)}},
		{8, "memory", []table{memoryTable(w.sparse), memoryTable(w.many)}},
		{9, "page cache left behind", slices.Concat(cacheTables(w.set), cacheTables(w.small))},
		{10, "nothing to copy, nothing to delete", []table{callsTable(w.few, s)}},
		{11, "removal", removalTables(w.small)},
		{12, "clone on the same file system", []table{cloneTable(w.one, "xfs"), cloneTable(w.one, "btrfs")}},
		{13, "time as the work grows", []table{growthTable("files", w.moreFiles, perFile), growthTable("bytes", w.moreBytes, perGiB)}},
		{14, "reads from the SSD during a copy", []table{readerTable(w.set, s)}},
		{15, "verifying a present shard", scrubTables(w, f)},
	}
}

func fioTables(w workloads, f FioSettings) (tables []table) {
	for _, w := range []workload{w.set, w.one} {
		tables = append(tables, table{
			title: titleOf(w, "ext4"), quantity: seconds,
			lanes:   freshLanes(w, "ext4", ourTool(), fioCopy(w, f)),
			targets: []target{atMost(1.05, ours, fioSame)},
		})
	}
	return tables
}

// largeTables are a table for several large files, and a table for one.
func largeTables(w workloads, q quantity, targets ...target) []table {
	return []table{unverifiedTable(w.set, "ext4", q, targets...), unverifiedTable(w.one, "ext4", q, targets...)}
}

func unverifiedTable(w workload, kind string, q quantity, targets ...target) table {
	lanes := freshLanes(w, kind, append([]contender{ourTool()}, unverifiedPeers()...)...)
	return table{title: titleOf(w, kind), quantity: q, lanes: lanes, targets: targets}
}

func verifiedTable(w workload, least float64) table {
	return table{
		title: titleOf(w, "ext4"), quantity: seconds,
		lanes:   freshLanes(w, "ext4", append([]contender{ourTool()}, verifiedPeers()...)...),
		targets: []target{fasterBy(least, ours, "than the fastest", contenderNames(verifiedPeers())...)},
	}
}

func slowTable(w workload) table {
	return table{
		title: titleOf(w, "ext4") + fmt.Sprintf(", source limited to %d MB/s", slowRate/1_000_000), quantity: seconds,
		lanes:   lanesIn(setting{name: "slow", slow: true}, w, "ext4", slowSourceReaders()...),
		targets: []target{atMost(1.03, ours, readAlone)},
	}
}

func memoryTable(w workload) table {
	return table{
		title: titleOf(w, "ext4"), quantity: peak,
		lanes:   lanesIn(setting{name: "memory of " + w.name, samples: 1}, w, "ext4", measuredMemory()),
		targets: []target{medianAtMost(128, ours, peak)},
	}
}

func cacheTables(w workload) []table {
	contenders := []contender{measuredCache(ourTool()), measuredCache(unverifiedPeers()[0])}
	lanes := lanesIn(setting{name: "page cache of " + w.name, samples: 2}, w, "ext4", contenders...)
	return []table{
		{title: titleOf(w, "ext4"), quantity: cacheLeft, lanes: lanes, targets: []target{medianAtMost(1, ours, cacheLeft)}},
		{title: titleOf(w, "ext4") + ", a quarter of the source cached before", quantity: cacheKept, lanes: lanes,
			targets: []target{medianAtLeast(99, ours, cacheKept)}},
	}
}

func callsTable(w workload, s sizes) table {
	ready := ensure + ` && touch "$LOCKS/other.lock"`
	return table{
		title: titleOf(w, "ext4") + ", caches warm", quantity: milliseconds,
		lanes:   lanesIn(setting{name: "calls", keep: true, warm: true, ready: ready, samples: s.Calls}, w, "ext4", shortCalls()...),
		targets: []target{atMost(2, present, flockTrue), atMost(2, others, flockTrue)},
	}
}

func removalTables(w workload) []table {
	lanes := lanesIn(setting{name: "removal"}, w, "ext4", removalTools()...)
	return []table{
		{title: titleOf(w, "ext4"), quantity: seconds, lanes: lanes, targets: []target{atMost(1, removeLast, rmRF)}},
		{title: titleOf(w, "ext4"), quantity: gone, lanes: lanes, targets: []target{medianAtMost(100, removeLast, gone)}},
	}
}

func cloneTable(w workload, kind string) table {
	return table{
		title: titleOf(w, kind), quantity: copyPhase,
		lanes:   lanesIn(setting{name: "clone", keep: true, ready: `cp -a "$SRC" "$MOUNT/shard"`}, w, kind, cloningTool()),
		targets: []target{medianAtMost(50, ours, copyPhase)},
	}
}

func scrubTables(w workloads, f FioSettings) []table {
	return []table{
		scrubTable(w.set, append(scrubTools(), fioReadBack(w.set, f)), atMost(1/0.95, scrub, fioRead)),
		scrubTable(w.small, scrubTools(), fasterBy(1, scrub, "than either", xxhsum, checking)),
	}
}

func scrubTable(w workload, contenders []contender, want target) table {
	s := setting{name: "verifying " + w.name, keep: true, ready: ensure}
	return table{title: titleOf(w, "ext4"), quantity: seconds, lanes: lanesIn(s, w, "ext4", contenders...), targets: []target{want}}
}

func growthTable(of string, all []workload, q quantity) table {
	t := table{title: "more " + of + " on ext4", quantity: q, byWorkload: true}
	var labels []string
	for _, w := range all {
		t.lanes = append(t.lanes, lanesIn(setting{name: "growth of " + of, samples: 3}, w, "ext4", ourTool())...)
		labels = append(labels, w.name)
	}
	t.targets = []target{spreadAtMost(1.15, labels...)}
	return t
}

// selectRows returns the rows with these numbers, or all rows for no numbers.
func selectRows(rows []row, numbers []int) ([]row, error) {
	for _, n := range numbers {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.number == n }) {
			return nil, fmt.Errorf("got row %d, want 1 to %d", n, rows[len(rows)-1].number)
		}
	}
	if len(numbers) == 0 {
		return rows, nil
	}
	return slices.DeleteFunc(rows, func(r row) bool { return !slices.Contains(numbers, r.number) }), nil
}

// withBuilds gives the first build to every lane. It repeats the lanes that run
// shard_to_ssd for each other build.
func withBuilds(rows []row, builds []Build) []row {
	for _, r := range rows {
		for i, t := range r.tables {
			var lanes []lane
			for _, l := range t.lanes {
				for n, b := range builds {
					l.build = b
					if n == 0 || l.contender.usesVariable("$BIN") {
						lanes = append(lanes, l)
					}
				}
			}
			r.tables[i].lanes = lanes
		}
	}
	return rows
}

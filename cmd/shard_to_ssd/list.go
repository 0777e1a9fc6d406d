package main

import (
	"fmt"
	"strings"

	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/verify"
)

// listText returns the output of --list: a line for each shard, and below it,
// indented, a line "word: value" for each detail.
func listText(shards []shardInfo) string {
	var text strings.Builder
	for _, shard := range shards {
		fmt.Fprintf(&text, "%s: %s", oneLine(shard.Name), shard.State)
		if shard.Published != nil || shard.Files > 0 {
			fmt.Fprintf(&text, ", %s in %s", humanize.Size(shard.Bytes), humanize.Count(shard.Files, "file"))
		}
		text.WriteString("\n")
		for _, detail := range shardDetails(shard) {
			fmt.Fprintf(&text, "  %-10s %s\n", detail.word+":", oneLine(detail.value))
		}
	}
	return text.String()
}

type shardDetail struct{ word, value string }

func shardDetails(shard shardInfo) []shardDetail {
	var details []shardDetail
	for _, user := range shard.Users { // a line each: only a newline cannot be part of an id
		details = append(details, shardDetail{"user", user})
	}
	if shard.Source != "" {
		details = append(details, shardDetail{"source", shard.Source})
	}
	if shard.Published != nil {
		details = append(details,
			shardDetail{"published", humanize.Time(*shard.Published)},
			shardDetail{"verified", lastVerified(shard)})
	}
	if shard.Damaged != nil {
		details = append(details, shardDetail{"damaged", lastDamaged(shard)})
	}
	if shard.Stage {
		details = append(details, shardDetail{"stage", stageState(shard)})
	}
	if shard.TrashTrees > 0 {
		details = append(details, shardDetail{"trash", humanize.Count(shard.TrashTrees, "tree")})
	}
	return details
}

func lastVerified(shard shardInfo) string {
	if shard.Verified == nil {
		return "not since it was published"
	}
	return fmt.Sprintf("%s, read back %s", humanize.Time(*shard.Verified), firstOf(string(shard.ReadBack), "in an unknown mode"))
}

// lastDamaged describes the last damage, and reports whether a verification since
// then found none.
func lastDamaged(shard shardInfo) string {
	text := fmt.Sprintf("%s, %s, read back %s", humanize.Time(*shard.Damaged),
		humanize.Count(shard.Differences, "difference"), firstOf(string(shard.DamagedReadBack), "in an unknown mode"))
	if shard.Verified != nil && shard.Verified.After(*shard.Damaged) {
		text += ", no damage since"
	}
	return text
}

func stageState(shard shardInfo) string {
	state := "interrupted"
	if shard.Copying {
		state = "being copied now"
	}
	return fmt.Sprintf("%s of %s (%d%%), %s",
		humanize.Size(shard.StageBytes), humanize.Size(shard.StageTotal), percent(shard.StageBytes, shard.StageTotal), state)
}

// differencesText returns the lines that --verify prints for damage: "kind path"
// and details. Paths begin with prefix. The count includes the differences that
// are not listed.
func differencesText(prefix string, differences []verify.Difference, count int64) string {
	var text strings.Builder
	for _, d := range differences {
		fmt.Fprintf(&text, "%s %s", d.Kind, oneLine(prefix+d.Path))
		if d.Side != "" {
			fmt.Fprintf(&text, " [%s]", d.Side)
		}
		if d.Detail != "" {
			fmt.Fprintf(&text, ": %s", oneLine(d.Detail))
		}
		for i, r := range d.Ranges {
			separator := ","
			if i == 0 {
				separator = ": bytes"
			}
			fmt.Fprintf(&text, "%s %d-%d", separator, r.From, r.To)
		}
		text.WriteString("\n")
	}
	if more := count - int64(len(differences)); more > 0 {
		fmt.Fprintf(&text, "… and %d more\n", more)
	}
	return text.String()
}

// repairsText returns the lines that --repair prints: "action path" for each entry
// that was repaired, or would be. The count includes the repairs that are not
// listed.
func repairsText(repairs []repairedEntry, count int64) string {
	var text strings.Builder
	for _, r := range repairs {
		fmt.Fprintf(&text, "%s %s\n", r.Action, oneLine(r.Path))
	}
	if more := count - int64(len(repairs)); more > 0 {
		fmt.Fprintf(&text, "… and %d more\n", more)
	}
	return text.String()
}

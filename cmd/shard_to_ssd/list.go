package main

import (
	"fmt"
	"strings"
	"time"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/verify"
)

// listText is what --list prints: a line for each shard, and below it, indented,
// a line for each thing known of it, "word: value".
func listText(shards []shardtossd.ShardInfo) string {
	var text strings.Builder
	for _, shard := range shards {
		fmt.Fprintf(&text, "%s: %s", oneLine(shard.Name), shard.State)
		if shard.Published != nil || shard.Files > 0 {
			fmt.Fprintf(&text, ", %s in %d files", humanize.Size(shard.Bytes), shard.Files)
		}
		text.WriteString("\n")
		for _, detail := range shardDetails(shard) {
			fmt.Fprintf(&text, "  %-10s %s\n", detail.word+":", oneLine(detail.value))
		}
	}
	return text.String()
}

type shardDetail struct{ word, value string }

func shardDetails(shard shardtossd.ShardInfo) []shardDetail {
	var details []shardDetail
	for _, user := range shard.Users { // a line each: an id may hold anything else
		details = append(details, shardDetail{"user", user})
	}
	if shard.Source != "" {
		details = append(details, shardDetail{"source", shard.Source})
	}
	if shard.Published != nil {
		details = append(details,
			shardDetail{"published", shard.Published.Format(time.RFC3339)},
			shardDetail{"verified", lastVerified(shard)})
	}
	if shard.Damaged != nil {
		details = append(details, shardDetail{"damaged", lastDamaged(shard)})
	}
	if shard.Stage {
		details = append(details, shardDetail{"stage", stageState(shard)})
	}
	if shard.TrashTrees > 0 {
		details = append(details, shardDetail{"trash", fmt.Sprintf("%d trees", shard.TrashTrees)})
	}
	return details
}

func lastVerified(shard shardtossd.ShardInfo) string {
	if shard.Verified == nil {
		return "never since then"
	}
	return fmt.Sprintf("%s, read back %s", shard.Verified.Format(time.RFC3339), firstOf(shard.ReadBack, "in an unknown mode"))
}

// lastDamaged says what was found when, and whether a verification since then was
// without damage.
func lastDamaged(shard shardtossd.ShardInfo) string {
	text := fmt.Sprintf("%s, %d differences, read back %s", shard.Damaged.Format(time.RFC3339), shard.Differences, firstOf(shard.DamagedReadBack, "in an unknown mode"))
	if shard.Verified != nil && shard.Verified.After(*shard.Damaged) {
		text += ", not any more"
	}
	return text
}

func stageState(shard shardtossd.ShardInfo) string {
	state := "interrupted"
	if shard.Copying {
		state = "being copied now"
	}
	return fmt.Sprintf("%s of %s (%d%%), %s",
		humanize.Size(shard.StageBytes), humanize.Size(shard.StageTotal), percent(shard.StageBytes, shard.StageTotal), state)
}

// differencesText is what --verify prints of damage: a line for each difference,
// "kind path", and what was found; all are count. Paths begin with prefix.
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

// repairsText is what --repair prints of what it did, or would do: a line for each
// entry, "action path"; all are count.
func repairsText(repairs []shardtossd.Mended, count int64) string {
	var text strings.Builder
	for _, r := range repairs {
		fmt.Fprintf(&text, "%s %s\n", r.Action, oneLine(r.Path))
	}
	if more := count - int64(len(repairs)); more > 0 {
		fmt.Fprintf(&text, "… and %d more\n", more)
	}
	return text.String()
}

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"time"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/verify"
)

// jsonResult is the object that --json prints: the result of any operation. Sizes are
// bytes, durations seconds, times RFC 3339. docs/json.md explains every field.
type jsonResult struct {
	Operation string `json:"operation"` // the mode
	Shard     string `json:"shard,omitempty"`
	Outcome   string `json:"outcome,omitempty"` // empty after a failure
	Status    int    `json:"status"`            // exit status
	Error     string `json:"error,omitempty"`

	Files        int64   `json:"files"`
	Bytes        int64   `json:"bytes"`
	ResumedBytes int64   `json:"resumed_bytes"`
	Seconds      float64 `json:"seconds"`
	LockSeconds  float64 `json:"lock_seconds"`

	Choices  []choice         `json:"choices,omitempty"`
	Phases   []phase          `json:"phases,omitempty"`
	Engines  map[string]usage `json:"engines,omitempty"`
	ReadBack string           `json:"read_back,omitempty"`
	Jobs     int              `json:"jobs,omitempty"`
	Stale    bool             `json:"stale"`

	Differences     []verify.Difference `json:"differences,omitempty"`
	DifferenceCount int64               `json:"difference_count,omitempty"`
	FilesRead       int64               `json:"files_read,omitempty"`
	BytesRead       int64               `json:"bytes_read,omitempty"`

	Scrub *scrubCounts `json:"scrub,omitempty"`

	Dir          string           `json:"dir,omitempty"`
	Manifest     string           `json:"manifest,omitempty"`
	BadLines     []verify.BadLine `json:"bad_lines,omitempty"`
	BadLineCount int64            `json:"bad_line_count,omitempty"`
	Unlisted     int64            `json:"unlisted,omitempty"`

	SourceState       string `json:"source_state,omitempty"`
	SourceDifferences int64  `json:"source_difference_count,omitempty"`

	Repairs     []repairedEntry `json:"repairs,omitempty"`
	RepairCount int64           `json:"repair_count,omitempty"`

	Shards []shardInfo `json:"shards,omitempty"`
}

type choice struct {
	What  string `json:"what"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

type phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes,omitempty"`
}

type usage struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

type scrubCounts struct {
	Shards       int `json:"shards"`
	Verified     int `json:"verified"`
	Damaged      int `json:"damaged"`
	Skipped      int `json:"skipped"`
	Failed       int `json:"failed"`
	NotPublished int `json:"not_published"`
	Gone         int `json:"gone"`
	Left         int `json:"left"`
}

type repairedEntry struct {
	Path   string                  `json:"path"`
	Action shardtossd.RepairAction `json:"action"`
}

type shardInfo struct {
	Name      string           `json:"name"`
	State     shardtossd.State `json:"state"`
	Users     []string         `json:"users"`
	Files     int64            `json:"files"`
	Bytes     int64            `json:"bytes"`
	Source    string           `json:"source,omitempty"`
	Published *time.Time       `json:"published,omitempty"`

	Verified *time.Time      `json:"verified,omitempty"`
	ReadBack verify.ReadMode `json:"read_back,omitempty"`

	Damaged         *time.Time      `json:"damaged,omitempty"`
	DamagedReadBack verify.ReadMode `json:"damaged_read_back,omitempty"`
	Differences     int64           `json:"differences,omitempty"`

	Stage      bool  `json:"stage"`
	StageBytes int64 `json:"stage_bytes"`
	StageTotal int64 `json:"stage_total"`
	Copying    bool  `json:"copying"`
	TrashTrees int   `json:"trash_trees"`
}

func newResult(m mode, s shardtossd.Summary) *jsonResult {
	r := &jsonResult{Operation: string(m), Shard: s.Shard, Outcome: string(s.Outcome), Jobs: s.Jobs,
		Seconds: s.Duration.Seconds(), LockSeconds: s.LockWait.Seconds()}
	for _, c := range s.Choices {
		r.Choices = append(r.Choices, choice(c))
	}
	return r
}

// addTransfer adds how a copy was made.
func (r *jsonResult) addTransfer(t shardtossd.Transfer) {
	r.ResumedBytes = t.ResumedBytes
	for _, p := range t.Phases {
		r.Phases = append(r.Phases, phase{p.Name, p.Duration.Seconds(), p.Bytes})
	}
	for name, used := range t.Engines {
		if r.Engines == nil {
			r.Engines = map[string]usage{}
		}
		r.Engines[name] = usage(used)
	}
}

// addComparison adds what was compared, and the differences.
func (r *jsonResult) addComparison(c shardtossd.Comparison) {
	r.Files, r.Bytes, r.FilesRead, r.BytesRead = c.Files, c.Bytes, c.FilesRead, c.BytesRead
	r.ReadBack = string(c.ReadBack)
	r.Differences, r.DifferenceCount = c.Differences, c.DifferenceCount
}

// jsonText returns the object for a result, which is nil if the command line was wrong.
func jsonText(c command, r *jsonResult, status int, err error) string {
	object := jsonResult{Operation: string(c.mode)}
	if c.settings.Shard != "" {
		object.Shard = oneLine(filepath.Base(c.settings.Shard))
	}
	if r != nil {
		object = *r
	}
	object.Status = status
	if err != nil {
		object.Error = oneLine(err.Error())
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		// JSON has no word for some numbers, such as a rate of 0/0. A caller needs the
		// status most.
		object = jsonResult{Operation: object.Operation, Shard: object.Shard, Status: max(status, statusFailed), Error: err.Error()}
		_ = encoder.Encode(object)
	}
	return text.String()
}

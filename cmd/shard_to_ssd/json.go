package main

import (
	"encoding/json"
	"path/filepath"
	"strings"

	shardtossd "shard_to_ssd"
)

// jsonText is the object that --json prints: the Result, also of an operation
// that failed before it had one.
func jsonText(c command, result *shardtossd.Result, status int, err error) string {
	r := shardtossd.Result{Operation: string(c.mode)}
	if c.options.Shard != "" {
		r.Shard = oneLine(filepath.Base(c.options.Shard))
	}
	if result != nil {
		r = *result
	}
	r.Status = status
	if err != nil {
		r.Error = oneLine(err.Error())
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		// A number that JSON has no word for, such as a rate of 0/0. The status is
		// what a caller needs most.
		r = shardtossd.Result{Operation: r.Operation, Shard: r.Shard, Status: max(status, statusFailed), Error: err.Error()}
		_ = encoder.Encode(r)
	}
	return text.String()
}

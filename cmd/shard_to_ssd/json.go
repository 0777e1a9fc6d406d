package main

import (
	"encoding/json"
	"path/filepath"
	"strings"

	shardtossd "shard_to_ssd"
)

// jsonText returns the object that --json prints. An operation that failed before
// it had a result gets an object too.
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
		// A number that JSON cannot express, such as a rate of 0/0. A caller needs the
		// status most.
		r = shardtossd.Result{Operation: r.Operation, Shard: r.Shard, Status: max(status, statusFailed), Error: err.Error()}
		_ = encoder.Encode(r)
	}
	return text.String()
}

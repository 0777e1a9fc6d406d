package main

import (
	"strconv"

	"shard_to_ssd/internal/humanize"
)

// byteRate is the value of --bwlimit, in bytes a second.
type byteRate int64

// Set parses a number of bytes with an optional suffix.
func (r *byteRate) Set(text string) error {
	n, err := humanize.ParseSize(text)
	*r = byteRate(n)
	return err
}

func (r *byteRate) String() string { return strconv.FormatInt(int64(*r), 10) }

// Type returns the name of the value, for pflag.
func (r *byteRate) Type() string { return "RATE" }

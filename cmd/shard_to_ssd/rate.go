package main

import (
	"shard_to_ssd/internal/humanize"
	"strconv"
)

// byteRate is a number of bytes a second, as --bwlimit takes it.
type byteRate int64

// Set is humanize.ParseSize.
func (r *byteRate) Set(text string) error {
	n, err := humanize.ParseSize(text)
	*r = byteRate(n)
	return err
}

func (r *byteRate) String() string { return strconv.FormatInt(int64(*r), 10) }

// Type is the word for the value in a usage line.
func (r *byteRate) Type() string { return "RATE" }

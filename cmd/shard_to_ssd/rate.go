package main

import (
	"strconv"

	shardtossd "shard_to_ssd"
)

// byteRate is a number of bytes a second, as --bwlimit takes it.
type byteRate int64

// Set is shardtossd.ParseSize.
func (r *byteRate) Set(text string) error {
	n, err := shardtossd.ParseSize(text)
	*r = byteRate(n)
	return err
}

func (r *byteRate) String() string { return strconv.FormatInt(int64(*r), 10) }

// Type is the word for the value in a usage line.
func (r *byteRate) Type() string { return "RATE" }

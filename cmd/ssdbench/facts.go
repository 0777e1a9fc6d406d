package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/facts"
)

// heatEvery is how often the temperature of the device is read.
const heatEvery = time.Second

// watchFacts finds out what device is measured, and its temperature until known is
// called, which returns all that.
func watchFacts(target string, hideSerial bool) (known func() bench.Facts, err error) {
	f, err := facts.Look(facts.Roots{}, target, hideSerial)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	ticker, heat := time.NewTicker(heatEvery), make(chan []bench.Heat, 1)
	began := time.Now()
	go func() { heat <- facts.FindThermometer(facts.Roots{}, target).Watch(ctx, began, ticker.C) }()
	return func() bench.Facts {
		stop()
		ticker.Stop()
		f.Heat = <-heat
		return f
	}, nil
}

// sameDrive reports whether two paths are on one drive, as far as is known.
func sameDrive(a, b string) bool {
	x, y := driveOf(a), driveOf(b)
	return x != nil && y != nil && *x == *y
}

func driveOf(path string) *string {
	if is, err := os.Stat(path); err == nil && !is.IsDir() {
		path = filepath.Dir(path)
	}
	f, err := facts.Look(facts.Roots{}, path, true)
	if err != nil {
		return nil
	}
	return f.Device
}

package facts

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"shard_to_ssd/bench"
)

// heatEvery is how often the temperature of the device is read.
const heatEvery = time.Second

// Watch finds out what device a directory is on, and its temperature until known is
// called, which returns all that. It fails only if target cannot be opened.
func Watch(target string, hideSerial bool) (known func() bench.Facts, err error) {
	f, err := Look(Roots{}, target, hideSerial)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	ticker, heat := time.NewTicker(heatEvery), make(chan []bench.Heat, 1)
	began := time.Now()
	go func() { heat <- FindThermometer(Roots{}, target).Watch(ctx, began, ticker.C) }()
	return func() bench.Facts {
		stop()
		ticker.Stop()
		f.Heat = <-heat
		return f
	}, nil
}

// SameDrive reports whether two paths are on one drive, as far as is known.
func SameDrive(a, b string) bool {
	x, y := driveOf(a), driveOf(b)
	return x != nil && y != nil && *x == *y
}

func driveOf(path string) *string {
	if is, err := os.Stat(path); err == nil && !is.IsDir() {
		path = filepath.Dir(path)
	}
	f, err := Look(Roots{}, path, true)
	if err != nil {
		return nil
	}
	return f.Device
}

package facts

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"shard_to_ssd/bench"
)

// heatInterval is the time between two readings of the temperature.
const heatInterval = time.Second

// Watch collects the facts of the target's device and of the machine, and then reads the
// temperature of the device. The returned function ends that and returns all facts. Watch
// fails only if target cannot be opened. It is meant for bench.Config.WatchFacts.
func Watch(target string, o Options) (known func() bench.Facts, err error) {
	f, err := Collect(target, o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	ticker, heat := time.NewTicker(heatInterval), make(chan []bench.Temperature, 1)
	began := time.Now()
	go func() { heat <- FindThermometer(target, o).WatchHeat(ctx, began, ticker.C) }()
	return func() bench.Facts {
		stop()
		ticker.Stop()
		f.Temperatures = <-heat
		return f
	}, nil
}

// SameDrive reports whether two paths are on the same drive. It reports false if a drive
// is unknown.
func SameDrive(a, b string) bool {
	x, y := deviceOf(a), deviceOf(b)
	return x != nil && y != nil && *x == *y
}

func deviceOf(path string) *string {
	if is, err := os.Stat(path); err == nil && !is.IsDir() {
		path = filepath.Dir(path)
	}
	f, err := Collect(path, Options{HideSerial: true})
	if err != nil {
		return nil
	}
	return f.Device
}

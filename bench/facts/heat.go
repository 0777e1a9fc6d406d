package facts

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/sys"
)

// Thermometer is that of a drive. A nil one knows no temperature.
type Thermometer struct{ dir string } // of hwmon

// FindThermometer looks for the one of the drive that dir is on, nil if it has none.
func FindThermometer(at Roots, dir string) *Thermometer {
	d, err := sys.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer d.Close()
	var through bench.Facts
	disk, found := at.disk(at.mountOf(d), &through)
	if !found || disk.drive == "" {
		return nil
	}
	return disk.thermometer()
}

// thermometer looks where kernels of different age have it: at the controller, and
// before Linux 5.9 at the PCI device.
func (d disk) thermometer() *Thermometer {
	for _, pattern := range []string{"hwmon*", "hwmon/hwmon*", "device/hwmon/hwmon*"} {
		dirs, _ := filepath.Glob(filepath.Join(d.drive, pattern))
		for _, dir := range dirs {
			name := text(filepath.Join(dir, "name"))
			if name != nil && (*name == "nvme" || *name == "drivetemp") {
				return &Thermometer{dir}
			}
		}
	}
	return nil
}

// Read is the temperature now; ok is false if the drive does not say.
func (t *Thermometer) Read() (heat bench.Heat, ok bool) {
	if t == nil {
		return heat, false
	}
	milli := number(filepath.Join(t.dir, "temp1_input"))
	if milli == nil {
		return heat, false
	}
	heat.Celsius = float64(*milli) / 1000
	if n := number(filepath.Join(t.dir, "temp1_alarm")); n != nil {
		alarm := *n != 0
		heat.Alarm = &alarm
	}
	return heat, true
}

// Watch reads the temperature whenever there is a tick, until ctx is done or there are
// no more. Times are from began. What could not be read is left out.
func (t *Thermometer) Watch(ctx context.Context, began time.Time, ticks <-chan time.Time) (list []bench.Heat) {
	if t == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return list
		case now, more := <-ticks:
			if !more {
				return list
			}
			if heat, ok := t.Read(); ok {
				heat.Second = now.Sub(began).Seconds()
				list = append(list, heat)
			}
		}
	}
}

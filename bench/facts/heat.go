package facts

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"shard_to_ssd/bench"
	"shard_to_ssd/internal/sys"
)

// Thermometer reads the temperature of a drive. A nil Thermometer knows no temperature.
type Thermometer struct{ dir string } // of hwmon

// FindThermometer returns the thermometer of the drive below dir, or nil if the drive
// has none.
func FindThermometer(dir string, o Options) *Thermometer {
	d, err := sys.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer d.Close()
	var layers bench.Facts
	disk, found := o.findDisk(o.findMount(d), &layers)
	if !found || disk.drive == "" {
		return nil
	}
	return disk.findThermometer()
}

// findThermometer searches in the places of all kernels: at the controller, and before
// Linux 5.9 at the PCI device.
func (d disk) findThermometer() *Thermometer {
	for _, pattern := range []string{"hwmon*", "hwmon/hwmon*", "device/hwmon/hwmon*"} {
		dirs, _ := filepath.Glob(filepath.Join(d.drive, pattern))
		for _, dir := range dirs {
			name := readText(filepath.Join(dir, "name"))
			if name != nil && (*name == "nvme" || *name == "drivetemp") {
				return &Thermometer{dir}
			}
		}
	}
	return nil
}

// ReadHeat returns the temperature now, in degrees Celsius, and whether it is known.
func (t *Thermometer) ReadHeat() (heat bench.Temperature, ok bool) {
	if t == nil {
		return heat, false
	}
	milli := readNumber(filepath.Join(t.dir, "temp1_input"))
	if milli == nil {
		return heat, false
	}
	heat.Celsius = float64(*milli) / 1000
	if n := readNumber(filepath.Join(t.dir, "temp1_alarm")); n != nil {
		alarm := *n != 0
		heat.Alarm = &alarm
	}
	return heat, true
}

// WatchHeat reads the temperature at each tick, until ctx ends or ticks is closed. Times
// count from began. It leaves out a temperature that it cannot read.
func (t *Thermometer) WatchHeat(ctx context.Context, began time.Time, ticks <-chan time.Time) (list []bench.Temperature) {
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
			if heat, ok := t.ReadHeat(); ok {
				heat.Second = now.Sub(began).Seconds()
				list = append(list, heat)
			}
		}
	}
}

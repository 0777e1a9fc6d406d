// Package humanize writes and reads numbers, times and counts as people do. All
// output of the programs uses these forms.
package humanize

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Time formats a time for people and machines: RFC 3339, in UTC.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ExactTime formats a time with the nanoseconds that tell two times apart.
func ExactTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Count formats a number of things: "1 file", "2 files". The plural of the noun
// is formed with an s, or with es after s and x.
func Count[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	plural := "s"
	if strings.HasSuffix(noun, "s") || strings.HasSuffix(noun, "x") {
		plural = "es"
	}
	if strings.HasSuffix(noun, "ry") {
		noun, plural = strings.TrimSuffix(noun, "y"), "ies"
	}
	return fmt.Sprintf("%d %s%s", n, noun, plural)
}

// Size formats a number of bytes in binary units: "512 B", "1.5 MiB".
func Size(bytes int64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/1024, 0
	for value >= 1024 && unit < len("KMGTPE")-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
}

// ParseSize reads a number of bytes, or of bytes a second: 250000, 300M, 1.5GiB,
// 800MB. K, M, G and T are powers of 1024, as with rsync and rclone; a B after
// them makes them powers of 1000, as drives are sold.
func ParseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "KMGTiB")
	unit, known := sizeUnits[text[len(number):]]
	value, err := strconv.ParseFloat(number, 64)
	if !known || err != nil || strings.ContainsAny(number, "+-eExXpPnN_") || value*unit >= 1<<62 || (value > 0 && value*unit < 1) {
		return 0, fmt.Errorf("%q is not a number of bytes such as 250000, 300M, 1.5GiB or 800MB", text)
	}
	return int64(value * unit), nil
}

var sizeUnits = map[string]float64{
	"": 1, "B": 1,
	"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

// Age formats a duration for people: in days if it is a whole number of days.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

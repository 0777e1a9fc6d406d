package shardtossd

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseSize understands a number of bytes, or of bytes a second, as people write it:
// 250000, 300M, 1.5GiB, 800MB. K, M, G and T are powers of 1024, as with rsync and
// rclone; a B behind them makes them powers of 1000, as drives are sold.
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

// FormatSize is a number of bytes for people, in binary units.
func FormatSize(bytes int64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/1024, 0
	for value >= 1024 && unit < len("KMGTPE")-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
}

// formatAge is an age for people: in days if it is some whole ones.
func formatAge(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

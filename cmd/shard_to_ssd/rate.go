package main

import (
	"fmt"
	"strconv"
	"strings"
)

// byteRate is a number of bytes a second, as --bwlimit takes it: 300M, 1.5GiB, 800MB,
// 250000.
type byteRate int64

// Set reads a number and its suffix. K, M, G and T are powers of 1024, as with rsync
// and rclone; a B behind them makes them powers of 1000, as drives are sold.
func (r *byteRate) Set(text string) error {
	number := strings.TrimRight(text, "KMGTiB")
	unit, known := rateUnits[text[len(number):]]
	value, err := strconv.ParseFloat(number, 64)
	if !known || err != nil || strings.ContainsAny(number, "+-eExXpPnN_") || value*unit >= 1<<62 || (value > 0 && value*unit < 1) {
		return fmt.Errorf("%q is not a rate such as 250000, 300M, 1.5GiB or 800MB", text)
	}
	*r = byteRate(value * unit)
	return nil
}

var rateUnits = map[string]float64{
	"": 1, "B": 1,
	"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

func (r *byteRate) String() string { return strconv.FormatInt(int64(*r), 10) }

// Type is the word for the value in a usage line.
func (r *byteRate) Type() string { return "RATE" }

package main

import "testing"

func TestRates(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "250000": 250000, "1K": 1024, "300M": 300 << 20, "1.5G": 3 << 29, "1.5GiB": 3 << 29, "800MB": 800e6, "2T": 2 << 40, "7B": 7,
	} {
		var r byteRate
		if err := r.Set(text); err != nil || int64(r) != want {
			t.Errorf("%q: got %d, %v, wanted %d", text, r, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1e3", "0x10", "1 M", "1m", "1MiBB", "inf", "nan", "1M/s", "9999999T", "1_000", "+5", "1iB", "0.5"} {
		var r byteRate
		if err := r.Set(text); err == nil {
			t.Errorf("%q: taken as %d", text, r)
		}
	}
}

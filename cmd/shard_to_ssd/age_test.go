package main

import (
	"testing"
	"time"
)

func TestParseAge(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "7d": 7 * day, "2w": 14 * day, "1w2d": 9 * day, "1d12h": day + 12*time.Hour, "90m": 90 * time.Minute, "1w1s": 7*day + time.Second, "1.5h": 90 * time.Minute,
	} {
		var a age
		if err := a.Set(text); err != nil || time.Duration(a) != want {
			t.Errorf("%q: got %v, %v, want %v", text, time.Duration(a), err, want)
		}
	}
	for _, text := range []string{"", "7", "d", "-7d", "1d-1h", "1.5d", "7days", "1d1w", "1d1d", "+1h", "1d+1h", "99999w", "2562047h3d", " 7d", "7d "} {
		var a age
		if err := a.Set(text); err == nil {
			t.Errorf("%q was accepted as %v", text, time.Duration(a))
		}
	}
}

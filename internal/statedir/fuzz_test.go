package statedir

import (
	"strings"
	"testing"

	"shard_to_ssd/verify"
)

// FuzzParseVerifyRecord reads records of any text: a record as it is written, or
// nothing.
func FuzzParseVerifyRecord(f *testing.F) {
	const whole = "2026-01-02T03:04:05.5Z direct 3 77 1700000000.000000001 2026-01-01T00:00:00Z\n"
	for _, record := range []string{whole, "", "\n", whole[:20], whole + "\n", " " + whole, strings.Replace(whole, "direct", "-", 1), strings.Replace(whole, "direct", "\x1b[31m", 1),
		strings.Replace(whole, ".5Z", "+24:00", 1), strings.Replace(whole, " 3 ", " -3 ", 1), strings.Replace(whole, " 3 ", " 03 ", 1)} {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record string) {
		found, ok := parseVerifyRecord(record)
		if !ok {
			if found != nil {
				t.Errorf("%q: %+v", record, found)
			}
			return
		}
		if m := found.Mode; m != verify.FromDevice && m != verify.ThroughCache && m != verify.FromCache && m != "" {
			t.Errorf("%q: mode %q", record, m)
		}
		if text := found.encode(); text != record {
			t.Errorf("%q: written again: %q", record, text)
		}
	})
}

package humanize

import (
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "250000": 250000, "1K": 1024, "300M": 300 << 20, "1.5G": 3 << 29, "1.5GiB": 3 << 29, "800MB": 800e6, "2T": 2 << 40, "7B": 7,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, wanted %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1e3", "0x10", "1 M", "1m", "1MiBB", "inf", "nan", "1M/s", "9999999T", "1_000", "+5", "1iB", "0.5"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: taken as %d", text, got)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for bytes, wanted := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1 << 62: "4.0 EiB",
	} {
		if got := Size(bytes); got != wanted {
			t.Errorf("%d: %s, wanted %s", bytes, got, wanted)
		}
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		n          int
		noun, want string
	}{{0, "file", "0 files"}, {1, "file", "1 file"}, {2, "file", "2 files"}, {2, "entry", "2 entries"}, {1, "entry", "1 entry"}, {3, "mutex", "3 mutexes"}} {
		if got := Count(c.n, c.noun); got != c.want {
			t.Errorf("Count(%d, %q) = %q, want %q", c.n, c.noun, got, c.want)
		}
	}
}

func TestTimeIsUTC(t *testing.T) {
	at := time.Date(2026, 3, 1, 1, 30, 0, 5e8, time.FixedZone("CET", 3600))
	if got, want := Time(at), "2026-03-01T00:30:00Z"; got != want {
		t.Errorf("Time = %q, want %q", got, want)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{48 * time.Hour: "2d", 36 * time.Hour: "36h0m0s", 90 * time.Minute: "1h30m0s"} {
		if got := Age(d); got != want {
			t.Errorf("Age(%v) = %q, want %q", d, got, want)
		}
	}
}

package shardtossd

import "testing"

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
		if got := FormatSize(bytes); got != wanted {
			t.Errorf("%d: %s, wanted %s", bytes, got, wanted)
		}
	}
}

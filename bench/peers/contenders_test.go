package peers

import (
	"strings"
	"testing"
)

func TestChosenSettings(t *testing.T) {
	for stdout, want := range map[string]string{
		`{"jobs":16,"read_back":"direct","engines":{"direct":{"bytes":5},"buffered":{"bytes":1}}}`: "16 jobs, engines buffered and direct, read back direct",
		`{"jobs":8,"read_back":"buffered"}`: "8 jobs, read back buffered",
	} {
		var s sample
		if err := parseJSON(place{}, []byte(stdout), &s); err != nil || s.Chose != want {
			t.Errorf("%s: got %q, %v, want %q", stdout, s.Chose, err, want)
		}
	}
	if err := parseJSON(place{}, []byte("{"), &sample{}); err == nil {
		t.Error("half an object: got nil, want an error")
	}
}

// A copy moves each byte three times: it reads, writes and reads back.
func TestUsedLimit(t *testing.T) {
	s := sample{Values: map[string]float64{"limit": 600e6}}
	if err := parseUsedLimit(0.5)(place{}, []byte(`{"bytes":200000000,"seconds":4}`), &s); err != nil {
		t.Fatal(err)
	}
	if want := "the last sample read and wrote 150 MB/s, with a limit of 300 MB/s"; s.Chose != want {
		t.Errorf("got %q, want %q", s.Chose, want)
	}
}

// Every fact about the machine has a value, on any machine.
func TestEnvironment(t *testing.T) {
	list, err := environmentOf(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.What == "" || strings.TrimSpace(f.Value) == "" || strings.Contains(f.Value, "%!") {
			t.Errorf("got fact %+v, want a name and a value", f)
		}
	}
	if len(list) < 9 {
		t.Errorf("got %d facts, want 9", len(list))
	}
}

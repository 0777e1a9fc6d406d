package report_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"

	"shard_to_ssd/bench"
	"shard_to_ssd/bench/internal/benchtest"
	"shard_to_ssd/bench/report"
)

// nowhere matches a line with an invalid coordinate.
var nowhere = regexp.MustCompile(`points="[^"]*(NaN|Inf)[^"]*"`)

// Every result that Decode accepts has a page of limited size.
func FuzzWrite(f *testing.F) {
	small := benchtest.CachedDrive().MakeResult(1)
	small.Cases, small.Ceilings = small.Cases[:2], small.Ceilings[:2]
	small.Sustained.Points, small.Facts.Temperatures = small.Sustained.Points[:3], small.Facts.Temperatures[:2]
	text, err := json.Marshal(small)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"version":1,"started":"2030-01-02T03:04:05Z","sustained":{"points":[{"offset":1,"rate":1.7e308}]},"readers":{"alone":{"p50":5e-324,"max":1e308}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := bench.Decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		var page bytes.Buffer
		if err := report.Write(&page, []*bench.Result{r, r}); err != nil {
			t.Fatal(err)
		}
		if page.Len() > 100_000+1000*len(text) {
			t.Errorf("got a page of %d bytes from a file of %d", page.Len(), len(text))
		}
		if at := nowhere.Find(page.Bytes()); at != nil {
			t.Errorf("a line has an invalid coordinate: %s", at)
		}
	})
}

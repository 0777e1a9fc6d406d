// Package report makes a page of results: one HTML file that needs no network and no
// script.
//
//  1. Summary: a sentence about each drive, and the key numbers.
//  2. Charts: throughput over time with the cliff; copies as a percentage of the ceiling;
//     ceilings; engines and block sizes; latency; temperature.
//  3. Facts, and the settings of the run.
//
// Every number is an HTML data element. It has the exact value and its origin in the file
// of the result, so that a program can compare the two.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"shard_to_ssd/bench"
)

//go:embed page.html
var page string

// MaxResults is the number of results that one page can show: it has so many colours.
const MaxResults = 4

// Write writes the page of the results. Their order selects their colours.
func Write(to io.Writer, results []*bench.Result) error {
	if len(results) == 0 || len(results) > MaxResults {
		return fmt.Errorf("a report takes 1 to %d results, got %d", MaxResults, len(results))
	}
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(to, newView(results))
}

// WriteFromFiles loads results and writes their page to file, completely or not at all,
// or to out if file is empty.
func WriteFromFiles(out io.Writer, file string, paths []string) error {
	results, err := bench.LoadAll(paths)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := Write(&text, results); err != nil {
		return err
	}
	return bench.WriteOutput(out, file, text.Bytes())
}

// Package report makes a page of results: one HTML file that needs nothing else, neither
// a network nor a script.
//
//  1. Summary: a sentence for each drive, and the numbers that decide.
//  2. Charts: throughput over time, with the cliff; how near copies come to the ceiling;
//     what the drive can do; engines and block sizes; latency; temperature.
//  3. Facts, and how it was measured.
//
// Every number is a data element that has the exact value of the file of results, and
// says what it was made from, so that it can be held against that file.
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

// Most is how many results one page can tell apart.
const Most = 4

// Write writes the page of results, which are told apart by the order they come in.
func Write(to io.Writer, results []*bench.Result) error {
	if len(results) == 0 || len(results) > Most {
		return fmt.Errorf("%d results: a report is of 1 to %d", len(results), Most)
	}
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(to, newView(results))
}

// Files is Write of files of results. The page goes to a file, whole or not at all, or,
// with an empty name, to out.
func Files(out io.Writer, file string, paths []string) error {
	var results []*bench.Result
	for _, path := range paths {
		r, err := bench.Load(path)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	var text bytes.Buffer
	if err := Write(&text, results); err != nil {
		return err
	}
	if file == "" {
		_, err := out.Write(text.Bytes())
		return err
	}
	return bench.WriteWhole(file, text.Bytes())
}

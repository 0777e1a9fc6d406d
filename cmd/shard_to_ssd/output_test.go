package main

import (
	"strings"
	"testing"

	shardtossd "shard_to_ssd"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		`INFO:shard_to_ssd:Lock on file /l/shard2.lock acquired`: `INFO:shard_to_ssd:Lock on file /l/shard2.lock acquired`,
		`a "quoted" \n name`: `a "quoted" \n name`,
		"größe 日本 \u00a0.":   "größe 日本 \u00a0.",
		"\ufffd":             "\ufffd",
		"a\nb\rc\td":         `a\nb\rc\td`,
		"\x1b[31m\x00\x7f":   `\x1b[31m\x00\x7f`,
		"\xff\x9b\xc3":       `\xff\x9b\xc3`,
		"\u2028\u202e\u0085": `\u2028\u202e\u0085`,
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// TestBarAndLines ensures that lines stay whole and the bar stays last.
func TestBarAndLines(t *testing.T) {
	var screen strings.Builder
	out := &output{stderr: &screen}
	out.Log(shardtossd.Info, "root", "before")
	out.setBar("[=>]")
	out.setBar("[=>]") // unchanged, so not drawn
	out.Log(shardtossd.Warning, "shard_to_ssd", "between")
	out.setBar("")
	out.Log(shardtossd.Error, "root", "after")
	want := "INFO:root:before\n" +
		clearLine + "[=>]" +
		clearLine + "WARNING:shard_to_ssd:between\n[=>]" +
		clearLine +
		"ERROR:root:after\n"
	if screen.String() != want {
		t.Errorf("got %q, want %q", screen.String(), want)
	}
}

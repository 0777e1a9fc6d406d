package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentLinks follows every link from a document of this repository to another
// file of it, and to a heading in that file.
func TestDocumentLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	var documents []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		documents = append(documents, files...)
	}
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			target := document
			if found[1] != "" {
				target = filepath.Join(filepath.Dir(document), found[1])
			}
			linked, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: link to %q: %v", document, found[0], err)
				continue
			}
			if found[2] != "" && !anchors(string(linked))[found[2]] {
				t.Errorf("%s: link to %q: %s has no such heading", document, found[0], target)
			}
		}
	}
}

// anchors are the names of the headings of a page, as GitHub makes them.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	dropped := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(page) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			name := dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			names[strings.ReplaceAll(name, " ", "-")] = true
		}
	}
	return names
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeExitStatuses compares the table of exit statuses in README.md with
// statusTable.
func TestReadmeExitStatuses(t *testing.T) {
	readme := readDoc(t, "README.md")
	for _, row := range statusTable() {
		if want := "| " + row.status + " | " + row.meaning; !strings.Contains(readme, want) {
			t.Errorf("README.md has no %q", want)
		}
	}
}

// TestGuaranteesNameTests ensures that every guarantee names a test, and that
// every test named in README.md and docs exists.
func TestGuaranteesNameTests(t *testing.T) {
	code := testSources(t)
	named := 0
	for _, doc := range append(globDocs(t, "docs/*.md"), "README.md") {
		for _, match := range regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(readDoc(t, doc), -1) {
			named++
			if !strings.Contains(code, "\nfunc "+match[1]+"(") {
				t.Errorf("%s names %s, which does not exist", doc, match[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("README.md and docs name only %d tests, want at least 20", named)
	}
	list := guarantees(t)
	if len(list) == 0 {
		t.Error("found no list of guarantees in docs/guarantees.md")
	}
	for _, guarantee := range list {
		if !strings.Contains(guarantee, "`Test") {
			t.Errorf("this guarantee names no test: %.60s…", guarantee)
		}
	}
}

// guarantees returns the items of the lists in docs/guarantees.md.
func guarantees(t *testing.T) []string {
	t.Helper()
	return strings.Split(readDoc(t, "docs/guarantees.md"), "\n- ")[1:]
}

// testSources returns the code of all tests.
func testSources(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "internal/*/*_test.go"} {
		files := globDocs(t, pattern)
		if len(files) == 0 {
			t.Fatalf("no files match %s", pattern)
		}
		for _, file := range files {
			code.WriteString(readDoc(t, file))
		}
	}
	return code.String()
}

// globDocs returns the files that match a pattern, below the top of the module.
func globDocs(t *testing.T, pattern string) []string {
	t.Helper()
	top := filepath.Join("..", "..")
	files, err := filepath.Glob(filepath.Join(top, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = strings.TrimPrefix(files[i], top+string(filepath.Separator))
	}
	return files
}

// readDoc reads a file below the top of the module.
func readDoc(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

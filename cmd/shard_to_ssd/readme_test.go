package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The README has every exit status in the words of --help, and every flag.
func TestReadmeIsTrue(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	for _, row := range statusTable() {
		if want := "| " + row.status + " | " + row.meaning; !strings.Contains(readme, want) {
			t.Errorf("README.md has no %q", want)
		}
	}
	var c command
	var m modeFlags
	newFlagSet(&c, &m).VisitAll(func(flag *pflag.Flag) {
		if !strings.Contains(readme, "`--"+flag.Name+"`") && !strings.Contains(readme, "`--"+flag.Name+" ") &&
			!(flag.Name == "help" && strings.Contains(readme, "`-h`")) {
			t.Errorf("README.md has no --%s", flag.Name)
		}
	})
}

// The tests that the README names as holding its guarantees are there.
func TestReadmeNamesTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "internal/*/*_test.go"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(source)
		}
	}
	named := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Errorf("README.md names only %d tests", len(named))
	}
	_, promises, _ := strings.Cut(string(text), "\n## What is guaranteed")
	promises, _, _ = strings.Cut(promises, "\n## ")
	for _, promise := range strings.Split(promises, "\n- ")[1:] {
		if !strings.Contains(promise, "`Test") {
			t.Errorf("README.md promises, and names no test: %.60s…", promise)
		}
	}
	for _, name := range named {
		if !strings.Contains(code.String(), "\nfunc "+name[1]+"(") {
			t.Errorf("README.md names %s, which there is not", name[1])
		}
	}
}

// ARCHITECTURE.md has a word for every source file.
func TestArchitectureNamesEveryFile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.go", "copier/*.go", "verify/*.go", "locking/*.go", "cmd/shard_to_ssd/*.go"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			engine := strings.HasPrefix(name, "engine_") // as one
			if !strings.HasSuffix(name, "_test.go") && !engine && !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("ARCHITECTURE.md has no word for %s", file)
			}
		}
	}
}

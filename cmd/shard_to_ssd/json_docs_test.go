package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// jsonResult is the type of the object that --json prints.

// docs/json.md has every field of --json, no other, and says "always" of those that
// are in every object.
func TestDocumentedJSON(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]bool{}
	addJSONFields(want, "Result", reflect.TypeFor[jsonResult]())
	if len(want) < 10 {
		t.Fatalf("found only %d objects in the result", len(want))
	}
	got := documentedFields(string(text))
	for section, fields := range want {
		for name, always := range fields {
			documented, found := got[section][name]
			switch {
			case !found:
				t.Errorf("docs/json.md has no field %q in the section %q", name, section)
			case documented != always:
				t.Errorf("docs/json.md says of %q in the section %q: always %v, want %v", name, section, documented, always)
			}
			delete(got[section], name)
		}
	}
	for section, fields := range got {
		for name := range fields {
			t.Errorf("docs/json.md has the field %q in the section %q, and --json has not", name, section)
		}
	}
}

// addJSONFields adds the fields of a struct under the name of its section, and those
// of the structs in it under the names of the fields that hold them. The value is
// whether a field is in every object.
func addJSONFields(sections map[string]map[string]bool, section string, object reflect.Type) {
	sections[section] = map[string]bool{}
	for field := range object.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		sections[section][name] = options == ""
		inner := field.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() {
			addJSONFields(sections, name, inner)
		}
	}
}

// documentedFields returns the rows of the tables of fields by section: a row is
// | `field` | type | meaning | there |.
func documentedFields(page string) map[string]map[string]bool {
	fields := map[string]map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|[^|]*\\|[^|]*\\| ([^|]*) \\|$")
	for _, section := range strings.Split(page, "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		title = strings.Trim(title, "`")
		if title == "Outcomes" {
			continue
		}
		fields[title] = map[string]bool{}
		for _, found := range row.FindAllStringSubmatch(text, -1) {
			fields[title][found[1]] = found[2] == "always" || strings.HasPrefix(found[2], "always;")
		}
	}
	return fields
}

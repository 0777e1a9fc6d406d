package copier

import (
	"fmt"
	"strings"
)

// Engine names a way to move the data of a file. It is a flag value: Set, String
// and Type are those of pflag.
type Engine string

// The engines. Auto chooses one of the others for each file.
const (
	Auto     Engine = "auto"
	Clone    Engine = "clone"    // FICLONE: shared extents, no data moves
	Range    Engine = "range"    // copy_file_range
	Direct   Engine = "direct"   // O_DIRECT, aligned blocks
	Buffered Engine = "buffered" // through the page cache
)

// Engines are all values an Engine may have.
var Engines = [...]Engine{Auto, Clone, Range, Direct, Buffered}

// Set takes the name of an engine.
func (e *Engine) Set(name string) error {
	var names []string
	for _, known := range Engines {
		if name == string(known) {
			*e = known
			return nil
		}
		names = append(names, string(known))
	}
	return fmt.Errorf("%q is not one of %s", name, strings.Join(names, ", "))
}

func (e *Engine) String() string {
	if *e == "" {
		return string(Auto)
	}
	return string(*e)
}

// Type is the word for the value in a usage line.
func (e *Engine) Type() string { return "ENGINE" }

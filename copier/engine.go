package copier

import (
	"fmt"
	"strings"
)

// Engine is a way to copy the data of a file. *Engine is a pflag.Value.
type Engine string

// The engines. Auto chooses one of the others for each file.
const (
	Auto     Engine = "auto"
	Clone    Engine = "clone"    // FICLONE: shared extents, no data is moved
	Range    Engine = "range"    // copy_file_range
	Direct   Engine = "direct"   // O_DIRECT, aligned blocks
	Buffered Engine = "buffered" // through the page cache
)

// Engines lists all values of Engine.
var Engines = [...]Engine{Auto, Clone, Range, Direct, Buffered}

// Set sets the engine by its name. The error for an unknown name lists all names.
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

// String returns the name of the engine; the zero value is Auto.
func (e *Engine) String() string {
	if *e == "" {
		return string(Auto)
	}
	return string(*e)
}

// Type returns the word for the value in a usage line.
func (e *Engine) Type() string { return "ENGINE" }

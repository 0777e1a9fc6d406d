package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// TerminalColumns returns the width of the terminal file, or 0 if file is not a terminal
// that can redraw a line.
func TerminalColumns(file *os.File) int {
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return 0
	}
	window, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0
	case window.Col == 0: // a serial line, or a pty without a size
		return 80
	}
	return int(window.Col)
}

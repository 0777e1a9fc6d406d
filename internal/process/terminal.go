package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// TerminalColumns is the width of the terminal that file is, or 0 if it is none
// that can redraw a line.
func TerminalColumns(file *os.File) int {
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return 0
	}
	window, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0
	case window.Col == 0: // a serial line, or a pty nobody told its size
		return 80
	}
	return int(window.Col)
}

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalColumns is the width of the terminal that file is, or 0 if it is none that can
// redraw a line.
func terminalColumns(file *os.File) int {
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return 0
	}
	window, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0
	case window.Col == 0:
		return 80
	}
	return int(window.Col)
}

package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// age is the value of --max-age: a duration in Go's form, with weeks and days
// before it, such as 7d, 2w, 1d12h or 90m.
type age time.Duration

// Set parses weeks, days, and the rest.
func (a *age) Set(text string) error {
	var sum time.Duration
	rest := text
	for _, unit := range []struct {
		name   string
		length time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, found := strings.Cut(rest, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return ageError(text)
		}
		sum, rest = sum+time.Duration(n)*unit.length, after
	}
	if rest != "" || text == "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || sum+d < 0 || strings.HasPrefix(rest, "+") {
			return ageError(text)
		}
		sum += d
	}
	*a = age(sum)
	return nil
}

func ageError(text string) error {
	return fmt.Errorf("%q is not an age such as 7d, 2w, 1d12h or 90m", text)
}

func (a *age) String() string { return time.Duration(*a).String() }

// Type returns the name of the value, for pflag.
func (a *age) Type() string { return "AGE" }

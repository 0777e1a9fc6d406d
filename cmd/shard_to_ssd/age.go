package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// age is how long ago something was, as --max-age takes it: a duration as Go writes
// them, with weeks and days before it: 7d, 2w, 1d12h, 90m.
type age time.Duration

// Set reads weeks, days, and the rest.
func (a *age) Set(text string) error {
	var sum time.Duration
	rest := text
	for _, unit := range []struct {
		name string
		is   time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, found := strings.Cut(rest, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return errAge(text)
		}
		sum, rest = sum+time.Duration(n)*unit.is, after
	}
	if rest != "" || text == "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || sum+d < 0 || strings.HasPrefix(rest, "+") {
			return errAge(text)
		}
		sum += d
	}
	*a = age(sum)
	return nil
}

func errAge(text string) error {
	return fmt.Errorf("%q is not an age such as 7d, 2w, 1d12h or 90m", text)
}

func (a *age) String() string { return time.Duration(*a).String() }

// Type is the word for the value in a usage line.
func (a *age) Type() string { return "AGE" }

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/process"
)

func TestExitStatus(t *testing.T) {
	term := &process.Interrupted{Signal: syscall.SIGTERM}
	for _, test := range []struct {
		err, cause error
		status     int
	}{
		{nil, nil, 0},
		{errors.New("any"), nil, 1},
		{context.Canceled, nil, 1},
		{fmt.Errorf("above: %w", shardtossd.ErrUsage), nil, 2},
		{&usageError{"no"}, nil, 2},
		{fmt.Errorf("above: %w", shardtossd.ErrDamaged), nil, 3},
		{fmt.Errorf("above: %w", shardtossd.ErrNoSpace), nil, 4},
		{fmt.Errorf("above: %w", shardtossd.ErrLockTimeout), nil, 5},
		{nil, term, 0},
		{errors.New("any"), term, 143},
		{fmt.Errorf("above: %w", term), term, 143},
		{context.Canceled, &process.Interrupted{Signal: syscall.SIGINT}, 130},
		{shardtossd.ErrDamaged, term, 3},
		{shardtossd.ErrNoSpace, term, 4},
		{shardtossd.ErrLockTimeout, term, 5},
		{fmt.Errorf("%w: %w", shardtossd.ErrLockTimeout, context.Canceled), term, 143},
	} {
		if got := exitStatus(test.err, test.cause); got != test.status {
			t.Errorf("%v with signal %v: got status %d, want %d", test.err, test.cause, got, test.status)
		}
	}
}

// TestHelpHasTables ensures that the help has every exit status and variable.
func TestHelpHasTables(t *testing.T) {
	text := help()
	for _, row := range statusTable() {
		if !strings.Contains(text, fmt.Sprintf("  %-6s %s\n", row.status, row.meaning)) {
			t.Errorf("the help has no line for %v", row)
		}
	}
	for _, name := range []string{envLockDir, envSSDDir} {
		if strings.Count(text, name) < 2 {
			t.Errorf("the help does not explain %s", name)
		}
	}
}

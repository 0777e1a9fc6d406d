// Command bench-peers measures shard_to_ssd against other tools, and writes
// docs/performance.md. `make bench-peers` runs it.
//
//  1. flags.go reads the command line. A wrong one ends with status 2.
//  2. namespace.go starts the program again in a mount namespace of its own.
//  3. Package peers measures and writes the report.
//
// SIGINT, SIGTERM and SIGHUP end the measurement with status 130, after everything is
// unmounted and deleted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"

	"shard_to_ssd/bench/peers"
)

// Exit statuses.
const (
	statusFailed      = 1
	statusUsage       = 2
	statusInterrupted = 130
)

func main() {
	f, err := parseFlags(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(statusUsage)
	}
	if err := f.runOrRewrite(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		if errors.Is(err, context.Canceled) {
			os.Exit(statusInterrupted)
		}
		os.Exit(statusFailed)
	}
}

// runOrRewrite measures, or writes the report of an earlier measurement.
func (f flags) runOrRewrite() error {
	if f.from != "" {
		return peers.Rewrite(f.config, f.from)
	}
	if os.Geteuid() != 0 {
		return errors.New("mounting file systems and dropping caches need root")
	}
	dir, err := filepath.Abs(f.config.Dir)
	if err != nil {
		return err
	}
	if err := enterNamespace(dir); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return peers.Run(ctx, f.config)
}

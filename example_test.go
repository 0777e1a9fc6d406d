package shardtossd_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	shardtossd "shard_to_ssd"
)

// exampleHost makes a shard in a new directory, with an SSD dir and a lock dir beside it.
func exampleHost() (h shardtossd.Host, shard string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	h = shardtossd.Host{LockDir: filepath.Join(dir, "locks"), SSDDir: filepath.Join(dir, "ssd")}
	shard = filepath.Join(dir, "data", "shard2")
	for _, d := range []string{h.LockDir, h.SSDDir, shard} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(shard, "index"), []byte("a small index\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	return h, shard, func() { os.RemoveAll(dir) }
}

// The install hook of each service calls Ensure. The first one copies the shard.
func ExampleEnsure() {
	host, shard, remove := exampleHost()
	defer remove()
	minute := time.Minute
	for _, id := range []string{"instance1", "instance2"} {
		r, err := shardtossd.Ensure(context.Background(), shardtossd.EnsureOptions{
			Host: host, Shard: shard, ID: id, LockTimeout: &minute,
		})
		if errors.Is(err, shardtossd.ErrLockTimeout) {
			fmt.Println("another hook is copying: try again later")
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s, %d file, %d bytes\n", id, r.Outcome, r.Files, r.Bytes)
	}
	// Output:
	// instance1: copied, 1 file, 14 bytes
	// instance2: already-on-ssd, 1 file, 14 bytes
}

// The uninstall hook of each service calls Release. The last one deletes the shard.
func ExampleRelease() {
	host, shard, remove := exampleHost()
	defer remove()
	ids := []string{"instance1", "instance2"}
	for _, id := range ids {
		if _, err := shardtossd.Ensure(context.Background(), shardtossd.EnsureOptions{Host: host, Shard: shard, ID: id}); err != nil {
			log.Fatal(err)
		}
	}
	for _, id := range ids {
		r, err := shardtossd.Release(context.Background(), shardtossd.ReleaseOptions{Host: host, Shard: "shard2", ID: id})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", id, r.Outcome)
	}
	// Output:
	// instance1: unregistered
	// instance2: removed
}

// Verify finds a byte that has changed on the SSD, and names its block.
func ExampleVerify() {
	host, shard, remove := exampleHost()
	defer remove()
	if _, err := shardtossd.Ensure(context.Background(), shardtossd.EnsureOptions{Host: host, Shard: shard, ID: "instance1"}); err != nil {
		log.Fatal(err)
	}
	damageExample(host)
	r, err := shardtossd.Verify(context.Background(), shardtossd.VerifyOptions{Host: host, Shard: "shard2"})
	fmt.Println(errors.Is(err, shardtossd.ErrDamaged), r.DifferenceCount)
	for _, d := range r.Differences {
		fmt.Println(d.Kind, d.Path, d.Ranges)
	}
	// Output:
	// true 1
	// content index [{0 14}]
}

// Repair copies the damaged file again from the source.
func ExampleRepair() {
	host, shard, remove := exampleHost()
	defer remove()
	if _, err := shardtossd.Ensure(context.Background(), shardtossd.EnsureOptions{Host: host, Shard: shard, ID: "instance1"}); err != nil {
		log.Fatal(err)
	}
	damageExample(host)
	r, err := shardtossd.Repair(context.Background(), shardtossd.RepairOptions{Host: host, Shard: shard})
	if errors.Is(err, shardtossd.ErrSourceChanged) {
		fmt.Println("the source has changed since: remove the shard and copy it again")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Outcome)
	for _, entry := range r.Repairs {
		fmt.Println(entry.Action, entry.Path)
	}
	// Output:
	// repaired
	// copied index
}

// damageExample changes a byte of the shard and keeps the times of its file.
func damageExample(h shardtossd.Host) {
	path := filepath.Join(h.SSDDir, "shard2", "index")
	before, err := os.Stat(path)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("A small index\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
		log.Fatal(err)
	}
}

package shardtossd_test

import (
	"os"
	"testing"

	shardtossd "shard_to_ssd"
	"shard_to_ssd/internal/testkit"
)

// A copy that replaces a directory equals its source, like any other copy. XFS is the hard
// case: it sets a new mtime on a directory that is exchanged with another.
func TestReplacedOnEachFileSystem(t *testing.T) {
	for _, fs := range testkit.FileSystems(t) {
		t.Run(fs.Name, func(t *testing.T) {
			s := newSite(t, t.TempDir(), fs.Dir)
			testkit.Apply(t, s.source, mixedTree()...)
			if err := os.Mkdir(s.publishedPath(), 0o755); err != nil {
				t.Fatal(err)
			}
			s.mustCopy(func(o *shardtossd.EnsureOptions) { o.Replace = true })
			s.mustVerify()
			s.mustRelease()
		})
	}
}

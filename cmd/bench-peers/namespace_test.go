package main

import (
	"slices"
	"testing"
)

func TestTemporaryMounts(t *testing.T) {
	const mounts = `/dev/vda / ext4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
/dev/loop3 /tmp/test/ext4 ext4 rw 0 0
/dev/loop4 /tmp/with\040space xfs rw 0 0
/dev/vdb /tmp/images ext4 rw 0 0
tmpfs /dev/shm/test/tmpfs tmpfs rw 0 0
/dev/loop0 /snap/tool squashfs ro 0 0
`
	got := temporaryMounts(mounts, "/tmp/images/here")
	if want := []string{"/tmp/test/ext4", "/tmp/with space", "/dev/shm/test/tmpfs"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

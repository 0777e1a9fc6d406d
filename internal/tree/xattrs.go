package tree

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/sys"
)

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// xfsACL is the start of the names under which XFS lists its ACLs a second time.
const xfsACL = "trusted.SGI_ACL_"

// IsShardXattr reports whether an extended attribute is part of a shard, so that it is
// copied and compared. The others belong to the system of the source (SELinux labels,
// NFS ACLs), or need a privilege that this process does not have.
func IsShardXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, xfsACL):
		return false
	case strings.HasPrefix(name, "user."), IsACL(name):
		return true
	case strings.HasPrefix(name, "trusted."), name == "security.capability":
		return os.Geteuid() == 0
	}
	return false
}

// IsACL reports whether an extended attribute is a POSIX ACL. It must be set after all
// others: an ACL may take away the right to set them.
func IsACL(name string) bool { return strings.HasPrefix(name, "system.posix_acl_") }

// ReadXattrs returns the extended attributes of name in d that are part of a shard,
// sorted by name with ACLs last. skipped has the names of the others.
func ReadXattrs(d *sys.File, name string, scratch []byte) (attrs []Xattr, skipped []string, err error) {
	names, err := d.XattrsAt(name, scratch)
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(names, func(a, b string) int {
		if aclA, aclB := IsACL(a), IsACL(b); aclA != aclB {
			if aclA {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	for _, attr := range names {
		if !IsShardXattr(attr) {
			if !strings.HasPrefix(attr, xfsACL) {
				skipped = append(skipped, attr)
			}
			continue
		}
		value, err := d.XattrAt(name, attr)
		if err != nil {
			return nil, nil, err
		}
		attrs = append(attrs, Xattr{attr, value})
	}
	return attrs, skipped, nil
}

// DigestXattrs returns XXH64 over name, NUL, length and value of each attribute, or 0 for
// an empty list.
func DigestXattrs(attrs []Xattr) uint64 {
	if len(attrs) == 0 {
		return 0
	}
	var b []byte
	for _, a := range attrs {
		b = append(append(b, a.Name...), 0)
		b = binary.LittleEndian.AppendUint64(b, uint64(len(a.Value)))
		b = append(b, a.Value...)
	}
	return max(xxhash.Sum64(b), 1)
}

package published

// State is the state of a shard under its public name.
type State string

// The states.
const (
	Absent    State = "absent"    // nothing is there
	Published State = "published" // bound manifest, users
	Unproven  State = "unproven"  // users, but no bound manifest: the older script copied it
	Orphan    State = "orphan"    // bound manifest, no users
	Foreign   State = "foreign"   // neither manifest nor users
)

// Facts are everything that Decide depends on.
type Facts struct {
	Exists     bool // something has the public name
	MountPoint bool // and is a mount point
	Bound      bool // a manifest is bound to it
	Users      bool // a user is registered; a list that cannot be read counts as users

	// For -c.
	Compared     Comparison // with the manifest, of an orphan
	Managed      bool       // a user file was there before this call
	ForceReplace bool       // --replace

	// For -r.
	RemovedLast bool // this call has removed the last user
}

// Comparison is the result of comparing names, types, sizes and times with the
// manifest.
type Comparison int

// The results.
const (
	NotCompared Comparison = iota
	Equal
	Different // or the manifest is damaged
)

// CopyAction is the action of -c.
type CopyAction string

// The actions of -c.
const (
	MakeCopy     CopyAction = "copy"         // nothing is there
	Join         CopyAction = "join"         // register the user
	CompareFirst CopyAction = "compare"      // compare with the manifest, then decide again
	ReplaceIt    CopyAction = "replace"      // copy, then exchange
	RefuseIt     CopyAction = "refuse"       // the directory belongs to somebody else
	RefuseMount  CopyAction = "refuse mount" // a mount point cannot be exchanged
)

// RemoveAction is the action of -r.
type RemoveAction string

// The actions of -r.
const (
	Nothing    RemoveAction = "nothing"     // nothing is there
	Keep       RemoveAction = "keep"        // other users need it
	Delete     RemoveAction = "delete"      //
	Leave      RemoveAction = "leave"       // nothing proves that this tool may delete it
	CannotMove RemoveAction = "cannot move" // a mount point cannot be renamed
)

// Decision is the state of a shard and the actions that follow from it.
type Decision struct {
	State  State
	Copy   CopyAction
	Remove RemoveAction
}

// decisions has the actions of -c and -r for each state, if no other fact changes them.
var decisions = map[State]Decision{
	Absent:    {Absent, MakeCopy, Nothing},
	Published: {Published, Join, Keep},
	Unproven:  {Unproven, Join, Keep},
	Orphan:    {Orphan, CompareFirst, Delete},
	Foreign:   {Foreign, RefuseIt, Leave},
}

// Decide returns whether the shard may be reused, replaced and deleted.
//
// A shard without users is reused only if it equals its manifest: an older script
// that was killed while it removed or copied leaves half a shard. A directory without
// a bound manifest is replaced only if --replace was given, or a user file without
// users was there before this call, so that the older script managed it. It is
// deleted only by the call that has removed its last user.
func Decide(f Facts) Decision {
	d := decisions[classify(f)]
	if d.State == Orphan && f.Compared == Equal {
		d.Copy = Join
	}
	if d.State == Orphan && f.Compared == Different {
		d.Copy = ReplaceIt
	}
	if d.State == Foreign && (f.ForceReplace || f.Managed) {
		d.Copy = ReplaceIt
	}
	if d.State == Foreign && f.RemovedLast {
		d.Remove = Delete
	}
	if !f.MountPoint {
		return d
	}
	if d.State == Orphan || d.State == Foreign {
		d.Copy = RefuseMount
	}
	if d.Remove == Delete {
		d.Remove = CannotMove
	}
	return d
}

func classify(f Facts) State {
	switch {
	case !f.Exists:
		return Absent
	case f.Users && f.Bound:
		return Published
	case f.Users:
		return Unproven
	case f.Bound:
		return Orphan
	}
	return Foreign
}

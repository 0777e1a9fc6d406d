package statedir

import (
	"context"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/sys"
)

// Room is a kind of leftover that is deleted to make room for another shard.
type Room struct {
	Name string // in the state dir
	set  Leftovers
	jobs int
}

// MakingRoom lists the leftovers that are deleted to make room, in the order of trying.
// jobs bounds the goroutines that delete them.
func MakingRoom(jobs int) []Room {
	return []Room{{TrashName, Trash, jobs}, {copier.StageName, Copy, jobs}}
}

// RoomReport receives the deletions of ClearOthers.
type RoomReport interface {
	Deleting(shard, name string)
	CannotDelete(shard, name string, err error)
}

// ClearOthers deletes a leftover of every shard but one that no process has locked. A
// leftover that cannot be deleted does not keep the space of the others.
func ClearOthers(ctx context.Context, ssd *sys.File, except string, room Room, report RoomReport) error {
	shards, err := ListShards(ssd)
	if err != nil {
		return err
	}
	anyCleared := false
	for _, shard := range shards {
		if shard == except {
			continue
		}
		cleared, err := clearOther(ctx, ssd, shard, room, report)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			report.CannotDelete(shard, room.Name, err)
		}
		anyCleared = anyCleared || cleared
	}
	if anyCleared { // btrfs and XFS give space back later
		return ssd.SyncFS()
	}
	return nil
}

func clearOther(ctx context.Context, ssd *sys.File, shard string, room Room, report RoomReport) (cleared bool, err error) {
	state, err := Open(ssd, shard)
	if err != nil {
		return false, nil // deleted meanwhile
	}
	defer state.Close()
	if !state.LockIfFree() {
		return false, nil
	}
	there, err := state.Has(room.Name)
	if !there || err != nil {
		return false, err
	}
	report.Deleting(shard, room.Name)
	return true, state.Clear(ctx, room.set, room.jobs)
}

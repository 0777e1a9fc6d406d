package published

import (
	"context"

	"shard_to_ssd/internal/statedir"
	"shard_to_ssd/verify"
)

// Discard deletes the stage of an interrupted copy and everything that belongs to it.
// The state dir must be locked. jobs bounds the goroutines that delete.
func (s Shard) Discard(ctx context.Context, state *statedir.Dir, jobs int) error {
	if err := state.Clear(ctx, statedir.Stage, jobs); err != nil {
		return err
	}
	return s.Tidy(ctx, state, jobs)
}

// Tidy deletes the state dir, unless it has a manifest, even one that cannot be read, of
// something that is published: then only the leftovers of making a manifest go.
func (s Shard) Tidy(ctx context.Context, state *statedir.Dir, jobs int) error {
	pub, err := s.Stat()
	if err != nil {
		return err
	}
	hasManifest, err := state.Has(verify.ManifestName)
	if err != nil {
		return err
	}
	if pub == nil || !hasManifest {
		return state.Remove(ctx, jobs)
	}
	return state.Clear(ctx, statedir.Recording, jobs)
}

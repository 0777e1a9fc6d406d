package shardtossd

import (
	"fmt"
	"runtime"

	"shard_to_ssd/copier"
	"shard_to_ssd/internal/humanize"
	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/tree"
)

// chooseWorkers settles how many workers there are.
func (op *operation) chooseWorkers() {
	if op.Jobs > 0 {
		op.chose("workers", fmt.Sprint(op.Jobs), "as told")
		return
	}
	cpus, depth := runtime.NumCPU(), queueDepth(op.ssd)
	op.Jobs = pool.Default(cpus, depth)
	queue := fmt.Sprintf("the SSD's device queues %d requests", depth)
	if depth == 0 {
		queue = "the SSD has no device that says how many requests it queues"
	}
	op.chose("workers", fmt.Sprint(op.Jobs), fmt.Sprintf("%d CPUs; %s", cpus, queue))
}

// chooseTransfers settles how bytes are moved.
func (op *operation) chooseTransfers() {
	if op.Bandwidth > 0 {
		op.chose("block", fmt.Sprint(tree.BlockSize), "bytes: the unit of summing large files, which are read and written in pieces")
		op.chose("depth", fmt.Sprint(pool.PiecesAtOnce), "pieces under way, of all files together")
		op.chose("pace", fmt.Sprint(op.Bandwidth), fmt.Sprintf("bytes a second as told, in pieces of %d", pool.PieceOf(op.Bandwidth)))
		return
	}
	op.chose("block", fmt.Sprint(tree.BlockSize), "bytes: the unit of reading, writing and summing large files")
	op.chose("depth", fmt.Sprint(op.Jobs), "blocks of large files under way, one for each worker; each reads up to 32 small files at once, where that can be done")
}

// choseEngines notes which engines moved files.
func (op *operation) choseEngines(engines map[copier.Engine]copier.Usage) {
	for _, e := range copier.Engines {
		if u, used := engines[e]; used {
			op.chose("engine", string(e), fmt.Sprintf("%d files, %d bytes: %s", u.Files, u.Bytes, u.Why))
		}
	}
}

func (op *operation) chose(what, value, why string) {
	op.result.Choices = append(op.result.Choices, Choice{what, value, why})
	if op.Verbose {
		op.info("Chose %s %s: %s", what, value, why)
	}
}

// phase adds a step to the phases.
func (op *operation) phase(p Phase) {
	op.result.Phases = append(op.result.Phases, p)
	if !op.Verbose {
		return
	}
	rate := ""
	if p.Bytes > 0 && p.Seconds > 0 {
		rate = fmt.Sprintf(", %s at %s/s", humanize.Size(p.Bytes), humanize.Size(int64(float64(p.Bytes)/p.Seconds)))
	}
	op.info("Phase %q took %.3f s%s", p.Name, p.Seconds, rate)
}

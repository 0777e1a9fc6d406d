package bench

import "shard_to_ssd/bench/data"

// budget adds up what a run will write, hold and move, and in how many steps.
type budget struct {
	set           *settings
	free, reserve int64 // bytes

	// Bytes that are taken on the SSD.
	made    int64 // by the workloads that are made
	largest int64 // by the largest of them
	copied  int64 // by all copies
	kept    int64 // by copies that stay until the end
	most    int64 // by the largest copy

	steps int
	moves int64 // bytes that are read or written
}

// listed is how many bytes plan, journal and manifest take for a file, about.
const listed = 512

// onlySmall is the index of the workload that has no large files, see data.Workloads.
const onlySmall = 1

// addMade adds a workload that is made.
func (b *budget) addMade(t data.Total) {
	b.made += t.Stored
	b.largest = max(b.largest, t.Stored)
	b.moves += t.Bytes
	b.steps++
}

// addCases adds all copies of a shard.
func (b *budget) addCases(t data.Total, large bool) {
	blocks := len(b.set.blocks)
	if !large {
		blocks = 1
	}
	copies := len(b.set.engines) * blocks * len(b.set.jobs) * b.set.samples
	b.steps += copies
	b.copied += int64(copies) * t.Stored
	b.moves += 2 * int64(copies) * t.Bytes
	held := t.Stored + t.Files*listed
	b.most = max(b.most, held)
	if t.Files >= manyFiles {
		b.kept += int64(copies) * held
	}
}

// sustained is how much a sustained write writes at first.
func (b *budget) sustained() int64 {
	size := int64(b.set.share * float64(b.free-b.reserve))
	return max(size-size%sustainedBlock, 0)
}

// cells is how many samples of each way the ceilings have.
func (b *budget) cells() int64 {
	return int64(len(b.set.ceilingBlocks) * len(b.set.ceilingDepths) * b.set.samples)
}

// addRest adds the steps that do not depend on the workloads.
func (b *budget) addRest() {
	cells, ceilings := b.cells(), b.set.ceilingSize
	b.steps += int(3*cells) + 2                          // with the file that is read, and the readers
	b.moves += ceilings + 4*cells*ceilings + 2*b.largest // of each cell read, write, both
	if size := b.sustained(); size > 0 {
		b.steps += 3
		b.moves += size + 2*withoutCliff(size) + readersSize(size)
	}
}

// cost is what all that costs at the most. The rest of a sustained write, after each
// pause, is never more than the first.
func (b *budget) cost() Cost {
	cells, ceilings := b.cells(), b.set.ceilingSize
	c := Cost{Free: b.free, Keeps: b.reserve}
	c.Writes = ceilings + 2*cells*ceilings + b.made + b.copied + b.largest
	c.Peak = max(2*ceilings, b.made+b.kept+b.most)
	if size := b.sustained(); size > 0 {
		read := readersSize(size)
		c.Writes += 3*size + read
		c.Peak = max(c.Peak, size+read)
	}
	return c
}

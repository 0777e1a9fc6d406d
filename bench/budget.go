package bench

import "shard_to_ssd/bench/internal/data"

// budget adds up the bytes that a run writes, stores and moves, and its steps.
type budget struct {
	set           *settings
	free, reserve int64 // bytes

	// Bytes that are stored on the SSD.
	workloadBytes   int64 // all workloads
	largestWorkload int64 // the largest workload
	copyBytes       int64 // all copies
	keptBytes       int64 // copies that stay until the end
	largestCopy     int64 // the largest copy

	steps      int
	movedBytes int64 // bytes that are read or written
}

// recordBytes is about the size of one file in plan, journal and manifest together.
const recordBytes = 512

// smallFilesIndex is the index in data.Workloads of the workload without large files.
const smallFilesIndex = 1

// addWorkload adds a workload that the run makes.
func (b *budget) addWorkload(t data.Total) {
	b.workloadBytes += t.Stored
	b.largestWorkload = max(b.largestWorkload, t.Stored)
	b.movedBytes += t.Bytes
	b.steps++
}

// addCases adds all copies of a shard. Without large files, only one block size is used.
func (b *budget) addCases(t data.Total, hasLarge bool) {
	blocks := len(b.set.blocks)
	if !hasLarge {
		blocks = 1
	}
	copies := len(b.set.engines) * blocks * len(b.set.jobs) * b.set.samples
	b.steps += copies
	b.copyBytes += int64(copies) * t.Stored
	b.movedBytes += 2 * int64(copies) * t.Bytes
	stored := t.Stored + t.Files*recordBytes
	b.largestCopy = max(b.largestCopy, stored)
	if t.Files >= manyFiles {
		b.keptBytes += int64(copies) * stored
	}
}

// sustainedSize returns the bytes of the first sustained write.
func (b *budget) sustainedSize() int64 {
	size := int64(b.set.share * float64(b.free-b.reserve))
	return max(size-size%sustainedBlock, 0)
}

// samplesPerWay returns the number of ceiling samples of each Way.
func (b *budget) samplesPerWay() int64 {
	return int64(len(b.set.ceilingBlocks) * len(b.set.ceilingDepths) * b.set.samples)
}

// addFixedSteps adds the steps that do not depend on the workloads.
func (b *budget) addFixedSteps() {
	samples, ceilings := b.samplesPerWay(), b.set.ceilingSize
	b.steps += int(3*samples) + 2 // and two: the file for the reads, and the readers
	// A sample of Read or Write moves the size once, a sample of Both twice.
	b.movedBytes += ceilings + 4*samples*ceilings + 2*b.largestWorkload
	if size := b.sustainedSize(); size > 0 {
		b.steps += 3
		b.movedBytes += size + 2*repeatSizeWithoutCliff(size) + readersSize(size)
	}
}

// totalCost returns the upper limit. The second and third sustained write are never
// larger than the first.
func (b *budget) totalCost() Cost {
	samples, ceilings := b.samplesPerWay(), b.set.ceilingSize
	c := Cost{Free: b.free, Reserve: b.reserve}
	c.Writes = ceilings + 2*samples*ceilings + b.workloadBytes + b.copyBytes + b.largestWorkload
	c.Peak = max(2*ceilings, b.workloadBytes+b.keptBytes+b.largestCopy)
	if size := b.sustainedSize(); size > 0 {
		read := readersSize(size)
		c.Writes += 3*size + read
		c.Peak = max(c.Peak, size+read)
	}
	return c
}

package verify

import (
	"context"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// SumSmall reads files of at most a block in dir, with the worker's buffer, and fills in
// their checksums or errors. It reads many of them at once where the kernel can do that.
func (m *DeviceReader) SumSmall(ctx context.Context, dir *sys.File, files []tree.FileSum, w *pool.Worker) {
	for len(files) > 0 {
		if ctx.Err() != nil {
			for i := range files {
				files[i].Err = context.Cause(ctx)
			}
			return
		}
		files = files[m.sumNext(dir, files, w):]
	}
}

// sumNext is SumSmall for the first n files, as many as can be read at once.
func (m *DeviceReader) sumNext(dir *sys.File, files []tree.FileSum, w *pool.Worker) (n int) {
	if n = m.countFitting(files, w); n == 1 {
		m.sumOne(dir, &files[0], w.Buf)
	} else {
		m.sumBatch(dir, files[:n], w)
	}
	return n
}

// countFitting returns how many of the files are read at once: those that fit together
// into the buffer.
func (m *DeviceReader) countFitting(files []tree.FileSum, w *pool.Worker) int {
	if m.RateLimit != nil {
		return 1
	}
	n, used, most := 0, int64(0), min(len(files), w.Batch().Size())
	for n < most {
		if used += alignUp(files[n].Size); used > int64(len(w.Buf)) {
			break
		}
		n++
	}
	return max(n, 1)
}

// sumOne opens, reads and closes one file.
func (m *DeviceReader) sumOne(dir *sys.File, file *tree.FileSum, buf []byte) {
	f, err := m.Open(dir, file.Name, file.Size)
	if err != nil {
		file.Err = err
		return
	}
	file.Sum, file.Err = f.Sum(0, buf)
	f.closeInto(file)
}

// closeInto closes the file. The error of closing counts if there is no earlier one.
func (f *File) closeInto(file *tree.FileSum) {
	if _, err := f.Close(); file.Err == nil {
		file.Err = err
	}
}

// sumBatch opens the files, reads them at once, and closes them. Files for which that
// does not work are read one by one.
func (m *DeviceReader) sumBatch(dir *sys.File, files []tree.FileSum, w *pool.Worker) {
	opened := m.openBatch(dir, files)
	var reads []sys.BatchRead
	var owners []int // for each read, the index of its file
	used := int64(0)
	for i, f := range opened {
		if files[i].Err != nil || !f.isBatchable() {
			continue
		}
		end := used + alignUp(f.size)
		reads, owners = append(reads, sys.BatchRead{File: f.file, Buf: w.Buf[used:end:end]}), append(owners, i)
		used = end
	}
	if err := w.Batch().Read(reads); err != nil {
		for i, f := range opened {
			files[i].Err = err
			if f != nil {
				f.closeInto(&files[i])
			}
		}
		return
	}
	done := make([]bool, len(files))
	for k, r := range reads {
		i := owners[k]
		done[i] = opened[i].takeRead(&files[i], r)
	}
	for i, f := range opened {
		m.finishFile(dir, &files[i], f, done[i], w.Buf)
	}
}

// openBatch opens the files. A file that cannot be opened is nil and has its error.
func (m *DeviceReader) openBatch(dir *sys.File, files []tree.FileSum) []*File {
	opened := make([]*File, len(files))
	for i := range files {
		f, err := m.Open(dir, files[i].Name, files[i].Size)
		if err != nil {
			files[i].Err = err
			continue
		}
		opened[i], files[i].Err = f, f.dropWritten()
	}
	return opened
}

// takeRead takes the result of a batch read. It reports whether the file has a checksum
// that counts: it was read past the page cache, to its end.
func (f *File) takeRead(file *tree.FileSum, r sys.BatchRead) (done bool) {
	if r.Err != nil {
		file.Err = r.Err
		return false
	}
	if int64(r.N) < file.Size {
		return false
	}
	file.Sum = xxhash.Sum64(r.Buf[:file.Size])
	return f.wasReadDirect()
}

// finishFile closes a file of a batch. If the batch did not read it past the page cache,
// or could not open it because there were too many open files, it reads it first.
func (m *DeviceReader) finishFile(dir *sys.File, file *tree.FileSum, f *File, done bool, buf []byte) {
	if f == nil {
		if sys.IsErrno(file.Err, unix.EMFILE, unix.ENFILE) {
			m.sumOne(dir, file, buf)
		}
		return
	}
	if file.Err == nil && !done {
		file.Sum, file.Err = f.Sum(0, buf)
	}
	f.closeInto(file)
}

// dropWritten drops the pages that writing left in the page cache, if the file is in a
// stage.
func (f *File) dropWritten() error {
	if f.size == 0 || !f.device.Exclusive {
		return nil
	}
	return f.file.DropCached(0, 0)
}

// isBatchable reports whether the file can be read in a batch. A file whose pages other
// processes have cached cannot: only a read of that file alone leaves them in the cache.
func (f *File) isBatchable() bool {
	if !f.file.Direct.Load() || f.size == 0 {
		return false
	}
	if f.device.Exclusive {
		return true
	}
	cached, err := f.file.CachedBytes(0, f.size)
	return err == nil && cached == 0
}

// wasReadDirect reports whether the file was read past the page cache: then none of its
// pages are there now. If other processes read the file as well, and the page cache had
// none of its pages before, the pages that this read brought are dropped and counted.
func (f *File) wasReadDirect() bool {
	if !f.device.Exclusive {
		before, through, err := f.file.DropAddedPages(0, f.size, 0)
		f.through.Add(min(through, f.size))
		return err == nil && before == 0
	}
	cached, err := f.file.CachedBytes(0, f.size)
	return err == nil && (cached == 0 || f.device.memory)
}

package verify

import (
	"context"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"shard_to_ssd/internal/pool"
	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// SumSmall reads files of at most a block in dir, with the worker's buffer, and fills
// in their sums or errors: many of them at once, where that can be done.
func (m *Medium) SumSmall(ctx context.Context, dir *sys.File, files []tree.FileSum, w *pool.Worker) {
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

// sumNext is SumSmall of the first files, as many as are read at once.
func (m *Medium) sumNext(dir *sys.File, files []tree.FileSum, w *pool.Worker) (n int) {
	if n = m.fitting(files, w); n == 1 {
		m.sumOne(dir, &files[0], w.Buf)
	} else {
		m.sumSome(dir, files[:n], w)
	}
	return n
}

// fitting is how many of the files are read at once: those that fit into the buffer.
func (m *Medium) fitting(files []tree.FileSum, w *pool.Worker) int {
	if m.Pace != nil {
		return 1
	}
	n, used, most := 0, 0, min(len(files), w.Batch().Size())
	for n < most {
		if used += wholePages(files[n].Size); used > len(w.Buf) {
			break
		}
		n++
	}
	return max(n, 1)
}

func wholePages(size int64) int { return int(size+sys.Align-1) &^ (sys.Align - 1) }

// sumOne opens, reads and closes a file.
func (m *Medium) sumOne(dir *sys.File, file *tree.FileSum, buf []byte) {
	f, err := m.Open(dir, file.Name, file.Size)
	if err != nil {
		file.Err = err
		return
	}
	file.Sum, err = f.Sum(0, buf)
	if _, closed := f.Close(); err == nil {
		err = closed
	}
	file.Err = err
}

// sumSome opens the files, has them read at once, and does one by one what could not
// be read like that.
func (m *Medium) sumSome(dir *sys.File, files []tree.FileSum, w *pool.Worker) {
	var reads []sys.Read
	var of []int // of each read, the number of its file
	opened := make([]*File, len(files))
	used := 0
	for i := range files {
		f, err := m.Open(dir, files[i].Name, files[i].Size)
		if err == nil {
			opened[i] = f
			err = f.forget()
		}
		if files[i].Err = err; err != nil || !f.alone() {
			continue
		}
		end := used + wholePages(f.size)
		reads, of = append(reads, sys.Read{File: f.file, Buf: w.Buf[used:end:end]}), append(of, i)
		used = end
	}
	err := w.Batch().Read(reads)
	past := make([]bool, len(files))
	for k, r := range reads {
		file := &files[of[k]]
		switch {
		case err != nil:
			file.Err = err
		case r.Err != nil:
			file.Err = r.Err
		case int64(r.N) >= file.Size:
			file.Sum = xxhash.Sum64(r.Buf[:file.Size])
			past[of[k]] = opened[of[k]].passed()
		}
	}
	for i, f := range opened {
		if err != nil {
			files[i].Err = err
		}
		m.finish(dir, &files[i], f, past[i], err == nil, w.Buf)
	}
}

// finish closes a file, and reads it by itself if it was not read past the cache, or
// could not be opened for want of descriptors.
func (m *Medium) finish(dir *sys.File, file *tree.FileSum, f *File, past, usable bool, buf []byte) {
	if f == nil {
		if usable && sys.Is(file.Err, unix.EMFILE, unix.ENFILE) {
			m.sumOne(dir, file, buf)
		}
		return
	}
	if usable && file.Err == nil && !past {
		file.Sum, file.Err = f.Sum(0, buf)
	}
	if _, err := f.Close(); file.Err == nil {
		file.Err = err
	}
}

// forget drops what writing has left of a file of its own in the page cache.
func (f *File) forget() error {
	if f.size == 0 || !f.medium.Own {
		return nil
	}
	return f.file.Forget(0, 0)
}

// alone reports whether the file is to be read with others at once: not one of which
// others have something in the page cache, where it is to stay.
func (f *File) alone() bool {
	if !f.file.Direct.Load() || f.size == 0 || f.medium.Own {
		return f.file.Direct.Load() && f.size > 0
	}
	cached, err := f.file.Cached(0, f.size)
	return err == nil && cached == 0
}

// passed reports whether the file was read past the page cache: then nothing of it is
// there now. What reading has brought there of a file that others read as well, of
// which there was nothing before, is dropped, and counted.
func (f *File) passed() bool {
	if !f.medium.Own {
		before, through, err := f.file.LeaveAsBefore(0, f.size, 0)
		f.through.Add(min(through, f.size))
		return err == nil && before == 0
	}
	cached, err := f.file.Cached(0, f.size)
	return err == nil && (cached == 0 || f.medium.memory)
}

package shardtossd_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"shard_to_ssd/copier"
)

// A hook is an Observer that calls a function at one moment of a copy.
type hook struct {
	copier.NopObserver
	planned  func()
	copied   func(bytes int64)
	readBack func(bytes int64)
}

func (h *hook) Planned(files, bytes int64) {
	if h.planned != nil {
		h.planned()
	}
}

func (h *hook) Copied(bytes int64) {
	if h.copied != nil {
		h.copied(bytes)
	}
}

func (h *hook) ReadBack(bytes int64) {
	if h.readBack != nil {
		h.readBack(bytes)
	}
}

// onceCopied returns a hook that calls do when the first block or file is copied.
func onceCopied(do func()) *hook {
	var once sync.Once
	return &hook{copied: func(int64) { once.Do(do) }}
}

// onceReadBack returns a hook that calls do when the first block or file is read back.
func onceReadBack(do func()) *hook {
	var once sync.Once
	return &hook{readBack: func(int64) { once.Do(do) }}
}

// cancelAtCall makes a hook that cancels a context at the n-th call of one method. The
// function at installs the count in that method: (*hook).atCopied or (*hook).atReadBack.
func cancelAtCall(n int64, at func(h *hook, count func(int64))) func(cancel context.CancelCauseFunc) *hook {
	return func(cancel context.CancelCauseFunc) *hook {
		h, calls := &hook{}, atomic.Int64{}
		at(h, func(int64) {
			if calls.Add(1) == n {
				cancel(errInterrupted)
			}
		})
		return h
	}
}

func (h *hook) atCopied(count func(int64))   { h.copied = count }
func (h *hook) atReadBack(count func(int64)) { h.readBack = count }

// errInterrupted is the cause with which cancelAtCall cancels.
var errInterrupted = errors.New("interrupted by the test")

package shardtossd_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"shard_to_ssd/copier"
)

// A hook is an Observer that does something at one moment of a copy.
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

// onceCopied is a hook for the first block or file that is copied, onceReadBack
// for the first that is read back.
func onceCopied(do func()) *hook {
	var once sync.Once
	return &hook{copied: func(int64) { once.Do(do) }}
}

func onceReadBack(do func()) *hook {
	var once sync.Once
	return &hook{readBack: func(int64) { once.Do(do) }}
}

// cancelAtCall is a hook that cancels a context at the n-th call of the method that
// at puts the counting in.
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

var errInterrupted = errors.New("told to stop")

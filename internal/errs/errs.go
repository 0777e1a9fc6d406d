// Package errs combines errors so that a message stays one line, and gives an
// error a kind that callers test with errors.Is.
package errs

import (
	"errors"
	"strings"
)

// Join combines the errors that are not nil, or returns nil if all are. It is
// errors.Join, except that the messages are joined with "; ": every message of
// the programs is one line.
func Join(all ...error) error {
	var list joined
	for _, err := range all {
		if err != nil {
			list = append(list, err)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// WithKind returns err such that errors.Is finds kind in it. The message stays
// that of err. A nil err, and one that has the kind already, come back unchanged.
func WithKind(err, kind error) error {
	if err == nil || errors.Is(err, kind) {
		return err
	}
	return &kindError{kind, err}
}

type kindError struct{ kind, err error }

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

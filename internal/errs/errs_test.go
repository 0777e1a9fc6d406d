package errs_test

import (
	"errors"
	"io"
	"io/fs"
	"testing"

	"shard_to_ssd/internal/errs"
)

func TestJoin(t *testing.T) {
	if err := errs.Join(nil, nil); err != nil {
		t.Errorf("Join of nils = %v, want nil", err)
	}
	err := errs.Join(io.EOF, nil, fs.ErrNotExist)
	if got, want := err.Error(), "EOF; file does not exist"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	for _, target := range []error{io.EOF, fs.ErrNotExist} {
		if !errors.Is(err, target) {
			t.Errorf("errors.Is does not find %v", target)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		t.Errorf("errors.Is finds %v, which was not joined", fs.ErrExist)
	}
}

func TestWithKind(t *testing.T) {
	kind := errors.New("kind")
	if err := errs.WithKind(nil, kind); err != nil {
		t.Errorf("WithKind(nil) = %v, want nil", err)
	}
	err := errs.WithKind(io.EOF, kind)
	if err.Error() != "EOF" || !errors.Is(err, kind) || !errors.Is(err, io.EOF) {
		t.Errorf("%q, kind %v, cause %v: want the message of the cause and both", err, errors.Is(err, kind), errors.Is(err, io.EOF))
	}
	if again := errs.WithKind(err, kind); again != err {
		t.Error("an error that has the kind was wrapped again")
	}
}

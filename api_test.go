package shardtossd_test

import (
	"errors"
	"reflect"
	"shard_to_ssd/bench"
	"shard_to_ssd/internal/testkit"
	"shard_to_ssd/locking"
	"strings"
	"testing"

	shardtossd "shard_to_ssd"
)

// A caller can name every type that the operations take or return: none is a type of an
// internal package. Results carry neither exit statuses nor JSON names: both belong to the
// program.
func TestAPITypesArePublic(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var visit func(from string, typ reflect.Type)
	visit = func(from string, typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		if strings.Contains(typ.PkgPath(), "/internal/") {
			t.Errorf("%s leads to %v, a type of an internal package", from, typ)
		}
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Chan:
			visit(from, typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				if f := typ.Field(i); f.IsExported() {
					visit(from+"."+f.Name, f.Type)
				}
			}
		}
		for i := range typ.NumMethod() { // exported ones
			visit(from+"."+typ.Method(i).Name, typ.Method(i).Type)
		}
		if typ.Kind() == reflect.Func {
			for i := range typ.NumIn() {
				visit(from, typ.In(i))
			}
			for i := range typ.NumOut() {
				visit(from, typ.Out(i))
			}
		}
	}
	for _, operation := range []any{shardtossd.Ensure, shardtossd.Release, shardtossd.Verify, shardtossd.Scrub,
		shardtossd.CheckSums, shardtossd.List, shardtossd.Repair, shardtossd.Adopt} {
		typ := reflect.TypeOf(operation)
		visit(typ.String(), typ)
		result := typ.Out(0).Elem()
		if _, ok := result.FieldByName("Status"); ok {
			t.Errorf("%v has an exit status", result)
		}
	}
	for _, function := range []any{locking.Acquire, locking.ReadUsers, locking.ListUserFiles, bench.Run, bench.Compare} {
		visit(reflect.TypeOf(function).String(), reflect.TypeOf(function))
	}
	if len(seen) < 40 {
		t.Errorf("visited %d types, want all", len(seen))
	}
}

// Callers tell the kinds of failure apart with errors.Is.
func TestKindsOfFailure(t *testing.T) {
	s := newSite(t, t.TempDir(), t.TempDir())
	want := func(what string, err, kind error) {
		t.Helper()
		if !errors.Is(err, kind) {
			t.Errorf("%s: got %v, want kind %q", what, err, kind)
		}
	}
	_, err := shardtossd.Verify(t.Context(), s.verifyOptions())
	want("Verify of nothing", err, shardtossd.ErrNotOnSSD)
	_, err = shardtossd.Repair(t.Context(), s.repairOptions())
	want("Repair of nothing", err, shardtossd.ErrNotOnSSD)
	_, err = shardtossd.Adopt(t.Context(), shardtossd.AdoptOptions{Host: s.newHost(), Shard: s.source})
	want("Adopt of nothing", err, shardtossd.ErrNotOnSSD)
	testkit.Apply(t, s.ssd, testkit.TextFile("shard/file", "theirs"))
	_, err = shardtossd.Verify(t.Context(), s.verifyOptions())
	want("Verify of a foreign directory", err, shardtossd.ErrNotPublished)
	testkit.Apply(t, s.source, testkit.TextFile("file", "ours"))
	_, err = s.runEnsure(t.Context())
	want("Ensure over a foreign directory", err, shardtossd.ErrForeign)
	o := s.ensureOptions()
	o.RequireMount = true
	_, err = shardtossd.Ensure(t.Context(), o)
	want("Ensure without a mount", err, shardtossd.ErrNotMountPoint)
	o = s.ensureOptions()
	o.Jobs = -1
	_, err = shardtossd.Ensure(t.Context(), o)
	want("Ensure with -1 jobs", err, shardtossd.ErrUsage)
}

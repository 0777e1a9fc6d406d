package verify

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"shard_to_ssd/internal/sys"
	"shard_to_ssd/internal/tree"
)

// FuzzManifest reads any bytes as a manifest. It may be refused. If it is accepted, no path
// leads outside the shard, and written again it has the same records.
func FuzzManifest(f *testing.F) {
	f.Add(forgeManifest(rootLine, fileLine+`"a"`, longLine, sumsLine))
	f.Add(forgeManifest(fileLine + `"a\n\"\\"`))
	f.Add(forgeManifest(rootLine, `d "a"`, `D 1 0755 0 0 -1.000000001 00000000000000ff "a"`))
	f.Add([]byte("shard_to_ssd manifest 1\n\nend 0 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		// The trailer is corrected, since a fuzzer does not find the checksum by chance.
		if i := bytes.LastIndex(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")); i >= 0 {
			body := text[:i+1]
			_, records, _ := bytes.Cut(body, []byte("\n\n"))
			text = fmt.Appendf(bytes.Clone(body), "end %d %016x\n", bytes.Count(records, []byte("\n")), xxhash.Sum64(body))
		}
		read := func(text []byte) (header []tree.Field, records []tree.Record, err error) {
			d, err := tree.NewDecoder(bytes.NewReader(text), tree.ManifestKind, ManifestVersion)
			if err != nil {
				return nil, nil, err
			}
			if _, err := parseHeader(d); err != nil && !errors.Is(err, ErrManifestDamaged) {
				t.Errorf("header: got error %v, want ErrManifest", err)
			}
			for {
				r, err := d.Next()
				if err != nil {
					return d.Header, records, err
				}
				one := *r
				one.Sums = slices.Clone(r.Sums)
				records = append(records, one)
			}
		}
		header, records, err := read(text)
		if err == nil || err.Error() != "EOF" {
			if !errors.Is(err, ErrManifestDamaged) && !errors.Is(err, ErrManifestVersion) {
				t.Errorf("got error %v, want ErrManifest or ErrVersion", err)
			}
			return
		}
		var again bytes.Buffer
		enc, err := tree.NewEncoder(&again, tree.ManifestKind, ManifestVersion, header)
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			r := &records[i]
			if below := r.RelativePath(); r.Kind != tree.Sums && below != "." && tree.CheckPath(below) != nil {
				t.Errorf("accepted the path %q", below)
			}
			if err := enc.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
		if _, same, err := read(again.Bytes()); err.Error() != "EOF" || !reflect.DeepEqual(same, records) {
			t.Errorf("written again: got\n%q, %v, want\n%q", again.Bytes(), err, text)
		}
	})
}

// FuzzHeader writes headers with any values, and reads the same values.
func FuzzHeader(f *testing.F) {
	f.Add("v1", "shard", "/source", "/locks", uint64(7), int64(1), uint32(5), int64(1e18))
	f.Add("", "\n", "\xff\"\\", "a b\r", uint64(math.MaxUint64), int64(-5), uint32(999_999_999), int64(-1))
	f.Fuzz(func(t *testing.T, tool, shard, source, lockDir string, number uint64, sec int64, nsec uint32, when int64) {
		at := sys.Time{Sec: sec, Nsec: nsec % 1_000_000_000}
		want := Header{Tool: tool, Shard: shard, Root: RootIdentity{number, at}, Source: source, Origin: SourceIdentity{number / 3, number, at},
			LockDir: lockDir, Time: time.Unix(0, when).UTC(), Files: sec, Entries: when, Bytes: int64(number)}
		if size := len(tool) + len(shard) + len(source) + len(lockDir); size > tree.MaxLine/8 {
			return
		}
		var b bytes.Buffer
		e, err := tree.NewEncoder(&b, tree.ManifestKind, ManifestVersion, want.encodeFields())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := tree.NewDecoder(&b, tree.ManifestKind, ManifestVersion)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseHeader(d)
		if err != nil || *got != want {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

// FuzzSums writes two checksum lines, and reads them as xxhsum does: there are two lines,
// and the first has the name and the checksum.
func FuzzSums(f *testing.F) {
	for _, name := range []string{"a", "stdin", "-c", " ", "a\nb", "\\", "\\n", "\r\n", "\xff", "a  ./b", "*"} {
		f.Add(name, uint64(42))
	}
	f.Fuzz(func(t *testing.T, name string, sum uint64) {
		var b bytes.Buffer
		s := newSumsWriter(&b)
		if err := errors.Join(s.writeLine(name, sum), s.writeLine("next", 1), s.flush()); err != nil {
			t.Fatal(err)
		}
		line, rest, _ := strings.Cut(b.String(), "\n")
		gotName, gotSum, err := readSumLine(line)
		if err != nil || gotName != "./"+name || gotSum != sum || rest != "0000000000000001  ./next\n" {
			t.Errorf("%q, %x: from %q got %q, %x, %v", name, sum, b.String(), gotName, gotSum, err)
		}
	})
}

// readSumLine splits a line, independently of SumsReader. If the line starts with a
// backslash, its name is escaped.
func readSumLine(line string) (name string, sum uint64, err error) {
	text, escaped := strings.CutPrefix(line, "\\")
	if len(text) < 18 || text[16:18] != "  " || strings.Contains(line, "\r") {
		return "", 0, fmt.Errorf("not a checksum line: %q", line)
	}
	sum, err = strconv.ParseUint(text[:16], 16, 64)
	if name = text[18:]; err != nil || !escaped {
		return name, sum, err
	}
	var plain []byte
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			plain = append(plain, name[i])
			continue
		}
		i++
		k := -1
		if i < len(name) {
			k = strings.IndexByte(`\nr`, name[i])
		}
		if k < 0 {
			return "", 0, fmt.Errorf("no escape at byte %d of %q", i, name)
		}
		plain = append(plain, "\\\n\r"[k])
	}
	return string(plain), sum, nil
}

// FuzzDamage adds damaged blocks in some order: the same blocks are in the differences.
func FuzzDamage(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3})
	f.Add([]byte{3, 2, 1, 0, 67, 9, 10, 72})
	f.Add([]byte{0, 129, 2, 131, 132})
	f.Fuzz(func(t *testing.T, order []byte) {
		kinds := [...]DifferenceKind{Content, Unreadable}
		found, g := map[int64]DifferenceKind{}, damage{}
		for _, b := range order {
			i := int64(b & 127)
			if _, met := found[i]; met {
				continue
			}
			found[i] = kinds[b>>7]
			g.addBlock([]Difference{{Kind: found[i], Ranges: []ByteRange{{i * tree.BlockSize, (i + 1) * tree.BlockSize}}}})
		}
		reported, end, last := map[int64]DifferenceKind{}, int64(-1), DifferenceKind("")
		for _, d := range g.differences() {
			if d.Kind == last {
				t.Errorf("two differences of kind %s follow each other", last)
			}
			last = d.Kind
			before := int64(-1)
			for _, r := range d.Ranges {
				if r.From < end || r.From == before || r.To <= r.From {
					t.Errorf("got range %v after byte %d", r, end)
				}
				for at := r.From; at < r.To; at += tree.BlockSize {
					reported[at/tree.BlockSize] = d.Kind
				}
				end, before = r.To, r.To
			}
		}
		if !reflect.DeepEqual(reported, found) {
			t.Errorf("got blocks %v, want %v", reported, found)
		}
	})
}

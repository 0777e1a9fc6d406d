package report_test

import (
	"bytes"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"shard_to_ssd/bench/internal/benchtest"
	"shard_to_ssd/internal/testkit"
)

// runChromium opens a page from disk, without a window, and returns its log.
func runChromium(t *testing.T, page string, args ...string) string {
	t.Helper()
	args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
		"--user-data-dir=" + t.TempDir(), "--window-size=1200,5300"}, args...)
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "chromium", append(args, "file://"+page)...)
	cmd.Stderr = &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, log.String())
	}
	return log.String()
}

// measureBrightness returns the mean brightness of a picture, 0 to 1, and the number of
// its colours.
func measureBrightness(t *testing.T, picture string) (mean float64, colours int) {
	t.Helper()
	f, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[3]uint32]bool{}
	sum, n := 0.0, 0.0
	for y := 0; y < m.Bounds().Dy(); y += 3 {
		for x := 0; x < m.Bounds().Dx(); x += 3 {
			r, g, b, _ := m.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
			sum += float64(r+g+b) / 3 / 0xffff
			n++
		}
	}
	return sum / n, len(seen)
}

// The page opens from disk in both colour schemes and as a PDF, without a message on the
// console. If SSDBENCH_SHOTS is set, the pictures are kept in that directory.
func TestChromium(t *testing.T) {
	testkit.RequireTools(t, "chromium")
	dir := t.TempDir()
	page := filepath.Join(dir, "report.html")
	text := renderPage(t, benchtest.CachedDrive().MakeResult(6), benchtest.SteadyDrive().MakeResult(6))
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	shots := dir
	if keep := os.Getenv("SSDBENCH_SHOTS"); keep != "" {
		shots = keep
	}
	for _, scheme := range []struct {
		name, setting string
		least, most   float64
	}{{"light", "1", 0.85, 1}, {"dark", "0", 0, 0.2}} {
		shot := filepath.Join(shots, scheme.name+".png")
		log := runChromium(t, page, "--blink-settings=preferredColorScheme="+scheme.setting, "--screenshot="+shot)
		if strings.Contains(log, "CONSOLE") {
			t.Errorf("%s: got console messages: %s", scheme.name, log)
		}
		mean, colours := measureBrightness(t, shot)
		if mean < scheme.least || mean > scheme.most || colours < 50 {
			t.Errorf("%s: got brightness %.2f and %d colours", scheme.name, mean, colours)
		}
	}
	paper := filepath.Join(shots, "report.pdf")
	if log := runChromium(t, page, "--print-to-pdf="+paper, "--no-pdf-header-footer", "--blink-settings=preferredColorScheme=0"); strings.Contains(log, "CONSOLE") {
		t.Errorf("PDF: got console messages: %s", log)
	}
	if st, err := os.Stat(paper); err != nil || st.Size() < 10_000 {
		t.Errorf("the PDF is too small: %v, %v", st, err)
	}
}

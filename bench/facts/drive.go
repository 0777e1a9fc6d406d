package facts

import (
	"os"
	"path/filepath"
	"strings"

	"shard_to_ssd/bench"
)

// addIdentity adds model, firmware and serial number, from the files of each kind of
// drive.
func (d disk) addIdentity(f *bench.Facts) {
	// virtio has its serial number at the disk, and neither model nor firmware.
	f.Serial = readText(filepath.Join(d.dir, "serial"))
	if d.drive == "" {
		return
	}
	f.Model = readText(filepath.Join(d.drive, "model"))
	f.Firmware = firstKnown(readText(filepath.Join(d.drive, "firmware_rev")), readText(filepath.Join(d.drive, "rev")))
	f.Serial = firstKnown(f.Serial, readText(filepath.Join(d.drive, "serial")), unitSerial(filepath.Join(d.drive, "vpd_pg80")))
	if id, ok := readATAID(filepath.Join(d.drive, "vpd_pg89")); ok {
		f.Model, f.Firmware, f.Serial = id.textOfWords(27, 46), id.textOfWords(23, 26), id.textOfWords(10, 19)
	} else if vendor := readText(filepath.Join(d.drive, "vendor")); f.Model != nil && vendor != nil && *vendor != "ATA" && isSCSI(d.drive) {
		*f.Model = *vendor + " " + *f.Model
	}
}

func firstKnown(of ...*string) *string {
	for _, s := range of {
		if s != nil {
			return s
		}
	}
	return nil
}

// isSCSI reports whether a device is named host:channel:target:lun.
func isSCSI(drive string) bool { return strings.Count(filepath.Base(drive), ":") == 3 }

// unitSerial returns the serial number of a SCSI device: page 0x80 of its vital product
// data, after a header of 4 bytes.
func unitSerial(path string) *string {
	page, err := os.ReadFile(path)
	if err != nil || len(page) < 4 {
		return nil
	}
	return knownText(string(page[4:]))
}

// ataID is the answer of an ATA drive to IDENTIFY DEVICE. SCSI has room for only 16
// characters of its model and 4 of its firmware; the kernel keeps the whole answer
// (Linux 5.18).
type ataID []byte

// readATAID reads page 0x89, ATA information, with the 512 bytes of IDENTIFY DEVICE
// after a header of 60 bytes (SAT-5).
func readATAID(path string) (ataID, bool) {
	page, err := os.ReadFile(path)
	if err != nil || len(page) < 60+512 {
		return nil, false
	}
	return page[60:], true
}

// textOfWords returns the text in the words from first to last. The two characters of a
// word are swapped.
func (id ataID) textOfWords(first, last int) *string {
	var s []byte
	for i := 2 * first; i <= 2*last; i += 2 {
		s = append(s, id[i+1], id[i])
	}
	return knownText(string(s))
}

// transportName returns how the drive is connected, from the directories above it in
// sysfs.
func (d disk) transportName() *string {
	for _, dir := range []string{d.drive, d.dir} {
		for ; d.isInSysfs(dir); dir = filepath.Dir(dir) {
			if name := busName(filepath.Base(dir)); name != "" {
				return knownText(name + d.fabricSuffix(name))
			}
		}
	}
	return nil
}

// fabricSuffix returns how an NVMe drive is connected if not by PCIe: -tcp, -rdma.
func (d disk) fabricSuffix(bus string) string {
	by := readText(filepath.Join(d.drive, "transport"))
	if bus != "nvme" || by == nil || *by == "pcie" {
		return ""
	}
	return "-" + *by
}

// isInSysfs reports whether a directory is below the root of sysfs.
func (d disk) isInSysfs(dir string) bool { return strings.HasPrefix(dir, d.root+"/") }

// busName returns the bus that a directory of sysfs is named after, "" for other names.
func busName(name string) string {
	if strings.HasPrefix(name, "end_device-") {
		return "sas"
	}
	if strings.HasPrefix(name, "vbd-") {
		return "xen"
	}
	switch strings.TrimRight(name, "0123456789") {
	case name: // a bus itself has no number, a device on it has one
		return ""
	case "nvme":
		return "nvme"
	case "ata":
		return "sata"
	case "usb":
		return "usb"
	case "virtio":
		return "virtio"
	case "mmc":
		return "mmc"
	}
	return ""
}

// addLink adds the PCIe link of an NVMe drive, or the SATA link of a SATA drive. The PCIe
// link of a SATA controller is not that of the drive.
func (d disk) addLink(f *bench.Facts) {
	if f.Transport == nil {
		return
	}
	for dir := d.drive; d.isInSysfs(dir); dir = filepath.Dir(dir) {
		switch *f.Transport {
		case "nvme":
			if _, err := os.Stat(filepath.Join(dir, "current_link_speed")); err == nil {
				f.LinkSpeed, f.LinkWidth = pcieLink(dir, "current")
				f.LinkSpeedMax, f.LinkWidthMax = pcieLink(dir, "max")
				return
			}
		case "sata":
			if busName(filepath.Base(dir)) == "sata" {
				f.LinkSpeed = sataSpeed(dir)
				return
			}
		}
	}
}

func pcieLink(dir, which string) (speed *string, width *int) {
	speed = knownSpeed(readText(filepath.Join(dir, which+"_link_speed")))
	// The kernel writes 0 or 255 for a link that does not exist.
	if n := readNumber(filepath.Join(dir, which+"_link_width")); n != nil && *n > 0 && *n < 255 {
		lanes := int(*n)
		width = &lanes
	}
	return speed, width
}

func sataSpeed(port string) *string {
	links, _ := filepath.Glob(filepath.Join(port, "link*", "ata_link", "link*", "sata_spd"))
	if len(links) != 1 {
		return nil // a port multiplier
	}
	return knownSpeed(readText(links[0]))
}

// knownSpeed returns nil for a speed that the kernel calls unknown.
func knownSpeed(s *string) *string {
	if s == nil || strings.Contains(strings.ToLower(*s), "unknown") {
		return nil
	}
	return s
}

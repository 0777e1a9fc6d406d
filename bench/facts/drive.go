package facts

import (
	"os"
	"path/filepath"
	"strings"

	"shard_to_ssd/bench"
)

// identify asks for model, firmware and serial where each kind of drive has them.
func (d disk) identify(f *bench.Facts) {
	// virtio has its serial at the disk, and neither model nor firmware.
	f.Serial = text(filepath.Join(d.dir, "serial"))
	if d.drive == "" {
		return
	}
	f.Model = text(filepath.Join(d.drive, "model"))
	f.Firmware = first(text(filepath.Join(d.drive, "firmware_rev")), text(filepath.Join(d.drive, "rev")))
	f.Serial = first(f.Serial, text(filepath.Join(d.drive, "serial")), unitSerial(filepath.Join(d.drive, "vpd_pg80")))
	if id, ok := identity(filepath.Join(d.drive, "vpd_pg89")); ok {
		f.Model, f.Firmware, f.Serial = id.word(27, 46), id.word(23, 26), id.word(10, 19)
	} else if vendor := text(filepath.Join(d.drive, "vendor")); f.Model != nil && vendor != nil && *vendor != "ATA" && isSCSI(d.drive) {
		*f.Model = *vendor + " " + *f.Model
	}
}

func first(of ...*string) *string {
	for _, s := range of {
		if s != nil {
			return s
		}
	}
	return nil
}

// isSCSI is whether a device is named host:channel:target:lun.
func isSCSI(drive string) bool { return strings.Count(filepath.Base(drive), ":") == 3 }

// unitSerial is the serial of a SCSI device: page 0x80 of its vital product data, which
// has it after a head of 4 bytes.
func unitSerial(path string) *string {
	page, err := os.ReadFile(path)
	if err != nil || len(page) < 4 {
		return nil
	}
	return known(string(page[4:]))
}

// ataID is what an ATA drive says to IDENTIFY DEVICE. SCSI has room for 16 characters
// of its model and 4 of its firmware only; the kernel keeps the whole (Linux 5.18).
type ataID []byte

// identity is page 0x89, ATA information: IDENTIFY's 512 bytes come after 60 (SAT-5).
func identity(path string) (ataID, bool) {
	page, err := os.ReadFile(path)
	if err != nil || len(page) < 60+512 {
		return nil, false
	}
	return page[60:], true
}

// word is the text of words from first to last. A word has its second character first.
func (id ataID) word(first, last int) *string {
	var s []byte
	for i := 2 * first; i <= 2*last; i += 2 {
		s = append(s, id[i+1], id[i])
	}
	return known(string(s))
}

// transport is how the drive is connected, from the way to it through sysfs.
func (d disk) transport() *string {
	for _, dir := range []string{d.drive, d.dir} {
		for ; d.inside(dir); dir = filepath.Dir(dir) {
			if name := bus(filepath.Base(dir)); name != "" {
				return known(name + d.fabric(name))
			}
		}
	}
	return nil
}

// fabric is how an NVMe drive is reached, if not through PCIe: -tcp, -rdma.
func (d disk) fabric(bus string) string {
	by := text(filepath.Join(d.drive, "transport"))
	if bus != "nvme" || by == nil || *by == "pcie" {
		return ""
	}
	return "-" + *by
}

// inside is true of directories below the root of sysfs.
func (d disk) inside(dir string) bool { return strings.HasPrefix(dir, d.root+"/") }

// bus is the kind of a directory of sysfs that is named after a bus, "" of others.
func bus(name string) string {
	if strings.HasPrefix(name, "end_device-") {
		return "sas"
	}
	if strings.HasPrefix(name, "vbd-") {
		return "xen"
	}
	switch strings.TrimRight(name, "0123456789") {
	case name: // the bus itself has no number: there is one thing on it at least
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

// link is the connection of an NVMe drive to PCIe, or of a SATA drive. That of what a
// SATA controller is plugged into is not the drive's.
func (d disk) link(f *bench.Facts) {
	if f.Transport == nil {
		return
	}
	for dir := d.drive; d.inside(dir); dir = filepath.Dir(dir) {
		switch *f.Transport {
		case "nvme":
			if _, err := os.Stat(filepath.Join(dir, "current_link_speed")); err == nil {
				f.LinkSpeed, f.LinkWidth = pcie(dir, "current")
				f.LinkSpeedMax, f.LinkWidthMax = pcie(dir, "max")
				return
			}
		case "sata":
			if bus(filepath.Base(dir)) == "sata" {
				f.LinkSpeed = sata(dir)
				return
			}
		}
	}
}

func pcie(dir, which string) (speed *string, width *int) {
	speed = said(text(filepath.Join(dir, which+"_link_speed")))
	// 0 and 255 are what the kernel says of a link that is not there.
	if n := number(filepath.Join(dir, which+"_link_width")); n != nil && *n > 0 && *n < 255 {
		lanes := int(*n)
		width = &lanes
	}
	return speed, width
}

func sata(port string) *string {
	links, _ := filepath.Glob(filepath.Join(port, "link*", "ata_link", "link*", "sata_spd"))
	if len(links) != 1 {
		return nil // a port multiplier
	}
	return said(text(links[0]))
}

// said is nil for the kernel's ways of saying that it does not know.
func said(s *string) *string {
	if s == nil || strings.Contains(strings.ToLower(*s), "unknown") {
		return nil
	}
	return s
}

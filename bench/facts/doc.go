// Package facts describes the device of a directory and the machine:
//
//  1. It finds the mount in /proc/self/mountinfo by its id (statx). That has the file
//     system, its options, and the number of its block device. For btrfs, it takes the
//     only device of the pool.
//  2. From there it goes down to a disk, through a partition and through devices with
//     one device below them (LVM, crypt). It stops at a device that combines several.
//  3. It reads the facts of the disk from sysfs: model, firmware, serial number, size,
//     queue, transport, the link of an NVMe or SATA drive, and its thermometer (nvme and
//     drivetemp of hwmon).
//  4. It reads the facts of the machine from /proc and sysfs.
//
// A fact is nil if it is absent or unknown. github.com/prometheus/procfs reads mounts,
// CPUs, memory and DMI. That library also knows block queues and NVMe controllers, but
// returns nothing if one file is missing, and kernels differ in their files. So this
// package reads those itself, one file at a time.
//
// The facts are those that the kernel shows. For a drive behind a RAID controller, or
// in a virtual machine, they describe the device that the controller or host presents.
package facts

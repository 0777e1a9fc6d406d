// Package facts finds out what device a directory is on, and on what machine:
//
//  1. the mount, by its id (statx) in /proc/self/mountinfo: file system, options, and
//     the number of its block device; of btrfs, the only device of its pool;
//  2. from there down, through a partition, and through what has one device below it
//     (LVM, crypt), to a disk. What is made of several disks is where this ends;
//  3. of the disk what sysfs says: model, firmware, serial, size, queue, transport, the
//     link of an NVMe or SATA drive, and its thermometer (nvme and drivetemp of hwmon);
//  4. of the machine what /proc and sysfs say.
//
// What is not there is nil, and so is what cannot be told. Mounts, CPUs, memory and DMI
// are read by github.com/prometheus/procfs. It also knows block queues and NVMe
// controllers, but says nothing of any if one file is missing, and kernels differ in
// which there are: these are read here, a file at a time.
//
// Facts are the kernel's word: of a drive behind a RAID controller, or in a virtual
// machine, they are what that shows.
package facts

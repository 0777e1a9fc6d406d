package torture

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// cut is one way in which the power is cut. It returns the contents of the disks.
type cut struct {
	kind, name string
	power      func(m *machine) (image, error)
}

// anyCut draws a cut. ext4 and XFS can be shut down, which keeps everything that was
// sent to the disk. Every file system can lose the write cache of its disk.
func anyCut(kind string, r *rand.Rand) cut {
	if kind != "btrfs" && r.IntN(3) == 0 {
		return shutDownCut(uint32(r.IntN(shutDownFlags)), r.IntN(len(mountPoints)))
	}
	part := []float64{0, 1, r.Float64()}[r.IntN(3)]
	if r.IntN(4) == 0 { // all up to one of them, in the order of writing
		stopped, each := false, 1/float64(1+r.IntN(200))
		return cacheCut("write cache lost from some sector on", func() bool {
			stopped = stopped || r.Float64() < each
			return !stopped
		})
	}
	return cacheCut(fmt.Sprintf("write cache lost except %.0f %% of its sectors", part*100),
		func() bool { return r.Float64() < part })
}

func cacheCut(name string, keep func() bool) cut {
	return cut{"write cache lost", name, func(m *machine) (image, error) { return m.supply.cutPower(keep), nil }}
}

// shutDownCut shuts both file systems down, one before the other.
func shutDownCut(flag uint32, first int) cut {
	return cut{"shut down", fmt.Sprintf("shut down, flag %d, %s first", flag, mountPoints[first]), func(m *machine) (image, error) {
		var err error
		for i := range mountPoints {
			err = errors.Join(err, shutDownFS(filepath.Join(m.dir, mountPoints[(first+i)%len(mountPoints)]), flag))
		}
		return nil, err
	}}
}

// moment is when the power is cut: when the process has stopped itself, or after a
// time.
type moment struct {
	fault string
	delay time.Duration
}

func (at moment) String() string {
	if at.fault != "" {
		return "SHARD_TO_SSD_FAULT=" + at.fault
	}
	return fmt.Sprint("after ", at.delay)
}

// cutDuring starts a command, cuts the power, and kills the command if it still runs.
// Then the machine is off, and left is the content of its disks. returned reports
// whether the command had ended before the cut.
func (m *machine) cutDuring(c *exec.Cmd, at moment, how cut) (left image, returned bool, o outcome, err error) {
	var out, messages bytes.Buffer
	c.Stdout, c.Stderr = &out, &messages
	if at.fault != "" {
		c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT="+at.fault)
	}
	if err := c.Start(); err != nil {
		return nil, false, o, err
	}
	returned, waitErr := at.waitFor(c.Process.Pid)
	left, err = how.power(m)
	_ = c.Process.Kill() // it may have ended
	_ = c.Wait()
	o = outcome{statusOf(c.ProcessState), out.String(), messages.String()}
	err = errors.Join(err, waitErr, m.unmountAll())
	if left == nil {
		left = m.supply.cutPower(keepAll)
	}
	return left, returned, o, err
}

// waitFor waits for the moment, or for the end of the process if that is earlier.
func (at moment) waitFor(pid int) (ended bool, err error) {
	if at.fault != "" {
		return waitChanged(pid, unix.WSTOPPED)
	}
	end := make(chan bool)
	go func() {
		defer close(end)
		_, _ = waitChanged(pid, 0) // the same is asked again below
	}()
	select {
	case <-time.After(at.delay):
	case <-end:
	}
	return waitChanged(pid, unix.WNOHANG)
}

// waitChanged waits until a process has ended or, with WSTOPPED, was stopped. With
// WNOHANG it does not wait. It leaves the process to be reaped by Wait.
func waitChanged(pid, flags int) (ended bool, err error) {
	var info unix.Siginfo
	for {
		err = unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|flags, nil)
		if err != unix.EINTR {
			break
		}
	}
	const stopped = 5 // CLD_STOPPED
	return err == nil && info.Signo != 0 && info.Code != stopped, err
}

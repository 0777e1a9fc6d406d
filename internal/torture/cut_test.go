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

// cut is one way in which the power goes. It returns what is on the disks then.
type cut struct {
	kind, name string
	power      func(m *machine) (image, error)
}

// anyCut draws one. ext4 and XFS can be shut down, which keeps all that the disk
// was given; every file system can lose what is in the write cache of its disk.
func anyCut(kind string, r *rand.Rand) cut {
	if kind != "btrfs" && r.IntN(3) == 0 {
		return shutDownCut(uint32(r.IntN(shutDownFlags)), r.IntN(len(mountPoints)))
	}
	part := []float64{0, 1, r.Float64()}[r.IntN(3)]
	if r.IntN(4) == 0 { // in the order in which they were written, up to one
		stopped, each := false, 1/float64(1+r.IntN(200))
		return cacheCut("write cache lost from some sector on", func() bool {
			stopped = stopped || r.Float64() < each
			return !stopped
		})
	}
	return cacheCut(fmt.Sprintf("write cache lost but for %.0f %% of its sectors", part*100),
		func() bool { return r.Float64() < part })
}

func cacheCut(name string, keep func() bool) cut {
	return cut{"write cache lost", name, func(m *machine) (image, error) { return m.supply.cut(keep), nil }}
}

// shutDownCut shuts both file systems down, the one before the other.
func shutDownCut(flag uint32, first int) cut {
	return cut{"shut down", fmt.Sprintf("shut down, flag %d, %s first", flag, mountPoints[first]), func(m *machine) (image, error) {
		var err error
		for i := range mountPoints {
			err = errors.Join(err, goDown(filepath.Join(m.dir, mountPoints[(first+i)%len(mountPoints)]), flag))
		}
		return nil, err
	}}
}

// moment is when the power goes: when the process has stopped itself, or after a
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

// interrupt starts a command, cuts the power, and kills what is left of the
// command. The machine is off then; left is what is on its disks. returned says
// that the command had ended before the power went.
func (m *machine) interrupt(c *exec.Cmd, at moment, how cut) (left image, returned bool, o outcome, err error) {
	var out, messages bytes.Buffer
	c.Stdout, c.Stderr = &out, &messages
	if at.fault != "" {
		c.Env = append(os.Environ(), "SHARD_TO_SSD_FAULT="+at.fault)
	}
	if err := c.Start(); err != nil {
		return nil, false, o, err
	}
	returned, waitErr := at.wait(c.Process.Pid)
	left, err = how.power(m)
	c.Process.Kill() //nolint:errcheck // it may have ended
	c.Wait()         //nolint:errcheck // killed
	o = outcome{status(c.ProcessState), out.String(), messages.String()}
	err = errors.Join(err, waitErr, m.off())
	if left == nil {
		left = m.supply.cut(always)
	}
	return left, returned, o, err
}

// wait waits for the moment, or the end of the process if that comes before.
func (at moment) wait(pid int) (ended bool, err error) {
	if at.fault != "" {
		return changed(pid, unix.WSTOPPED)
	}
	end := make(chan bool)
	go func() {
		defer close(end)
		changed(pid, 0) //nolint:errcheck // asked again below; reaped by somebody, it has ended too
	}()
	select {
	case <-time.After(at.delay):
	case <-end:
	}
	return changed(pid, unix.WNOHANG)
}

// changed waits until a process has ended, or, with WSTOPPED, was stopped; with
// WNOHANG it only looks. The process is left to be waited for.
func changed(pid, flags int) (ended bool, err error) {
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

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end by itself. Vault seals, which
// waits for the plugin (5 s at most).
const stopGrace = 15 * time.Second

// process is a child in a process group of its own, so that what it starts
// itself (Vault its plugins) can be reached too, and so that Ctrl-C reaches
// this program alone, which then stops its children in order.
type process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// startProcess starts cmd with its output appended to a log file.
func (s *Stack) startProcess(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, logPath: s.LogPath(name), cmd: cmd, exited: make(chan struct{})}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.guard.watch(p.pid())
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		// What it leaves behind (a killed Vault its plugins) goes with it, now:
		// later the number may belong to someone else.
		killGroup(p.pid())
		s.guard.forget(p.pid())
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// terminate asks the process to end, and kills it if it does not.
func (p *process) terminate() {
	if !p.running() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopGrace):
		p.kill()
	}
}

// kill ends the process and everything in its group at once, as a power cut
// would, and waits until they are gone.
func (p *process) kill() {
	if p.running() {
		killGroup(p.pid())
		<-p.exited
	}
}

func killGroup(pgid int) {
	_ = syscall.Kill(-pgid, syscall.SIGKILL)
}

// failure turns an error about the process into one that shows the end of its
// log, which is where the reason is.
func (p *process) failure(err error) error {
	if !p.running() {
		err = fmt.Errorf("%w (%s ended: %s)", err, p.name, p.cmd.ProcessState)
	}
	return fmt.Errorf("%w; the end of %s:\n%s", err, p.logPath, logTail(p.logPath))
}

// logTail is the last lines of a log file.
func logTail(path string) string {
	const lines, maxBytes = 15, 8 << 10
	f, err := os.Open(path) // #nosec G304 -- a log file of the stack
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	buf := make([]byte, min(info.Size(), maxBytes))
	if _, err := f.ReadAt(buf, info.Size()-int64(len(buf))); err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(buf), "\n"), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// childEnv is the environment without what would point a Vault client or
// server elsewhere, plus extra.
func (s *Stack) childEnv(extra ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !isClientSetting(kv) {
			env = append(env, kv)
		}
	}
	if s.socketDir != "" {
		env = append(env, "TMPDIR="+s.socketDir)
	}
	return append(env, extra...)
}

// poll calls ready until it says so, an error says that it never will, or the
// time is over.
func poll(limit time.Duration, done <-chan struct{}, ready func() (bool, error)) error {
	const interval = 20 * time.Millisecond
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		ok, err := ready()
		if err != nil || ok {
			return err
		}
		select {
		case <-done:
			return errors.New("interrupted")
		case <-deadline.C:
			return fmt.Errorf("not ready after %s", limit)
		case <-time.After(interval):
		}
	}
}

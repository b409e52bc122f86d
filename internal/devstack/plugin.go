// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hashicorp/vault/api"
)

// KillPlugin ends the plugin's process with SIGKILL, as a crash would. Vault
// starts it again with the next request to the mount; one that comes before
// Vault has noticed, within milliseconds, is answered with 500.
func (s *Stack) KillPlugin() error {
	pids, err := s.PluginPIDs()
	if err != nil {
		return fmt.Errorf("kill the plugin: %w", err)
	}
	if len(pids) == 0 {
		return errors.New("kill the plugin: it is not running")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill the plugin: %w", err)
		}
	}
	return nil
}

// ReloadPlugin has Vault end the plugin in order and start it again.
func (s *Stack) ReloadPlugin(ctx context.Context) error {
	_, err := s.Client().Sys().ReloadPluginWithContext(ctx, &api.ReloadPluginInput{Plugin: pluginCmd})
	if err != nil {
		return fmt.Errorf("reload the plugin: %w", err)
	}
	return nil
}

// PluginPIDs are the plugin's processes: Vault's children that run a file
// of it.
func (s *Stack) PluginPIDs() ([]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.vault.running() {
		return nil, nil
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return childrenByPgrep(s.vault.pid(), pluginCmd)
	}
	return childrenByProc(s.vault.pid(), filepath.Join(s.pluginDir(), pluginCmd))
}

// childrenByProc reads Linux's process table for children whose executable's path
// begins so.
func childrenByProc(parent int, executable string) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, stat := range stats {
		data, err := os.ReadFile(stat) // #nosec G304 -- /proc
		if err != nil {
			continue // ended meanwhile
		}
		// "pid (name) state ppid …"; the name may hold anything.
		_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		dir := filepath.Dir(stat)
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || !strings.HasPrefix(exe, executable) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// childrenByPgrep asks pgrep, where there is no /proc.
func childrenByPgrep(parent int, name string) ([]int, error) {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(parent), "-f", name).Output() // #nosec G204 -- no shell
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil, nil // none
	}
	if err != nil {
		return nil, fmt.Errorf("pgrep: %w", err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("pgrep: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

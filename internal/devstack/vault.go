// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/template"
	"time"
)

const readyTimeout = 30 * time.Second

// ports are the TCP ports on 127.0.0.1 that Vault uses; the proxy's is in
// Options until it runs.
type ports struct{ api, cluster int }

var configTemplate = template.Must(template.New("vault.hcl").Parse(`# Written by devstack, for development only.
disable_mlock    = true
ui               = false
log_level        = "{{.LogLevel}}"
plugin_directory = {{printf "%q" .Plugins}}
{{- if .RawStorage}}
raw_storage_endpoint = true
{{- end}}
{{- if .OpenBao}}

# Tests enable audit devices, which OpenBao otherwise takes from its configuration alone.
unsafe_allow_api_audit_creation = true
{{- end}}
api_addr         = "http://127.0.0.1:{{.API}}"
cluster_addr     = "http://127.0.0.1:{{.Cluster}}"

listener "tcp" {
  address         = "127.0.0.1:{{.API}}"
  cluster_address = "127.0.0.1:{{.Cluster}}"
  tls_disable     = true
{{- if .OpenBao}}

  # Bulk writes and batches have up to 10,000 entries; OpenBao allows 1,000 strings. It
  # reckons 32 bytes and more for each beyond its length, and stops at 32.5 MiB.
  max_request_json_strings = 500000
  max_request_json_memory  = 67108864
{{- end}}
}
{{if .Raft}}
storage "raft" {
  path                   = {{printf "%q" .RaftDir}}
  node_id                = {{printf "%q" .NodeID}}
  performance_multiplier = {{.Patience}}

  # Nodes that join a cluster are given their vote within seconds.
  autopilot_update_interval    = "1s"
  autopilot_reconcile_interval = "2s"
}
{{else}}
storage "inmem" {}
{{end}}`))

// errPortTaken says that someone else was faster at taking a port.
var errPortTaken = errors.New("a port is taken")

// startVaultOnFreePorts starts the server, with other ports if those that were
// free a moment ago are not any more. A port that the caller chose is not
// changed.
func (s *Stack) startVaultOnFreePorts(ctx context.Context) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		free, err := freePorts(2)
		if err != nil {
			return err
		}
		s.ports = ports{api: free[0], cluster: free[1]}
		if s.opts.VaultPort != 0 {
			s.ports.api = s.opts.VaultPort
		}
		err = s.startVault(ctx)
		if !errors.Is(err, errPortTaken) || s.opts.VaultPort != 0 || attempt == attempts {
			return err
		}
	}
}

// startVault starts the server on the ports chosen and waits until it answers,
// sealed as it is.
func (s *Stack) startVault(ctx context.Context) error {
	if err := s.writeConfig(); err != nil {
		return err
	}
	if s.opts.Storage == Raft {
		if err := os.MkdirAll(s.path("raft"), 0o700); err != nil {
			return err
		}
	}
	cmd := exec.Command(s.opts.VaultBin, "server", "-config="+s.path("vault.hcl")) // #nosec G204 -- a binary the caller names
	cmd.Env = s.childEnv("HOME=" + s.opts.DataDir)
	cmd.Dir = s.opts.DataDir
	logged := fileSize(s.LogPath("vault"))
	vault, err := s.startProcess("vault", cmd)
	if err != nil {
		return err
	}
	s.vault = vault
	err = s.waitHealth(ctx, http.StatusOK, http.StatusTooManyRequests, http.StatusNotImplemented, http.StatusServiceUnavailable)
	if err != nil && bytes.Contains(readFrom(s.LogPath("vault"), logged), []byte("address already in use")) {
		return fmt.Errorf("start Vault on ports %d and %d: %w", s.ports.api, s.ports.cluster, errPortTaken)
	}
	return err
}

func (s *Stack) writeConfig() error {
	openBao, err := s.IsOpenBao()
	if err != nil {
		return err
	}
	var config bytes.Buffer
	err = configTemplate.Execute(&config, map[string]any{
		"LogLevel": s.opts.LogLevel,
		"Plugins":  s.pluginDir(),
		"OpenBao":  openBao,
		"RaftDir":  s.path("raft"),
		"API":      s.ports.api,
		"Cluster":  s.ports.cluster,
		"Raft":     s.opts.Storage == Raft,
		"NodeID":   cmp.Or(s.opts.nodeID, "devstack"),
		"Patience": s.patience(),

		"RawStorage": s.opts.RawStorage,
	})
	if err != nil {
		return err
	}
	return WriteFile(s.path("vault.hcl"), config.Bytes())
}

// IsOpenBao asks the server's program what it is.
func (s *Stack) IsOpenBao() (bool, error) {
	said, err := s.ServerVersion()
	return strings.HasPrefix(said, "OpenBao"), err
}

// ServerVersion is what the server's program says of itself: a name and a version, first.
func (s *Stack) ServerVersion() (string, error) {
	cmd := exec.Command(s.opts.VaultBin, "version") // #nosec G204 -- a binary the caller names
	cmd.Env = s.childEnv("HOME=" + s.opts.DataDir)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", s.opts.VaultBin, err)
	}
	return string(out), nil
}

// patience scales Raft's timeouts, half a second and more at 1. A node alone need
// not wait for anyone. Nodes of a cluster that share a busy machine must not take
// one another for dead; Vault's own default is 5.
func (s *Stack) patience() int {
	if s.opts.nodeID == "" {
		return 1
	}
	return 4
}

// waitHealth waits until Vault's health endpoint answers with one of the
// wanted codes: 501 is not initialized, 503 sealed, 429 standby, 200 active.
func (s *Stack) waitHealth(ctx context.Context, want ...int) error {
	vault := s.vault
	err := poll(readyTimeout, ctx.Done(), func() (bool, error) {
		if !vault.running() {
			return false, errors.New("it did not stay up")
		}
		code, err := getStatus(ctx, s.VaultAddr()+"/v1/sys/health")
		if err != nil {
			return false, nil //nolint:nilerr // not listening yet is what we wait for
		}
		for _, w := range want {
			if code == w {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return vault.failure(fmt.Errorf("wait for Vault: %w", err))
	}
	return nil
}

// freePorts finds n TCP ports on 127.0.0.1 that nobody listens on right now.
func freePorts(n int) ([]int, error) {
	var found []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		p, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	return found, nil
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// readFrom is the content of a file from an offset on, empty if there is none.
func readFrom(path string, offset int64) []byte {
	data, err := os.ReadFile(path) // #nosec G304 -- a log file of the stack
	if err != nil || int64(len(data)) < offset {
		return nil
	}
	return data[offset:]
}

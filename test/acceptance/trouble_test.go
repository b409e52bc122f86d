// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var (
	vaultServes  = map[string]any{"reachable": true, "initialized": true, "sealed": false, "standby": false}
	vaultSealed  = map[string]any{"reachable": true, "initialized": true, "sealed": true}
	vaultMissing = map[string]any{"reachable": false, "initialized": nil, "sealed": nil, "standby": nil, "version": nil}
)

// TestVaultInTrouble has clients call the proxy all the time while Vault is
// sealed, ended, started, stopped and without a leader. Every answer is what it
// always is, or 503 in the envelope of its family, and in time; the proxy finds
// back by itself, and at the end it holds no more than it did before.
func TestVaultInTrouble(t *testing.T) {
	t.Setenv("DEK_PROXY_VAULT_TIMEOUT", vaultTimeout.String())
	s := start(t, devstack.Options{Storage: devstack.Raft})
	c := newCaller(t, s)
	health(t, s, http.StatusOK, vaultServes)
	c.all(t, false, 0)
	before := proxyGauges(t, s)

	for _, trouble := range []struct {
		name    string
		begin   func(t *testing.T)
		end     func(t *testing.T)
		during  map[string]any
		refused bool
		// also is a status that a request may have on OpenBao besides 503, if it is one that it wants.
		also int
	}{
		{
			"sealed",
			func(t *testing.T) { require.NoError(t, s.Seal(t.Context())) },
			func(t *testing.T) { require.NoError(t, s.Unseal(t.Context())) },
			vaultSealed, true, 0,
		},
		{
			"killed",
			func(*testing.T) { s.KillVault() },
			func(t *testing.T) { require.NoError(t, s.RestartVault(t.Context())) },
			vaultMissing, true, 0,
		},
		{
			"stopped",
			func(t *testing.T) { signalVault(t, s, syscall.SIGSTOP) },
			func(t *testing.T) { signalVault(t, s, syscall.SIGCONT) },
			vaultMissing, true, 0,
		},
		{
			"without a leader",
			func(t *testing.T) { stepDown(t, s) },
			func(*testing.T) {},
			map[string]any{"reachable": true, "sealed": false, "standby": true},
			true, http.StatusBadRequest, // OpenBao's standby says by itself that it knows the token of a malformed request
		},
		{"restarted", func(*testing.T) {}, func(t *testing.T) { require.NoError(t, s.RestartVault(t.Context())) }, nil, false, 0},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			stop := c.keepCalling(t)
			trouble.begin(t)
			if trouble.refused {
				health(t, s, http.StatusServiceUnavailable, trouble.during)
				also := 0
				if isOpenBao(t, s) {
					also = trouble.also
				}
				c.all(t, true, also)
			}
			trouble.end(t)
			health(t, s, http.StatusOK, vaultServes)
			stop()
			c.all(t, false, 0)
		})
	}
	require.EventuallyWithT(t, func(ct *assert.CollectT) {
		for name, value := range proxyGauges(t, s) {
			assert.LessOrEqual(ct, value, before[name]+10, name)
		}
	}, 60*time.Second, time.Second)
}

// stepDown has the only node of the cluster give up its leadership. It waits ten
// seconds before it takes it up again.
func stepDown(t *testing.T, s *devstack.Stack) {
	t.Helper()
	a := callRoot(t, s, http.MethodPut, "sys/step-down", nil)
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
}

// signalVault sends a signal to the server, not to the plugin.
func signalVault(t *testing.T, s *devstack.Stack, signal syscall.Signal) {
	t.Helper()
	pids, err := s.PIDs()
	require.NoError(t, err)
	vault := pids[len(pids)-2] // then comes the proxy
	require.NoError(t, syscall.Kill(vault, signal))
	if signal == syscall.SIGSTOP {
		t.Cleanup(func() { _ = syscall.Kill(vault, syscall.SIGCONT) })
	}
}

var gaugeForm = regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds) (\S+)$`)

// proxyGauges is what the proxy holds.
func proxyGauges(t *testing.T, s *devstack.Stack) map[string]float64 {
	t.Helper()
	a := callProxy(t, s, http.MethodGet, "/metrics", nil)
	require.Equal(t, http.StatusOK, a.Status)
	gauges := map[string]float64{}
	for _, m := range gaugeForm.FindAllStringSubmatch(string(a.Raw), -1) {
		value, err := strconv.ParseFloat(m[2], 64)
		require.NoError(t, err)
		gauges[m[1]] = value
	}
	require.Contains(t, gauges, "go_goroutines")
	return gauges
}

// TestVaultForgets puts a new, empty Vault at the place of the one that the
// proxy knows, as a restart of a server in memory does: tokens that the proxy
// keeps are unknown there, and it logs in again.
func TestVaultForgets(t *testing.T) {
	s := start(t, devstack.Options{})
	jwt := mint(t, s, "", keyAdmin)
	settings := func() answer {
		return callProxy(t, s, http.MethodGet, settingsPaths[0], nil, "INFA-SESSION-ID", jwt)
	}
	require.Equal(t, http.StatusOK, settings().Status)
	token := login(t, s, "", keyAdmin)

	dir := t.TempDir()
	pair, err := os.ReadFile(filepath.Join(s.DataDir(), "jwt-key.pem"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "jwt-key.pem"), pair, 0o600))
	port, err := strconv.Atoi(regexp.MustCompile(`\d+$`).FindString(s.VaultAddr()))
	require.NoError(t, err)
	s.KillVault()
	require.Equal(t, http.StatusServiceUnavailable, settings().Status)

	start(t, devstack.Options{DataDir: dir, VaultPort: port, NoProxy: true})
	a := settings()
	require.Equal(t, http.StatusOK, a.Status, "%v", a.Body["error"])
	a = callProxy(t, s, http.MethodGet, settingsPaths[0], nil, "INFA-SESSION-ID", token)
	publicError(t, a, http.StatusUnauthorized) // nobody can log in again for that caller
	health(t, s, http.StatusOK, vaultServes)
}

// TestVaultGivesUpDuringRotation seals Vault, and has it give up its leadership,
// while a rotation moves pages and clients write: it does not wait for the
// rotation, which goes on afterwards, and nothing is lost.
func TestVaultGivesUpDuringRotation(t *testing.T) {
	const within = 10 * time.Second // the engine takes 5 at most
	for name, giveUp := range map[string]func(t *testing.T, s *devstack.Stack){
		"seal":      func(t *testing.T, s *devstack.Stack) { require.NoError(t, s.Seal(t.Context())) },
		"step down": stepDown,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, devstack.Options{Storage: devstack.Raft, NoProxy: true})
			tr := newTraffic(t, s, crashItems)
			a := callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"rotation_parallelism": 1, "retired_key_retention": 0})
			require.Less(t, a.Status, 300, a.errors())
			stop := tr.run(t, 3, 2, 500)
			tr.crashDuringRotation(t, func(t *testing.T, s *devstack.Stack) {
				begun := time.Now()
				giveUp(t, s)
				// A request waits until Vault has given up, or was faster.
				require.Eventually(t, func() bool {
					return callRoot(t, s, http.MethodGet, "dek/config", nil).Status >= http.StatusInternalServerError
				}, goneLimit, rotationTick)
				t.Logf("%s took %s", name, time.Since(begun))
				assert.Less(t, time.Since(begun), within)
				require.NoError(t, s.Unseal(t.Context()))
			})
			stop()
			tr.settle(t)
		})
	}
}

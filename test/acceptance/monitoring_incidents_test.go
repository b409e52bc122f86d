// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// road is the way to the transit engine of a key's owner. It can be long, and it can be
// closed.
type road struct {
	*httptest.Server
	long, closed atomic.Bool
}

func newRoad(t *testing.T, to string) *road {
	t.Helper()
	target, err := url.Parse(to)
	require.NoError(t, err)
	const detour = 1200 * time.Millisecond // DEKProviderSlow says what is long
	r, through := &road{}, httputil.NewSingleHostReverseProxy(target)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.closed.Load() {
			http.Error(w, "closed", http.StatusBadGateway)
			return
		}
		if r.long.Load() {
			select {
			case <-time.After(detour):
			case <-req.Context().Done():
				return
			}
		}
		through.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// checkOwner has the engine call the key's owner.
func (m *monitored) checkOwner(t *testing.T) {
	t.Helper()
	callRoot(t, m.s, http.MethodPut, "dek/providers/owner/check", nil)
}

func (m *monitored) configure(t *testing.T, name string, value any) {
	t.Helper()
	succeeded(t, callRoot(t, m.s, http.MethodPut, "dek/config", map[string]any{name: value}))
}

func (m *monitored) slowOwner(r *road) incident {
	return incident{
		name: "a key provider is slow", alerts: []string{"DEKProviderSlow"},
		begin: func(*testing.T) { r.long.Store(true) },
		again: func(t *testing.T) {
			var calls sync.WaitGroup
			for range 8 {
				calls.Go(func() { m.checkOwner(t) })
			}
			calls.Wait()
		},
		end: func(*testing.T) { r.long.Store(false) },
	}
}

func (m *monitored) lostOwner(r *road) incident {
	return incident{
		name: "a key provider is out of reach", alerts: []string{"DEKProviderUnavailable"},
		begin: func(*testing.T) { r.closed.Store(true) },
		again: m.checkOwner,
		end: func(t *testing.T) {
			r.closed.Store(false)
			m.checkOwner(t)
		},
	}
}

// deniedAll has the owner take the key away, and everything due.
func (m *monitored) deniedAll(owner *transitOwner) incident {
	return incident{
		name:   "a provider denies, and the fleet is overdue",
		alerts: []string{"DEKProviderDenied", "DEKTenantsOverdue", "DEKFleetOverdue", "DEKTenantsBlocked"},
		begin: func(t *testing.T) {
			owner.deny(t)
			succeeded(t, callRoot(t, m.s, http.MethodPut, "dek/rotations", map[string]any{"all": true, "reason": "a leak"}))
		},
		again: m.checkOwner,
	}
}

// failedAndForgotten has the rotation of one tenant fail, and finds another one that has
// been paused for more than a year.
func (m *monitored) failedAndForgotten(raw *rawStorage, failed, forgotten string) incident {
	return incident{
		name: "a rotation fails, and a paused tenant was forgotten", alerts: []string{"DEKRotationFailed", "DEKPausedOverdue", "DEKKeyTooOld"},
		begin: func(t *testing.T) {
			raw.spoilPages(t, failed)
			succeeded(t, callRoot(t, m.s, http.MethodPut, "dek/tenants/"+forgotten, map[string]any{"rotation_paused": true}))
			raw.makeOld(t, forgotten, 450)
			require.NoError(t, m.s.ReloadPlugin(t.Context()))
			waitRotation(t, m.s, failed, rotate(t, m.s, failed), "failed")
		},
	}
}

// makeOld sets back the day on which a tenant was created and its key took over.
func (r *rawStorage) makeOld(t *testing.T, tenant string, days int) {
	t.Helper()
	record := r.record(t, tenant)
	first := record["keys"].(map[string]any)["versions"].([]any)[0].(map[string]any)
	then := time.Now().UTC().AddDate(0, 0, -days).Format(time.RFC3339Nano)
	record["created_at"], first["created_at"], first["activated_at"] = then, then, then
	value, err := json.Marshal(record)
	require.NoError(t, err)
	r.write(t, recordKey(tenant), string(value))
}

func (m *monitored) pausedRotation(tenant string) incident {
	return incident{
		name: "a rotation was paused and forgotten", alerts: []string{"DEKRotationsStandStill"},
		begin: func(t *testing.T) {
			m.configure(t, "rotation_parallelism", 1)
			beginPaused(t, &victim{s: m.s, id: tenant})
		},
	}
}

func (m *monitored) oldKEK() incident {
	return incident{
		name: "the key-encryption key is older than it may get", alerts: []string{"DEKKEKOverdue"},
		begin: func(t *testing.T) { m.configure(t, "kek_rotation_interval", "1s") },
		end:   func(t *testing.T) { m.configure(t, "kek_rotation_interval", "365d") },
	}
}

func (m *monitored) refusedReports(tenant string) incident {
	at := "dek/tenants/" + tenant + "/holders/table"
	return incident{
		name: "a holder reports what cannot be true", alerts: []string{"DEKHolderReportsRefused"},
		begin: func(t *testing.T) { succeeded(t, callRoot(t, m.s, http.MethodPut, at, map[string]any{})) },
		again: func(t *testing.T) {
			refused(t, callRoot(t, m.s, http.MethodPut, at+"/report", map[string]any{"oldest_version": 9}), http.StatusBadRequest)
		},
	}
}

// guesses are JWTs that nobody signed, each another one.
func (m *monitored) guesses() incident {
	return incident{
		name: "somebody guesses", alerts: []string{"DEKProxyLoginsThrottled"},
		begin: func(*testing.T) {},
		again: func(t *testing.T) {
			parts := strings.Split(mint(t, m.s, "", "super_admin"), ".")
			signature := []byte(parts[2])
			slices.Reverse(signature)
			for range 20 {
				signature[0], signature[1] = signature[1], signature[0]
				signature = append(signature[1:], signature[0])
				callProxy(t, m.s, http.MethodGet, settingsPaths[0], nil, "INFA-SESSION-ID", parts[0]+"."+parts[1]+"."+string(signature))
			}
		},
	}
}

// stoppedVault has Vault do nothing for longer than DEKProxySlow allows.
func (m *monitored) stoppedVault() incident {
	const stopped = 3 * time.Second
	return incident{
		name: "Vault does not answer for a while", alerts: []string{"DEKProxySlow"},
		begin: func(*testing.T) {},
		again: func(t *testing.T) {
			signalVault(t, m.s, syscall.SIGSTOP)
			var calls sync.WaitGroup
			for range 24 {
				calls.Go(func() { m.askProxy(t) })
			}
			<-time.After(stopped)
			signalVault(t, m.s, syscall.SIGCONT)
			calls.Wait()
		},
	}
}

func (m *monitored) restored(snapshot *bytes.Buffer) incident {
	return incident{
		name: "an older snapshot is restored", alerts: []string{"DEKEvidenceShrank"},
		begin: func(t *testing.T) { require.NoError(t, m.s.Restore(t.Context(), snapshot)) },
	}
}

// heldReadOnly has Vault take the mount up while the plugin cannot be started. Vault lets
// nobody write to it then, until it takes it up again.
func (m *monitored) heldReadOnly() incident {
	return incident{
		name: "the plugin's file was away when Vault unsealed", alerts: []string{"DEKEvidenceClosed"},
		begin: func(t *testing.T) {
			file := m.s.PluginFile()
			require.NoError(t, m.s.Seal(t.Context()))
			require.NoError(t, os.Rename(file, file+".away"))
			require.NoError(t, m.s.Unseal(t.Context()))
			require.NoError(t, os.Rename(file+".away", file))
			require.NoError(t, m.s.ReloadPlugin(t.Context()))
		},
		end: func(t *testing.T) {
			require.NoError(t, m.s.Seal(t.Context()))
			require.NoError(t, m.s.Unseal(t.Context()))
		},
	}
}

// canBeHeld reports whether a server can hold the mount read-only still after a reload, which
// every Vault does. OpenBao does before openbao#3936: it is tried out.
func (m *monitored) canBeHeld(t *testing.T, held incident) bool {
	t.Helper()
	if !isOpenBao(t, m.s) {
		return true
	}
	held.begin(t)
	defer held.end(t)
	return callRoot(t, m.s, http.MethodPut, "dek/config", map[string]any{"max_concurrent_rotations": 64}).Status == http.StatusServiceUnavailable
}

// stuckEvidence spoils the end of the evidence log, behind which nothing can be appended,
// and has something happen.
func (m *monitored) stuckEvidence(raw *rawStorage) incident {
	var request sync.WaitGroup
	stop := func() {}
	return incident{
		name: "the evidence log cannot go on", alerts: []string{"DEKEvidencePending"},
		begin: func(t *testing.T) {
			const checkpoints = "evidence/log/000001/checkpoint/000000000000/"
			names := raw.list(t, checkpoints)
			require.NotEmpty(t, names)
			raw.write(t, checkpoints+slices.Max(names), "not a checkpoint")
			require.NoError(t, m.s.ReloadPlugin(t.Context()))
			var ctx context.Context
			ctx, stop = context.WithCancel(t.Context())
			request.Go(func() { // it waits for the log for some seconds
				_, _ = m.s.Client().Logical().WriteWithContext(ctx, "dek/tenants/"+m.crowd.ids[2]+"/holders/other", map[string]any{})
			})
		},
		end: func(*testing.T) {
			stop()
			request.Wait()
		},
	}
}

func (m *monitored) damagedRecord(raw *rawStorage, tenant string) incident {
	return incident{
		name: "a disk alters a tenant's record", alerts: []string{"DEKDamagedEntries"},
		begin: func(t *testing.T) {
			m.s.KillVault()
			require.NotEmpty(t, flipBits(t, m.s, func(key string) bool { return key == raw.base+recordKey(tenant) }))
			require.NoError(t, m.s.RestartVault(t.Context()))
		},
	}
}

func (m *monitored) sealed() incident {
	return incident{
		name: "the proxy is without Vault", alerts: []string{"DEKProxyWithoutVault", "DEKMetricsMissing", "DEKProxyErrors"},
		begin: func(t *testing.T) { require.NoError(t, m.s.Seal(t.Context())) },
		again: func(t *testing.T) {
			for range 20 {
				m.askProxy(t)
			}
		},
	}
}

func (m *monitored) endedProxy() incident {
	return incident{
		name: "the proxy ends", alerts: []string{"DEKProxyDown"},
		begin: func(*testing.T) { m.s.StopProxy() },
	}
}

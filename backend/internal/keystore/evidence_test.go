// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// eventsOf are the details of the mount's events of a type, in order.
func eventsOf[D evidence.Detail](m *enginetest.Mount) (heads []evidence.Head, details []D) {
	for _, e := range m.MountEvents() {
		if d, is := e.Detail.(D); is {
			heads, details = append(heads, e.Head), append(details, d)
		}
	}
	return heads, details
}

// Each switch of the KEK is an entry, by the person who asked, and so is the end of each
// KEK that was left.
func TestRotationsOfTheKEKAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Provide(nil)
		ids := []string{m.Must(enginetest.Read, "kek", nil)["kek_id"].(string)}
		moves := []string{"", enginetest.ProviderName, ""}
		for _, under := range moves {
			answer := m.Must(enginetest.Update, "kek/rotate", map[string]any{"provider": under, "reason": "yearly"})
			ids = append(ids, answer["kek_id"].(string))
			enginetest.Advance(time.Second)
		}
		enginetest.Advance(366 * 24 * time.Hour)
		m.Tick() // kek_rotation_interval has passed
		enginetest.Advance(time.Minute)
		ids = append(ids, m.Must(enginetest.Read, "kek", nil)["kek_id"].(string))

		heads, rotated := eventsOf[*evidence.KEKRotated](m)
		require.Len(t, rotated, 4)
		for n, under := range append(moves, "") {
			require.Equal(t, ids[n], rotated[n].PreviousKeyID)
			require.Equal(t, ids[n+1], rotated[n].NewKeyID)
			require.Equal(t, under, rotated[n].NewProvider)
			require.Equal(t, heads[n].Trigger == "scheduled", heads[n].Actor == evidence.System)
			require.Equal(t, heads[n].Trigger == "scheduled", heads[n].Reason == "")
		}
		require.Equal(t, enginetest.ProviderName, rotated[2].PreviousProvider)
		require.Equal(t, "manual", heads[0].Trigger)
		require.NotEmpty(t, heads[0].RequestID)
		require.Equal(t, "scheduled", heads[3].Trigger)

		ends, destroyed := eventsOf[*evidence.KeyDestroyed](m)
		require.Len(t, destroyed, 4)
		for n, d := range destroyed {
			require.Equal(t, evidence.KeyDestroyed{KeyID: ids[n], Which: evidence.WhichKEK, Why: evidence.WhyRotation}, *d)
			require.Equal(t, heads[n].Actor, ends[n].Actor)
		}
	})
}

// A switch is refused while too many events wait for a log that cannot be written, and no
// KEK is made for it. Many KEKs that failed switches left behind are destroyed in parts.
func TestKEKsThatWereLeftBehindAreLogged(t *testing.T) {
	const left = 100
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		for n := range left {
			m.Disk.Set(fmt.Sprintf("kek/keys/kek-%032x", n), []byte(strings.Repeat("k", 32)))
		}
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", m.Must(enginetest.Read, "kek", nil)["status"])
		require.Len(t, m.Disk.Keys("kek/keys/"), 1)
		_, destroyed := eventsOf[*evidence.KeyDestroyed](m)
		require.Len(t, destroyed, left+1)

		stop := func(op, key string) storagetest.Fault {
			if op == "put" && strings.HasPrefix(key, "evidence/log/") {
				return storagetest.Before
			}
			return storagetest.None
		}
		m.Storage.Fail(stop)
		var err error
		for n := 0; err == nil && n < 100; n++ {
			_, err = m.Call(enginetest.Update, "kek/rotate", nil)
			enginetest.Advance(time.Second)
		}
		require.ErrorContains(t, err, "wait for the evidence log")
		enginetest.Advance(time.Minute)
		require.LessOrEqual(t, len(m.Disk.Keys("kek/keys/")), 2)
		m.Storage.Fail(nil)
		enginetest.Advance(2 * time.Minute)
		m.Must(enginetest.Update, "kek/rotate", map[string]any{"idempotency_key": "after"})
		enginetest.Advance(time.Minute)
		require.Len(t, m.Disk.Keys("kek/keys/"), 1)
		_, rotated := eventsOf[*evidence.KEKRotated](m)
		require.Equal(t, m.Must(enginetest.Read, "kek", nil)["kek_id"], rotated[len(rotated)-1].NewKeyID)
	})
}

// A provider that is written, changed or deleted is an entry with what changed alone, and
// without a credential. Its entry in storage goes once the log has its end.
func TestChangesOfProvidersAreLogged(t *testing.T) {
	const name = enginetest.ProviderName
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Provide(nil)
		m.Provide(nil) // changes nothing
		m.Provide(map[string]any{"lease": "2m", "mount": false})
		cert := "-----BEGIN CERTIFICATE-----\n" + strings.Repeat("x", 9000)
		_, err := m.Call(enginetest.Update, "providers/"+name, map[string]any{"parameters": map[string]any{
			"address": "https://owner.example", "token": providertest.Token, "key_name": "dek", "tls_ca_cert": cert,
		}})
		require.Error(t, err, "no certificate")
		m.Must(enginetest.Delete, "providers/"+name, nil)
		m.Refused(404, "not found", enginetest.Read, "providers/"+name, nil)
		m.Refused(404, "not found", enginetest.Delete, "providers/"+name, nil)
		require.Empty(t, m.Must(logical.ListOperation, "providers", nil)["keys"])
		require.Len(t, m.Disk.Keys("providers/"), 1, "until it is known that the log has it")
		m.Tick()
		enginetest.Advance(time.Second)
		require.Empty(t, m.Disk.Keys("providers/"))
		m.Provide(nil)

		_, changed := eventsOf[*evidence.ProviderChanged](m)
		require.Len(t, changed, 4)
		first := evidence.Values{
			"type": "transit", "lease": "60", "grace": "0", "timeout": "2", "mount": "true", "tenants": "*",
			"parameters.address": "https://owner.example", "parameters.key_name": "dek", "parameters.token": "<configured>",
		}
		require.Equal(t, first, changed[0].New)
		require.Empty(t, changed[0].Old)
		require.Equal(t, evidence.Change{
			Old: evidence.Values{"lease": "60", "mount": "true"}, New: evidence.Values{"lease": "120", "mount": "false"},
		}, changed[1].Change)
		require.Empty(t, changed[2].New)
		require.Equal(t, "120", changed[2].Old["lease"])
		require.Equal(t, first, changed[3].New)
	})
}

// A provider that is made anew while the log cannot be written keeps the events of the one
// that was deleted.
func TestProviderIsMadeAnewBeforeTheLogHasItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Provide(nil)
		m.Storage.Fail(func(op, key string) storagetest.Fault {
			if op == "put" && strings.HasPrefix(key, "evidence/log/") {
				return storagetest.Before
			}
			return storagetest.None
		})
		for range 3 {
			m.Must(enginetest.Delete, "providers/"+enginetest.ProviderName, nil)
			m.Tick()
			enginetest.Advance(time.Minute)
			m.Refused(404, "not found", enginetest.Read, "providers/"+enginetest.ProviderName, nil)
			m.Provide(nil)
		}
		m.Must(enginetest.Delete, "providers/"+enginetest.ProviderName, nil)
		m.Crash()
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		enginetest.Advance(2 * time.Minute)
		m.Tick()
		enginetest.Advance(time.Minute)
		_, changed := eventsOf[*evidence.ProviderChanged](m)
		require.Len(t, changed, 8)
		require.Empty(t, m.Disk.Keys("providers/"))
	})
}

// A denial is logged when it begins: not for each call, not again after a restart, and not
// each time of a provider that denies and opens in turn.
func TestDenialIsLoggedWhenItBegins(t *testing.T) {
	denials := func(m *enginetest.Mount) int {
		_, denied := eventsOf[*evidence.ProviderDenied](m)
		for _, d := range denied {
			require.Equal(t, enginetest.ProviderName, d.Provider)
			require.Equal(t, m.Must(enginetest.Read, "kek", nil)["kek_id"], d.KeyID)
		}
		return len(denied)
	}
	beneath(t, nil, func(w *enginetest.Oracle) {
		deny := func(seconds int) {
			w.Transit.Set(providertest.Denies)
			enginetest.Advance(enginetest.ProviderLease + time.Second)
			for range seconds {
				_, _ = w.Call(enginetest.Read, enginetest.ItemPath("a"), nil)
				enginetest.Advance(time.Second)
			}
		}
		open := func() {
			w.Transit.Set(providertest.Works)
			enginetest.Advance(11 * time.Second)
			w.ReadsBack()
			enginetest.Advance(time.Second)
		}
		require.Zero(w.T, denials(w.Mount))
		deny(30)
		require.Equal(w.T, 1, denials(w.Mount))
		w.Crash()
		w = w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
		deny(30)
		require.Equal(w.T, 1, denials(w.Mount), "it goes on")
		open()
		deny(30)
		open()
		require.Equal(w.T, 1, denials(w.Mount), "within ten minutes")
		enginetest.Advance(10 * time.Minute)
		open()
		deny(30)
		require.Equal(w.T, 2, denials(w.Mount))
		open()
		w.AtRest()
	})
}

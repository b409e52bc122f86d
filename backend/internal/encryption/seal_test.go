// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

func TestSealedTextsOpenInTheirOrder(t *testing.T) {
	p := withTenants(t)
	var texts []encryption.Plaintext
	for i := range 10 {
		texts = append(texts, encryption.Plaintext{Plaintext: fmt.Append(nil, i), AssociatedData: fmt.Append(nil, "row ", i)})
	}
	sealed, err := p.Seal(t.Context(), someTenant, texts)
	require.NoError(t, err)
	require.Len(t, sealed, len(texts))
	for i, s := range sealed {
		require.Equal(t, 1, s.Version)
		p.opensTo(fmt.Sprint(i), someTenant, s.Text, fmt.Sprint("row ", i))
	}
}

// Each version has a key of its own, and the last one seals.
func TestSealsUnderTheActiveVersion(t *testing.T) {
	p := withTenants(t)
	var texts []string
	for i, keyType := range []keyring.KeyType{keyring.XAES256GCM, keyring.AES256GCM, keyring.XAES256GCM} {
		if i > 0 {
			p.rotate(someTenant, keyType)
		}
		text := p.seal(someTenant, "x", "ad")
		require.True(t, strings.HasPrefix(text, fmt.Sprintf("dek:v%d:", i+1)), text)
		texts = append(texts, text)
	}
	require.Len(t, p.externalKeys(), 3)
	again := start(t, p.disk)
	for _, text := range texts {
		again.opensTo("x", someTenant, text, "ad")
	}
}

func TestSealingNothingTellsWhetherThereIsATenant(t *testing.T) {
	p := withTenants(t)
	_, err := p.Seal(t.Context(), someTenant, nil)
	require.NoError(t, err)
	require.Empty(t, p.externalKeys())
	p.change(someTenant, func(t *tenant.Record) { t.State = tenant.Deleting })
	for id, want := range map[string]error{someTenant: tenant.ErrDeleting, "unknown": tenant.ErrNotFound} {
		for _, texts := range [][]encryption.Plaintext{nil, {{}}} {
			_, err := p.Seal(t.Context(), id, texts)
			require.ErrorIs(t, err, want)
		}
		_, err := p.Open(t.Context(), id, nil)
		require.ErrorIs(t, err, want)
		_, err = p.Rewrap(t.Context(), id, nil)
		require.ErrorIs(t, err, want)
		_, err = p.DataKey(t.Context(), id, 32, nil)
		require.ErrorIs(t, err, want)
	}
	require.Empty(t, p.externalKeys())
}

// However many come first at once: one key.
func TestFirstUseByManyAtOnceMakesOneKey(t *testing.T) {
	p := withTenants(t)
	texts := make([]string, 16)
	var wg sync.WaitGroup
	for i := range texts {
		wg.Go(func() {
			sealed, err := p.Seal(t.Context(), someTenant, []encryption.Plaintext{{Plaintext: fmt.Append(nil, i)}})
			if err == nil {
				texts[i] = sealed[0].Text
			}
		})
	}
	wg.Wait()
	require.Len(t, p.externalKeys(), 1)
	for i, text := range texts {
		p.opensTo(fmt.Sprint(i), someTenant, text, "")
	}
}

// A Put that fails leaves no text behind that would not open: the next request
// makes the key anew, or finds it.
func TestKeyWhosePutFailed(t *testing.T) {
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale} {
		t.Run(fault.String(), func(t *testing.T) {
			p := withTenants(t)
			p.storage.Fail(func(op, key string) storagetest.Fault {
				if op == "put" && strings.HasSuffix(key, ".ext") {
					return fault
				}
				return storagetest.None
			})
			sealed, err := p.Seal(t.Context(), someTenant, []encryption.Plaintext{{}})
			require.ErrorIs(t, err, storagetest.ErrInjected)
			require.Empty(t, sealed)
			p.storage.Fail(nil)
			text := p.seal(someTenant, "x", "")
			p.disk.RestartVault()
			start(t, p.disk).opensTo("x", someTenant, text, "")
		})
	}
}

// A rotation may put another version in place whenever the lock is let go of. If
// it does every time, Seal gives up.
func TestSealBesideRotations(t *testing.T) {
	for rotations, gives := range map[int]error{1: nil, 6: nil, 7: storage.ErrContended} {
		t.Run(fmt.Sprint(rotations), func(t *testing.T) {
			p := withTenants(t)
			left := rotations
			p.storage.Done(func(op, key string) {
				if op == "put" && strings.HasSuffix(key, ".ext") && left > 0 {
					left--
					start(t, p.disk).rotate(someTenant, keyring.DefaultKeyType) // Seal holds the lock in this process
					p.tenants.Invalidate("tenants/" + someTenant)
				}
			})
			sealed, err := p.Seal(t.Context(), someTenant, []encryption.Plaintext{{Plaintext: []byte("x")}})
			require.ErrorIs(t, err, gives)
			if gives == nil {
				require.Equal(t, rotations+1, sealed[0].Version)
				p.opensTo("x", someTenant, sealed[0].Text, "")
			}
		})
	}
}

func TestDataKeyHasTheLeaseOfTheConfiguration(t *testing.T) {
	p := withTenants(t)
	for _, lease := range []time.Duration{time.Hour, 0, 24 * time.Hour} {
		if lease != time.Hour {
			_, err := p.settings.UpdateConfig(t.Context(), func(c *settings.Config) error { c.DataKeyLease = lease; return nil })
			require.NoError(t, err)
		}
		key, err := p.DataKey(t.Context(), someTenant, 32, nil)
		require.NoError(t, err)
		require.Equal(t, lease, key.Lease)
	}
}

// Without a lease there is no key: the caller could not know when to let go of it.
func TestDataKeyIsNotMadeIfTheConfigurationCannotBeRead(t *testing.T) {
	p := withTenants(t)
	p.storage.Fail(func(op, key string) storagetest.Fault {
		if op == "get" && key == "config" {
			return storagetest.Before
		}
		return storagetest.None
	})
	_, err := p.DataKey(t.Context(), someTenant, 32, nil)
	require.ErrorIs(t, err, storagetest.ErrInjected)
	require.Empty(t, p.externalKeys())
}

func TestDataKeyOpens(t *testing.T) {
	p := withTenants(t)
	seen := map[string]bool{}
	for _, size := range []int{16, 32, 64, 32} {
		key, err := p.DataKey(t.Context(), someTenant, size, []byte("ad"))
		require.NoError(t, err)
		require.Len(t, key.Key, size)
		require.False(t, seen[string(key.Key)], "the same key twice")
		seen[string(key.Key)] = true
		p.opensTo(string(key.Key), someTenant, key.Sealed.Text, "ad")
	}
}

// A process that has nothing in memory, which is how most tenants of a large fleet
// are met, reads the record, the key and the KEK, each once.
func TestColdProcessReadsEachEntryOnce(t *testing.T) {
	p := withTenants(t)
	text := p.seal(someTenant, "x", "")
	for name, use := range map[string]func(*process){
		"sealing": func(p *process) { p.seal(someTenant, "x", "") },
		"opening": func(p *process) { p.opensTo("x", someTenant, text, "") },
	} {
		t.Run(name, func(t *testing.T) {
			again := start(t, p.disk)
			use(again)
			var read []string
			for _, op := range again.storage.Log() {
				kind, _, _ := strings.Cut(op, "/")
				read = append(read, kind)
			}
			require.Equal(t, []string{"get tenants", "get keys", "get kek"}, read)
			use(again)
			require.Len(t, again.storage.Log(), 3, "what was read before is in memory")
		})
	}
}

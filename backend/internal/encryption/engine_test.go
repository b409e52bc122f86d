// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	someTenant  = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	otherTenant = "00000000-0000-4000-8000-000000000001"
)

var birth = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// process is the engine as one plugin process has it.
type process struct {
	*encryption.Engine
	t        *testing.T
	disk     *storagetest.Disk
	storage  *storagetest.Storage
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store
}

// start starts a process over disk, with nothing in memory.
func start(t *testing.T, disk *storagetest.Disk) *process {
	s := storagetest.Open(disk, 0, storagetest.None)
	mount := storage.NewMount(s)
	p := &process{
		t: t, disk: disk, storage: s,
		settings: settings.NewStore(mount, "org"), keys: keystore.NewStore(mount, time.Now, nil), tenants: tenant.NewStore(mount),
	}
	p.Engine = encryption.NewEngine(encryption.Config{Settings: p.settings, Keys: p.keys, Tenants: p.tenants, Now: time.Now})
	return p
}

// withTenants starts a process with two tenants, each of one version.
func withTenants(t *testing.T) *process {
	p := start(t, storagetest.NewDisk())
	for _, id := range []string{someTenant, otherTenant} {
		keyID, err := keyring.NewID("dek-")
		require.NoError(t, err)
		require.NoError(t, p.tenants.Hold(t.Context(), id, func(h *tenant.Held) error {
			return h.Put(t.Context(), &tenant.Record{
				ID: id, Incarnation: keyring.NewIncarnation(), State: tenant.Active,
				Keys: keyring.NewRing(keyID, keyring.DefaultKeyType, birth),
			})
		}))
	}
	return p
}

// change changes the record of a tenant.
func (p *process) change(id string, change func(*tenant.Record)) {
	p.t.Helper()
	_, err := p.tenants.Update(p.t.Context(), id, func(t *tenant.Record) error {
		change(t)
		return nil
	})
	require.NoError(p.t, err)
}

// rotate gives a tenant another version, as a rotation does.
func (p *process) rotate(id string, keyType keyring.KeyType) {
	p.t.Helper()
	keyID, err := keyring.NewID("dek-")
	require.NoError(p.t, err)
	p.change(id, func(t *tenant.Record) {
		t.Keys.Activate(t.Keys.Add(keyring.Version{KeyID: keyID, KeyType: keyType, CreatedAt: birth}), birth)
	})
}

// seal seals one text.
func (p *process) seal(id, plaintext, ad string) string {
	p.t.Helper()
	sealed, err := p.Seal(p.t.Context(), id, []encryption.Plaintext{{Plaintext: []byte(plaintext), AssociatedData: []byte(ad)}})
	require.NoError(p.t, err)
	require.Len(p.t, sealed, 1)
	require.NoError(p.t, sealed[0].Err)
	return sealed[0].Text
}

// open opens one text.
func (p *process) open(id, text, ad string) (plaintext string, refusal error) {
	p.t.Helper()
	opened, err := p.Open(p.t.Context(), id, []encryption.Ciphertext{{Text: text, AssociatedData: []byte(ad)}})
	require.NoError(p.t, err)
	require.Len(p.t, opened, 1)
	return string(opened[0].Plaintext), opened[0].Err
}

// opensTo requires that a text opens.
func (p *process) opensTo(plaintext, id, text, ad string) {
	p.t.Helper()
	opened, err := p.open(id, text, ad)
	require.NoError(p.t, err)
	require.Equal(p.t, plaintext, opened)
}

// externalKeys are the keys on disk: these tenants have no page keys.
func (p *process) externalKeys() []string { return p.disk.Keys("keys/") }

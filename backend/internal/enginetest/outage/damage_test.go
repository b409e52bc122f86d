// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestDamagedPageIsReportedWithoutItsContent(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
	key := m.Disk.Keys("pages/")[0]
	page := m.Disk.Value(key)
	page[len(page)-1] ^= 1
	m.Disk.Set(key, page)
	resp, err := m.Call(enginetest.Read, enginetest.ItemPath("x"), nil)
	require.Equal(t, 500, enginetest.Code(resp, err))
	require.ErrorContains(t, err, "page does not open")
}

// A page moved to another tenant's place, or to another place of its own
// tenant's, does not open.
func TestMovedPageDoesNotOpen(t *testing.T) {
	const other = "11111111-1111-4111-8111-111111111111"
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
	mine := m.Disk.Keys("pages/")[0]
	m.Must(enginetest.Update, "tenants/"+other, nil)
	m.Must(enginetest.Update, "tenants/"+other+"/secrets/x", enginetest.Secret("w"))
	for _, key := range m.Disk.Keys("pages/") {
		if key != mine {
			m.Disk.Set(key, m.Disk.Value(mine))
		}
	}
	re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer re.Close()
	resp, err := re.Call(enginetest.Read, "tenants/"+other+"/secrets/x", nil)
	require.Equal(t, 500, enginetest.Code(resp, err))
	require.ErrorContains(t, err, "page does not open")

	// To another place, and with another header.
	m.Disk.Set(mine+"0", m.Disk.Value(mine))
	m.Disk.Set(mine+"1", m.Disk.Value(mine))
	page := m.Disk.Value(mine)
	m.Disk.Set(mine, nil)
	for name, change := range map[string]func(){
		"another place": func() {},
		"another count": func() {
			page[enginetest.HeaderLength-1]++
			m.Disk.Set(mine, page)
		},
	} {
		change()
		re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		resp, err := re.Call(enginetest.Read, enginetest.ItemPath("x"), nil)
		require.Equal(t, 500, enginetest.Code(resp, err), name)
		require.ErrorContains(t, err, "page does not open", name)
		re.Close()
	}
}

// A tenant's record that was moved to another tenant's place is refused: it
// would lead to the other's keys and pages.
func TestMovedRecordIsRefused(t *testing.T) {
	const other = "11111111-1111-4111-8111-111111111111"
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
	m.Must(enginetest.Update, "tenants/"+other, nil)
	m.Quiesce() // it puts records until it has deleted the intents of their creation
	keys := m.Disk.Keys("tenants/")
	require.Len(t, keys, 2)
	m.Disk.Set(keys[0], m.Disk.Value(keys[1]))
	re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer re.Close()
	opened := 0
	for _, id := range []string{enginetest.TenantID, other} {
		if _, err := re.Call(enginetest.Read, "tenants/"+id, nil); err == nil {
			opened++
		} else {
			require.ErrorContains(t, err, "belongs to another tenant")
		}
	}
	require.Equal(t, 1, opened)
}

// A record without an active version is damaged, and an error of its tenant's only.
func TestRecordWithoutAnActiveVersionIsRefused(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
		key := m.Disk.Keys("tenants/")[0]
		m.Close()
		active, other := []byte(`"state":"active"`), []byte(`"state":"deactivated"`)
		record := bytes.ReplaceAll(m.Disk.Value(key), active, other)
		m.Disk.Set(key, bytes.Replace(record, other, active, 1)) // the tenant's own stands first
		re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer re.Close()
		for _, path := range []string{enginetest.TenantPath(""), enginetest.ItemPath("x"), enginetest.TenantPath("/dek")} {
			_, err := re.Call(enginetest.Read, path, nil)
			require.ErrorContains(t, err, "has no active version")
		}
		_, err := re.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		require.ErrorContains(t, err, "has no active version")
		re.Tick()
		re.Must(enginetest.Read, "status", nil)
	})
}

// A key entry that does not open is as good as a page that does not: it is
// reported, and the rotation ends.
func TestDamagedKeyFailsARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 1)
		w.Close()
		for _, key := range w.Disk.Keys("keys/") {
			if strings.Contains(key, "/dek-") {
				value := w.Disk.Value(key)
				value[len(value)-1] ^= 1
				w.Disk.Set(key, value)
			}
		}
		m := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
		defer m.Close()
		id := m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)["rotation_id"].(string)
		enginetest.Advance(time.Minute)
		require.Equal(t, "failed", m.Status(id)["status"])
	})
}

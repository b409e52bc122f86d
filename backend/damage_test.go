// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestDamagedPageIsReportedWithoutItsContent(t *testing.T) {
	m := withTenant(t)
	m.must(update, itemPath("x"), secret("v"))
	key := m.disk.Keys("pages/")[0]
	page := m.disk.Value(key)
	page[len(page)-1] ^= 1
	m.disk.Set(key, page)
	resp, err := m.call(read, itemPath("x"), nil)
	require.Equal(t, 500, code(resp, err))
	require.ErrorContains(t, err, "page does not open")
}

// A page moved to another tenant's place, or to another place of its own
// tenant's, does not open.
func TestMovedPageDoesNotOpen(t *testing.T) {
	const other = "11111111-1111-4111-8111-111111111111"
	m := withTenant(t)
	m.must(update, itemPath("x"), secret("v"))
	mine := m.disk.Keys("pages/")[0]
	m.must(update, "tenants/"+other, nil)
	m.must(update, "tenants/"+other+"/secrets/x", secret("w"))
	for _, key := range m.disk.Keys("pages/") {
		if key != mine {
			m.disk.Set(key, m.disk.Value(mine))
		}
	}
	re := openMount(t, m.disk, 0, storagetest.None)
	defer re.close()
	resp, err := re.call(read, "tenants/"+other+"/secrets/x", nil)
	require.Equal(t, 500, code(resp, err))
	require.ErrorContains(t, err, "page does not open")

	// To another place, and with another header.
	m.disk.Set(mine+"0", m.disk.Value(mine))
	m.disk.Set(mine+"1", m.disk.Value(mine))
	page := m.disk.Value(mine)
	m.disk.Set(mine, nil)
	for name, change := range map[string]func(){
		"another place": func() {},
		"another count": func() {
			page[headerLength-1]++
			m.disk.Set(mine, page)
		},
	} {
		change()
		re := openMount(t, m.disk, 0, storagetest.None)
		resp, err := re.call(read, itemPath("x"), nil)
		require.Equal(t, 500, code(resp, err), name)
		require.ErrorContains(t, err, "page does not open", name)
		re.close()
	}
}

// headerLength is how long the clear header of a page is: docs/formats.md.
const headerLength = 17

// A tenant's record that was moved to another tenant's place is refused: it
// would lead to the other's keys and pages.
func TestMovedRecordIsRefused(t *testing.T) {
	const other = "11111111-1111-4111-8111-111111111111"
	m := withTenant(t)
	m.must(update, itemPath("x"), secret("v"))
	m.must(update, "tenants/"+other, nil)
	keys := m.disk.Keys("tenants/")
	require.Len(t, keys, 2)
	m.disk.Set(keys[0], m.disk.Value(keys[1]))
	re := openMount(t, m.disk, 0, storagetest.None)
	defer re.close()
	opened := 0
	for _, id := range []string{testTenant, other} {
		if _, err := re.call(read, "tenants/"+id, nil); err == nil {
			opened++
		} else {
			require.ErrorContains(t, err, "belongs to another tenant")
		}
	}
	require.Equal(t, 1, opened)
}

// A record without an active version is damaged, and an error of its tenant's only.
func TestRecordWithoutAnActiveVersionIsRefused(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		m.must(update, itemPath("x"), secret("v"))
		key := m.disk.Keys("tenants/")[0]
		m.close()
		active, other := []byte(`"state":"active"`), []byte(`"state":"deactivated"`)
		record := bytes.ReplaceAll(m.disk.Value(key), active, other)
		m.disk.Set(key, bytes.Replace(record, other, active, 1)) // the tenant's own stands first
		re := openMount(t, m.disk, 0, storagetest.None)
		defer re.close()
		for _, path := range []string{tenantPath(""), itemPath("x"), tenantPath("/dek")} {
			_, err := re.call(read, path, nil)
			require.ErrorContains(t, err, "has no active version")
		}
		_, err := re.call(update, tenantPath("/dek/rotate"), nil)
		require.ErrorContains(t, err, "has no active version")
		re.tick()
		re.must(read, "status", nil)
	})
}

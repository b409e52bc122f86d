// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// rawStorage changes the entries of the mount behind the engine's back, through sys/raw. The
// plugin has some of them in memory until it is reloaded.
type rawStorage struct {
	s    *devstack.Stack
	base string // of the mount's entries
}

func newRawStorage(t *testing.T, s *devstack.Stack) *rawStorage {
	t.Helper()
	return &rawStorage{s, fmt.Sprintf("logical/%v/", succeeded(t, callRoot(t, s, http.MethodGet, "sys/mounts/dek", nil))["uuid"])}
}

func (r *rawStorage) list(t *testing.T, prefix string) (keys []string) {
	t.Helper()
	listed, _ := callRoot(t, r.s, "LIST", "sys/raw/"+r.base+prefix, nil).data()["keys"].([]any)
	for _, key := range listed {
		keys = append(keys, fmt.Sprint(key))
	}
	return keys
}

func (r *rawStorage) write(t *testing.T, key, value string) {
	t.Helper()
	a := callRoot(t, r.s, http.MethodPut, "sys/raw/"+r.base+key, map[string]any{"value": value})
	require.Less(t, a.Status, 300, a.errors())
}

func recordKey(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return fmt.Sprintf("tenants/%x/%s", sum[:1], tenant)
}

func (r *rawStorage) record(t *testing.T, tenant string) (record map[string]any) {
	t.Helper()
	text, _ := succeeded(t, callRoot(t, r.s, http.MethodGet, "sys/raw/"+r.base+recordKey(tenant), nil))["value"].(string)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&record))
	return record
}

// spoilPages writes something else over the pages of a tenant.
func (r *rawStorage) spoilPages(t *testing.T, tenant string) {
	t.Helper()
	pages := fmt.Sprintf("pages/%v/", r.record(t, tenant)["incarnation"])
	spoilt := 0
	for _, name := range r.list(t, pages) {
		if strings.HasPrefix(name, "p") {
			r.write(t, pages+name, "not a page")
			spoilt++
		}
	}
	require.Positive(t, spoilt)
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// Of a tenant that there is not, or that is being deleted, every path below it is 404,
// whatever else is wrong with the request; but for its evidence, its restore and its creation.
func TestAbsentTenantComesBeforeFieldsThatAreWrong(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "720h"})
	for tenant, said := range map[string]string{enginetest.TenantID: "restore", enginetest.OtherTenant: "not found"} {
		below := "tenants/" + tenant
		for _, path := range []string{"/items", "/items/read", "/secrets/a", "/dek/import", "/dek/versions/x/destroy", "/encrypt"} {
			m.Refused(404, said, enginetest.Update, below+path, nil)
		}
		m.Refused(404, said, logical.PatchOperation, below+"/secrets/a", nil)
		m.Refused(404, said, enginetest.Update, "metadata/"+tenant+"/secrets/a", map[string]any{"custom_metadata": map[string]any{"a": 1}})
		m.Refused(404, said, enginetest.Update, "metadata/"+tenant+"/secrets/a", nil)
		for path, field := range map[string]string{"/datakey/wrapped": "bits", "/dek/config": "min_decryption_version", "/secrets/a": "cas"} {
			m.Refused(404, said, enginetest.Update, below+path, map[string]any{field: "x"}) // refused by the framework
		}
		m.Refused(404, said, enginetest.List, below+"/secrets/", map[string]any{"limit": "x"})
		m.Refused(400, "limit", enginetest.List, below+"/evidence/", map[string]any{"limit": "x"})
		m.Refused(400, "deletion_window", enginetest.Delete, below, map[string]any{"deletion_window": "x"})
		m.Refused(400, "rotation_interval", enginetest.Update, below, map[string]any{"rotation_interval": "soon"})
		m.Refused(400, "limit", enginetest.List, below+"/evidence/", map[string]any{"limit": -1})
	}
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/browser"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// TestPageDrivesARotation starts, pauses, resumes, cancels, retries and follows rotations
// as each role that may.
func TestPageDrivesARotation(t *testing.T) {
	chromium := chrome(t)
	s := start(t, devstack.Options{RawStorage: true})
	a := callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"rotation_parallelism": 1})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	for _, role := range []string{"security_admin", "super_admin"} {
		t.Run(role, func(t *testing.T) {
			tenant := slowTenant(t, s, "Driven")
			b := newTab(chromium, t, s)
			b.signIn("jwt", mint(t, s, tenant, role))
			b.pauseOne(tenant)
			require.Equal(t, 200, b.press("#resume"))
			assert.Contains(t, b.text(), "The rotation goes on.")
			// The script loads the page again once the rotation has ended.
			b.awaitElement("#rotate")
			assert.Contains(t, b.text(), "completed")

			b.pauseOne(tenant)
			assert.Contains(t, b.text(), "driven by a person")
			if role == "super_admin" {
				require.Equal(t, 200, b.open("/ui/campaigns"))
				assert.Contains(t, b.text(), tenant, "the unfinished rotation")
				b.open("/ui/tenants/" + tenant)
			}
			require.Equal(t, 200, b.press("#cancel"))
			b.awaitElement("#rotate")
			assert.Contains(t, b.text(), "rolled back")

			newRawStorage(t, s).spoilPages(t, tenant)
			require.NoError(t, s.ReloadPlugin(t.Context()))
			waitRotation(t, s, tenant, rotate(t, s, tenant), "failed")
			b.open("/ui/tenants/" + tenant)
			require.Equal(t, 200, b.press("#retry"))
			assert.Contains(t, b.text(), "The rotation is tried again.")
		})
	}
}

// pauseOne starts rotations until one is slow enough to be paused. Meanwhile the page's script
// is off: it loads the page again when a rotation ends, and a click would go nowhere.
func (b *tab) pauseOne(tenant string) {
	b.t.Helper()
	b.run(emulation.SetScriptExecutionDisabled(true))
	defer b.run(emulation.SetScriptExecutionDisabled(false))
	for range 20 {
		require.Eventually(b.t, func() bool {
			return b.open("/ui/tenants/"+tenant) == 200 && b.has("#rotate")
		}, browser.Patience, rotationTick)
		b.fill("input[name=reason]", "driven by a person")
		require.Equal(b.t, 200, b.press("#rotate"))
		assert.Contains(b.t, b.text(), "The rotation has started.")
		if b.has("#pause") && b.press("#pause") == 200 {
			assert.Contains(b.t, b.text(), "The rotation is paused.")
			return
		}
	}
	require.Fail(b.t, "each rotation had ended before it could be paused")
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// rotateWrappingKey rotates the wrapping key, and imports under what was answered and
// under the key before.
func rotateWrappingKey(w *enginetest.Oracle, former *rsa.PublicKey, fill byte) {
	w.T.Helper()
	w.Do(enginetest.Update, "wrapping_key/rotate", nil, func(w *enginetest.Oracle, resp *logical.Response) {
		w.ImportUnder(enginetest.ParsePublic(w.T, resp.Data["public_key"].(string)), fill)
	})
	enginetest.Advance(time.Second)
	w.ImportUnder(former, fill+1)
	enginetest.Advance(time.Second)
}

// wrappingScenarios are those of a wrapping key that is rotated.
var wrappingScenarios = []scenario{
	{
		name: "rotate the wrapping key",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(3, 3000)
			w.PublicKey()
		},
		act: func(w *enginetest.Oracle) {
			private, err := x509.ParsePKCS8PrivateKey(w.Disk.Value(enginetest.CurrentWrappingKey(w.Mount)))
			require.NoError(w.T, err)
			rotateWrappingKey(w, &private.(*rsa.PrivateKey).PublicKey, 1)
		},
	},
	{
		name: "destroy the former wrapping key",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(3, 10)
			w.PublicKey()
			w.Must(enginetest.Update, "wrapping_key/rotate", nil)
		},
		act: func(w *enginetest.Oracle) {
			enginetest.Advance(24 * time.Hour)
			w.Tick()
			w.ImportKey(1)
			enginetest.Advance(time.Second)
			require.Contains(w.T, w.Disk.Keys("import/keys/"), enginetest.CurrentWrappingKey(w.Mount))
		},
	},
}

func TestEveryCrashPointOfTheWrappingKey(t *testing.T) { atEveryPoint(t, wrappingScenarios) }

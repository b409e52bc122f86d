// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// importKey imports a key under the wrapping key on disk.
func (w *witness) importKey(fill byte) {
	w.t.Helper()
	private, err := x509.ParsePKCS8PrivateKey(w.disk.Value(currentWrappingKey(w.mount)))
	require.NoError(w.t, err)
	w.importUnder(&private.(*rsa.PrivateKey).PublicKey, fill)
}

func (w *witness) importUnder(public *rsa.PublicKey, fill byte) {
	w.t.Helper()
	body := map[string]any{"ciphertext": wrapped(w.t, public, sha256.New(), ownersKey(fill))}
	w.do(update, tenantPath("/dek/import"), body, func(w *witness, resp *logical.Response) {
		id := resp.Data["rotation_id"].(string)
		w.rotations = append(w.rotations, id)
		w.ends[id] = []string{"completed"}
		w.imported[id] = ownersKey(fill)
	})
}

// firstImport reads the wrapping key, and imports under it.
func (w *witness) firstImport(fill byte) {
	w.t.Helper()
	w.do(read, "wrapping_key", nil, func(w *witness, resp *logical.Response) {
		w.importUnder(parsePublic(w.t, resp.Data["public_key"].(string)), fill)
	})
}

// importScenarios are those of keys that owners bring along.
var importScenarios = []scenario{
	{
		name: "import",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
			w.publicKey()
		},
		act: func(w *witness) {
			w.importKey(1)
			advance(time.Second)
			w.put("bulk/1", "under the imported key")
			w.importKey(1) // refused, unless the first was
			w.importKey(2)
			advance(time.Second)
		},
		twice: true,
	},
	{
		name: "cancel an import, and import another key",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
			w.publicKey()
		},
		act: func(w *witness) {
			w.midSweepOf(func() { w.importKey(1) }, func() {
				w.put("bulk/1", "under the imported key")
				w.act("cancel", "rolled_back")
			})
			advance(time.Second)
			w.importKey(2)
			advance(time.Second)
		},
	},
	{
		name: "make the wrapping key, and import under it",
		before: func(w *witness) {
			w.create()
			w.bulk(5, 3000)
		},
		act: func(w *witness) {
			w.firstImport(1)
			advance(time.Second)
		},
	},
}

func TestEveryCrashPointOfImport(t *testing.T) { atEveryPoint(t, importScenarios) }

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// However many versions are kept for their external keys, the end of a rotation lists those
// keys once: it holds the tenant's lock exclusively.
func TestEndOfARotationListsExternalKeysOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.NewOracle(enginetest.NewMount(t))
		defer w.Close()
		w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": 0})
		w.Create()
		w.Bulk(3, 10)
		var before int
		for n := range 20 {
			w.Encrypt("kept outside")
			before = len(w.Storage.Log())
			w.Rotated(idempotent(n))
		}
		lists := 0
		for _, op := range w.Storage.Log()[before:] {
			if strings.HasPrefix(op, "list keys/") {
				lists++
			}
		}
		require.Equal(t, 1, lists)
		require.Len(t, w.Record().Keys.Versions, 21)
		w.ReadsBack()
	})
}

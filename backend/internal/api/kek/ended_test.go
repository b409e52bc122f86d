// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kek_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A rotation of the KEK that ends while somebody reads how far it is shows as completed, and
// not as one that has not begun.
func TestRotationOfTheKEKThatEndsWhileItIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		holdKEK(w.Mount)
		w.Crash()
		m := enginetest.Conditions{}.Open(t, w.Disk, 0, storagetest.None)
		defer m.Close()
		var looked atomic.Bool
		m.Storage.Hook(func(op, key string) {
			if op == "get" && key == "kek/progress" && looked.CompareAndSwap(false, true) {
				m.Start()
				<-time.After(time.Minute)
			}
		})
		st := m.Must(enginetest.Read, "kek", nil)
		require.True(t, looked.Load())
		require.Equal(t, []any{"completed", 100.0}, []any{st["status"], st["percent"]})
	})
}

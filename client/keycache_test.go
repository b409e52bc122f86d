// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeysSealSoMuch(t *testing.T) {
	e, tenant := inMemory(t)
	a := closing(t, tenant.AEAD(WithMaxMessages(3), WithMaxBytes(10)))
	for _, size := range []int{1, 1, 1} { // three messages
		_, err := a.Encrypt(make([]byte, size), nil)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, e.Requests("datakey/plaintext"))
	for _, size := range []int{6, 4} { // ten bytes
		_, err := a.Encrypt(make([]byte, size), nil)
		require.NoError(t, err)
	}
	assert.Equal(t, 2, e.Requests("datakey/plaintext"))
	_, err := a.Encrypt(make([]byte, 1), nil)
	require.NoError(t, err)
	assert.Equal(t, 3, e.Requests("datakey/plaintext"))
	_, err = a.Encrypt(make([]byte, 11), nil)
	assert.Error(t, err)
	assert.Equal(t, 3, e.Requests("datakey/plaintext"))
}

// The keys that are kept are bounded, and the least recently used one goes.
func TestEviction(t *testing.T) {
	e, tenant := inMemory(t)
	texts := make([][]byte, 3)
	for i := range texts {
		texts[i] = []byte(encrypted(t, closing(t, tenant.AEAD()), "x", ""))
	}
	a := closing(t, tenant.AEAD(WithMaxKeys(2)))
	for _, i := range []int{0, 1, 0, 2, 0} {
		_, err := a.Decrypt(texts[i], nil)
		require.NoError(t, err)
	}
	assert.Equal(t, 3, e.Requests("decrypt"))
	_, err := a.Decrypt(texts[1], nil)
	require.NoError(t, err)
	assert.Equal(t, 4, e.Requests("decrypt"), "1 was evicted")
	assert.Equal(t, 2, a.keys.recent.Len())
	assert.Len(t, a.keys.opened, 2)
}

// At its end, on eviction, Forget and Close, nothing refers to a key any more,
// though nobody asks for it.
func TestKeysAreDropped(t *testing.T) {
	for name, drop := range map[string]func(*AEAD){
		"end":    func(*AEAD) { advance(5 * time.Minute) },
		"forget": func(a *AEAD) { a.Forget() },
		"close":  func(a *AEAD) { assert.NoError(t, a.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, tenant := inMemory(t)
				a := closing(t, tenant.AEAD())
				encrypted(t, a, "x", "")
				held := weak.Make(a.keys.seals.Load())
				require.NotNil(t, held.Value())
				drop(a)
				synctest.Wait()
				runtime.GC()
				assert.Nil(t, held.Value())
				assert.Nil(t, a.keys.sweeper)
			})
		})
	}
}

func TestKeyBytesAreCleared(t *testing.T) {
	key := make([]byte, 32)
	key[0] = 1
	_, err := newDataKey("dek:v1:AAAA", key, instant{})
	require.NoError(t, err)
	assert.Equal(t, make([]byte, 32), key)
}

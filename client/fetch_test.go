// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// One request serves all who wait, and the one who gave up takes nobody along.
func TestOneFetchForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		text := encrypted(t, closing(t, tenant.AEAD()), "x", "")
		before := e.Requests("datakey/plaintext")
		release := make(chan struct{})
		e.Intercept(func(http.ResponseWriter, *http.Request) bool { <-release; return false })
		a := closing(t, tenant.AEAD())
		impatient, giveUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := a.EncryptContext(impatient, nil, nil)
			assert.ErrorIs(t, err, context.Canceled)
		})
		wg.Go(func() {
			_, err := a.DecryptContext(impatient, []byte(text), nil)
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() { assert.NoError(t, errOf(a.Encrypt(nil, nil))) })
			wg.Go(func() { assert.NoError(t, errOf(a.Decrypt([]byte(text), nil))) })
		}
		synctest.Wait()
		giveUp()
		synctest.Wait()
		close(release)
		wg.Wait()
		assert.Equal(t, before+1, e.Requests("datakey/plaintext"))
		assert.Equal(t, 1, e.Requests("decrypt"))
	})
}

func errOf(_ []byte, err error) error { return err }

// A failure is not kept: the next call asks again.
func TestFailureIsNotKept(t *testing.T) {
	e, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	e.Intercept(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true })
	_, err := a.Encrypt(nil, nil)
	var answered *Error
	require.True(t, errors.As(err, &answered))
	e.Intercept(nil)
	_, err = a.Encrypt(nil, nil)
	assert.NoError(t, err)
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

// Whatever takes a key away, nothing opens or seals under it once the bound has
// passed; and until then Vault is not asked.
func TestNothingOutlivesTheBound(t *testing.T) {
	withdraw := map[string]func(*clienttest.Engine){
		"version destroyed": func(e *clienttest.Engine) { e.Rotate(tenantID); e.DestroyVersion(tenantID, 1) },
		"provider denied":   func(e *clienttest.Engine) { e.Deny(tenantID) },
		"tenant deleted":    func(e *clienttest.Engine) { e.DeleteTenant(tenantID) },
		"out of reach": func(e *clienttest.Engine) {
			e.Intercept(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true })
		},
	}
	bounds := map[string]struct {
		prepare func(*clienttest.Engine)
		opts    []AEADOption
		bound   time.Duration
	}{
		"default":            {func(*clienttest.Engine) {}, nil, 5 * time.Minute},
		"shorter lease":      {func(e *clienttest.Engine) { e.SetLease(20) }, nil, 20 * time.Second},
		"engine of no lease": {func(e *clienttest.Engine) { e.BeOlder() }, nil, 5 * time.Minute},
		"option":             {func(*clienttest.Engine) {}, []AEADOption{WithMaxAge(7 * time.Second)}, 7 * time.Second},
		"option beyond":      {func(*clienttest.Engine) {}, []AEADOption{WithMaxAge(time.Hour)}, 5 * time.Minute},
	}
	for what, take := range withdraw {
		for name, b := range bounds {
			t.Run(what+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e, tenant := inMemory(t)
					b.prepare(e)
					a := closing(t, tenant.AEAD(b.opts...))
					text := encrypted(t, a, "x", "")
					take(e)
					advance(b.bound - time.Nanosecond)
					_, err := a.Decrypt([]byte(text), nil)
					require.NoError(t, err, "within the bound nobody is asked")
					encrypted(t, a, "x", "")

					advance(time.Nanosecond)
					_, err = a.Decrypt([]byte(text), nil)
					require.Error(t, err)
					sealed, err := a.Encrypt([]byte("x"), nil)
					if what == "version destroyed" {
						require.NoError(t, err)
						version, err := VersionOf(string(sealed))
						require.NoError(t, err)
						assert.Equal(t, 2, version)
					} else {
						require.Error(t, err)
					}
				})
			})
		}
	}
}

// A key that decrypt opened ends as one that was made: by the lease that comes
// with it, or the latest that was told.
func TestOpenedKeysEndByTheLatestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		e.SetLease(30)
		text := encrypted(t, closing(t, tenant.AEAD()), "x", "")
		a := closing(t, tenant.AEAD())
		encrypted(t, a, "y", "") // tells it the lease
		e.BeOlder()              // and decrypt tells it none
		_, err := a.Decrypt([]byte(text), nil)
		require.NoError(t, err)
		e.Rotate(tenantID)
		e.DestroyVersion(tenantID, 1)
		advance(30 * time.Second)
		_, err = a.Decrypt([]byte(text), nil)
		assert.True(t, DoesNotOpen(err))
	})
}

// An AEAD that only opens has the lease from decrypt.
func TestOpenedKeysEndByTheirLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		text := encrypted(t, closing(t, tenant.AEAD()), "x", "")
		e.SetLease(30)
		a := closing(t, tenant.AEAD())
		_, err := a.Decrypt([]byte(text), nil)
		require.NoError(t, err)
		e.DeleteTenant(tenantID)
		advance(29 * time.Second)
		_, err = a.Decrypt([]byte(text), nil)
		require.NoError(t, err)
		advance(time.Second)
		_, err = a.Decrypt([]byte(text), nil)
		assert.ErrorIs(t, err, ErrNotFound)
	})
}

// The bound counts from before the request: an answer that was long on its way is
// used for as much less.
func TestBoundCountsFromTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		e.SetLease(60)
		e.Intercept(func(_ http.ResponseWriter, r *http.Request) bool { advance(50 * time.Second); return false })
		a := closing(t, tenant.AEAD())
		text := encrypted(t, a, "x", "")
		e.Intercept(nil)
		e.DeleteTenant(tenantID)
		advance(9 * time.Second)
		_, err := a.Decrypt([]byte(text), nil)
		require.NoError(t, err)
		advance(time.Second)
		_, err = a.Decrypt([]byte(text), nil)
		assert.ErrorIs(t, err, ErrNotFound)
	})
}

func TestLeaseThatEndsOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		e.SetLease(1)
		e.Intercept(func(_ http.ResponseWriter, r *http.Request) bool { advance(2 * time.Second); return false })
		_, err := closing(t, tenant.AEAD()).Encrypt(nil, nil)
		assert.ErrorIs(t, err, ErrLease)
	})
}

// A lease of 0 lets a key be used once, by those who waited for it.
func TestLeaseOfZeroKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		e.SetLease(0)
		a := closing(t, tenant.AEAD())
		text := encrypted(t, a, "x", "")
		encrypted(t, a, "x", "")
		assert.Equal(t, 2, e.Requests("datakey/plaintext"))
		for range 2 {
			_, err := a.Decrypt([]byte(text), nil)
			require.NoError(t, err)
		}
		assert.Equal(t, 2, e.Requests("decrypt"))
		assert.Zero(t, a.keys.recent.Len())
	})
}

// hands is a clock whose two hands are set apart.
type hands struct {
	mu   sync.Mutex
	time instant
}

func (h *hands) now() instant {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.time
}

func (h *hands) move(monotonic, wall time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.time = instant{h.time.monotonic + monotonic, h.time.wall.Add(wall)}
}

// The monotonic clock stands still while a machine sleeps; the wall clock can be
// set back. The earlier one ends a key.
func TestEarlierClockEndsAKey(t *testing.T) {
	for name, move := range map[string][2]time.Duration{
		"asleep":   {time.Second, 5 * time.Minute},
		"set back": {5 * time.Minute, -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			e, tenant := inMemory(t)
			h := &hands{time: instant{0, time.Unix(1e9, 0)}}
			a := closing(t, tenant.AEAD())
			a.keys.now = h.now
			text := encrypted(t, a, "x", "")
			e.DeleteTenant(tenantID)
			_, err := a.Decrypt([]byte(text), nil)
			require.NoError(t, err)
			h.move(move[0], move[1])
			_, err = a.Decrypt([]byte(text), nil)
			assert.ErrorIs(t, err, ErrNotFound)
			_, err = a.Encrypt(nil, nil)
			assert.ErrorIs(t, err, ErrNotFound)
		})
	}
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		a := tenant.AEAD()
		text := encrypted(t, closing(t, tenant.AEAD()), "x", "")
		release := make(chan struct{})
		e.Intercept(func(http.ResponseWriter, *http.Request) bool { <-release; return false })
		errs := make(chan error, 4)
		go func() { _, err := a.EncryptContext(t.Context(), nil, nil); errs <- err }()
		go func() { _, err := a.DecryptContext(t.Context(), []byte(text), nil); errs <- err }()
		go func() { _, err := a.Encrypt(nil, nil); errs <- err }()
		go func() { _, err := a.Decrypt([]byte(text), nil); errs <- err }()
		synctest.Wait()
		require.NoError(t, a.Close())
		require.NoError(t, a.Close())
		assert.ErrorIs(t, <-errs, ErrClosed)
		assert.ErrorIs(t, <-errs, ErrClosed)
		close(release)
		assert.ErrorIs(t, <-errs, ErrClosed)
		assert.ErrorIs(t, <-errs, ErrClosed)
		assert.Zero(t, a.keys.recent.Len(), "what arrives late is not kept")
		_, err := a.Encrypt(nil, nil)
		assert.ErrorIs(t, err, ErrClosed)
		_, err = a.Rewrap(t.Context(), nil)
		assert.ErrorIs(t, err, ErrClosed)
	})
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/token"
)

// A PIN that the token refuses is tried once: a few attempts would lock the token.
func TestWrongPINIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(1)
		pin := "wrong"
		k := use(t, l, func(c *token.Config) { c.PIN = func() ([]byte, error) { return []byte(pin), nil } })
		denied := func(logins int) {
			t.Helper()
			for range 10 {
				_, err := k.Encrypt(t.Context(), []byte("plaintext"))
				require.ErrorIs(t, err, token.ErrDenied)
				require.NotContains(t, err.Error(), pin)
				advance(time.Minute)
			}
			require.Equal(t, logins, l.logins)
		}
		denied(1)
		pin = "wrong2"
		denied(2)
		k.Forget()
		denied(3)
		l.change(func() { l.pin = "wrong2" })
		denied(3)
		k.Forget()
		works(t, k)
		require.Equal(t, 4, l.logins)
	})
}

func TestLockedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(1)
		l.locked = true
		k := use(t, l, nil)
		_, err := k.KeyID(t.Context())
		require.ErrorIs(t, err, token.ErrDenied)
		require.ErrorContains(t, err, "CKR_PIN_LOCKED")
		l.change(func() { l.locked = false })
		advance(time.Second)
		works(t, k)
	})
}

func TestPINThatCannotBeRead(t *testing.T) {
	k := use(t, newLibrary(1), func(c *token.Config) {
		c.PIN = func() ([]byte, error) { return nil, errors.New("-pin-file cannot be read") }
	})
	_, err := k.KeyID(t.Context())
	require.ErrorIs(t, err, token.ErrUnavailable)
	require.ErrorContains(t, err, "-pin-file")
}

// A token that restarts ends sessions and logins, and with them sees no private keys. That
// is no withdrawal: the program logs in again within the same request.
func TestTokenRestarts(t *testing.T) {
	l := newLibrary(1)
	k := use(t, l, nil)
	works(t, k)
	for name, restart := range map[string]func(){
		"the login ended":  func() { l.loggedIn = false },
		"sessions ended":   func() { clear(l.sessions) },
		"both":             func() { clear(l.sessions); l.loggedIn = false },
		"it moved":         func() { clear(l.sessions); l.loggedIn = false; l.slot++ },
		"not initialized":  func() { clear(l.sessions); l.initialized = 0 },
		"sessions replace": func() { clear(l.sessions); l.sessions[999] = true },
	} {
		before := l.logins
		l.change(restart)
		works(t, k)
		require.Equal(t, before+1, l.logins, name)
	}
}

// A token that was taken away says nothing about keys, and is found again.
func TestTokenGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(1)
		k := use(t, l, nil)
		works(t, k)
		l.change(func() { l.present = false })
		for range 3 {
			_, err := k.KeyID(t.Context())
			require.ErrorIs(t, err, token.ErrUnavailable)
			require.NotErrorIs(t, err, token.ErrNoKey)
			require.ErrorContains(t, err, "-token-label")
		}
		initialized := l.initialized
		_, err := k.KeyID(t.Context())
		require.Error(t, err)
		require.Equal(t, initialized, l.initialized, "a failed attempt answers for a second")
		l.change(func() { l.present = true })
		advance(time.Second)
		works(t, k)
	})
}

// What the library says is passed on, and what is not a refusal of the key is none.
func TestAnswersOfTheLibrary(t *testing.T) {
	for code, kind := range map[uint]error{
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: token.ErrDenied,
		pkcs11.CKR_ENCRYPTED_DATA_INVALID:     token.ErrInvalid,
		pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE:   token.ErrInvalid,
		pkcs11.CKR_GENERAL_ERROR:              token.ErrUnavailable,
		pkcs11.CKR_FUNCTION_FAILED:            token.ErrUnavailable,
		pkcs11.CKR_DEVICE_ERROR:               token.ErrUnavailable,
		pkcs11.CKR_DEVICE_REMOVED:             token.ErrUnavailable,
		pkcs11.CKR_TOKEN_NOT_PRESENT:          token.ErrUnavailable,
		pkcs11.CKR_USER_NOT_LOGGED_IN:         token.ErrUnavailable,
		pkcs11.CKR_SESSION_HANDLE_INVALID:     token.ErrUnavailable,
		pkcs11.CKR_KEY_HANDLE_INVALID:         token.ErrUnavailable,
		pkcs11.CKR_MECHANISM_INVALID:          token.ErrUnavailable,
		pkcs11.CKR_HOST_MEMORY:                token.ErrUnavailable,
	} {
		l := newLibrary(1)
		k := use(t, l, nil)
		sealed, err := k.Encrypt(t.Context(), []byte("plaintext"))
		require.NoError(t, err)
		answer := pkcs11.Error(code)
		l.change(func() { l.fail["Decrypt"] = answer })
		_, err = k.Decrypt(t.Context(), sealed)
		require.ErrorIs(t, err, kind, answer.Error())
		require.ErrorContains(t, err, answer.Error())
		for _, other := range []error{token.ErrDenied, token.ErrNoKey, token.ErrInvalid, token.ErrUnavailable} {
			require.Equal(t, errors.Is(kind, other), errors.Is(err, other), "%v: %v", answer, other)
		}
		l.change(func() { clear(l.fail) })
		opens(t, k, sealed)
	}
	for _, name := range []string{"Initialize", "Slots", "Token", "OpenSession", "Login", "LoggedIn", "Keys"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLibrary()
			k := use(t, l, nil)
			l.change(func() { l.fail[name] = pkcs11.Error(pkcs11.CKR_FUNCTION_FAILED) })
			_, err := k.KeyID(t.Context())
			require.ErrorIs(t, err, token.ErrUnavailable, name)
			l.change(func() {
				clear(l.fail)
				l.keys = newLibrary(1).keys
			})
			advance(time.Second)
			works(t, k)
		})
	}
}

// A call that hangs holds its place, and nobody who asked waits for it longer than the
// timeout.
func TestLibraryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(1)
		l.hang = make(chan struct{})
		var hung atomic.Int64
		k := use(t, l, func(c *token.Config) { c.Hung = func() { hung.Add(1) } })
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began := time.Now()
			_, err := k.Encrypt(ctx, []byte("plaintext"))
			require.LessOrEqual(t, time.Since(began), 5*time.Second)
			return err
		}
		for range 2 {
			require.ErrorContains(t, ask(), "did not answer")
		}
		err := ask()
		require.ErrorContains(t, err, "every session")
		require.ErrorIs(t, err, token.ErrUnavailable)
		require.Zero(t, hung.Load())
		advance(token.HangLimit)
		synctest.Wait()
		require.EqualValues(t, 2, hung.Load())
		close(l.hang)
		synctest.Wait()
	})
}

func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(1)
		l.hang = make(chan struct{})
		k := use(t, l, func(c *token.Config) { c.Sessions = 3 })
		var wg sync.WaitGroup
		failed := make(chan error, 20)
		for range cap(failed) {
			wg.Go(func() {
				_, err := k.Encrypt(t.Context(), []byte("plaintext"))
				failed <- err
			})
		}
		synctest.Wait()
		require.Equal(t, 3, l.inUse)
		close(l.hang)
		wg.Wait()
		for range cap(failed) {
			require.NoError(t, <-failed)
		}
		require.Equal(t, []int{3, 4, 1}, []int{l.mostInUse, l.opened, l.logins}, "one session keeps the login")
	})
}

// Many who find the token gone at once make one attempt to reach it.
func TestOneAttemptForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(1)
		l.present = false
		k := use(t, l, func(c *token.Config) { c.Sessions = 8 })
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := k.KeyID(t.Context())
				if !errors.Is(err, token.ErrUnavailable) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, l.initialized)
	})
}

func TestTokenIsNamed(t *testing.T) {
	for _, c := range []struct {
		label, serial string
		found         bool
	}{{"token", "", true}, {"", "0001", true}, {"token", "0001", true}, {"other", "0001", false}, {"token", "0002", false}} {
		k := use(t, newLibrary(1), func(config *token.Config) { config.TokenLabel, config.TokenSerial = c.label, c.serial })
		_, err := k.KeyID(t.Context())
		require.Equal(t, c.found, err == nil, fmt.Sprint(c))
	}
}

// advance lets time pass in a bubble.
func advance(d time.Duration) { <-time.After(d) }

// Ending does not wait for a call that hangs.
func TestCloseBesideAHangingCall(t *testing.T) {
	l := newLibrary(1)
	l.hang = make(chan struct{})
	k := use(t, l, nil)
	done := make(chan error, 1)
	go func() {
		_, err := k.Encrypt(t.Context(), []byte("plaintext"))
		done <- err
	}()
	require.Eventually(t, func() (in bool) {
		l.change(func() { in = l.inUse == 1 })
		return in
	}, time.Minute, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, k.Close(ctx))
	close(l.hang)
	require.NoError(t, <-done)
}

func TestClose(t *testing.T) {
	l := newLibrary(1)
	k := use(t, l, nil)
	works(t, k)
	require.NoError(t, k.Close(t.Context()))
	require.Empty(t, l.sessions)
	_, err := k.KeyID(t.Context())
	require.ErrorIs(t, err, token.ErrUnavailable)
	require.NoError(t, k.Close(t.Context()))
}

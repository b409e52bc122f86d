// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

const otherID = "0b0e5c1e-52a5-4a9b-9f0e-6f4d7a5c2b11"

// inMemory is an engine with two tenants, and the first of them.
func inMemory(t *testing.T) (*clienttest.Engine, *Tenant) {
	t.Helper()
	e := clienttest.New()
	e.CreateTenant(tenantID)
	e.CreateTenant(otherID)
	vault, err := e.Vault()
	require.NoError(t, err)
	c, err := New(vault, WithRetries(0))
	require.NoError(t, err)
	return e, tenantOf(t, c)
}

func closing(t *testing.T, a *AEAD) *AEAD {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, a.Close()) })
	return a
}

func encrypted(t *testing.T, a *AEAD, plaintext, ad string) string {
	t.Helper()
	text, err := a.Encrypt([]byte(plaintext), []byte(ad))
	require.NoError(t, err)
	return string(text)
}

func TestAEADRoundTrip(t *testing.T) {
	e, tenant := inMemory(t)
	writer, reader := closing(t, tenant.AEAD()), closing(t, tenant.AEAD())
	for _, plaintext := range []string{"", "a", strings.Repeat("x", 1<<20)} {
		for _, ad := range []string{"", "row 7"} {
			text := encrypted(t, writer, plaintext, ad)
			assert.True(t, strings.HasPrefix(text, "dek:v1:e1."))
			got, err := reader.Decrypt([]byte(text), []byte(ad))
			require.NoError(t, err)
			assert.Equal(t, plaintext, string(got))
		}
	}
	assert.Equal(t, 1, e.Requests("datakey/plaintext"), "once per data key")
	assert.Equal(t, 1, e.Requests("decrypt"), "once per data key")
}

func TestMissingAndEmptyAssociatedDataAreTheSame(t *testing.T) {
	_, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	text, err := a.Encrypt([]byte("x"), nil)
	require.NoError(t, err)
	_, err = a.Decrypt(text, []byte{})
	assert.NoError(t, err)
}

// What the engine's encrypt answered opens too, so a column may hold both.
func TestAEADOpensCiphertextsOfEncrypt(t *testing.T) {
	_, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	sealed, err := tenant.EncryptBatch(t.Context(), []Plaintext{{[]byte("x"), []byte("ad")}})
	require.NoError(t, err)
	got, err := a.Decrypt([]byte(sealed[0].Ciphertext), []byte("ad"))
	require.NoError(t, err)
	assert.Equal(t, "x", string(got))
	_, err = a.Decrypt([]byte(sealed[0].Ciphertext), nil)
	assert.True(t, DoesNotOpen(err))
}

// Every byte of an envelope matters, as do the tenant and the associated data.
func TestChangedEnvelopesDoNotOpen(t *testing.T) {
	_, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	text := encrypted(t, a, "plaintext", "ad")
	other := encrypted(t, closing(t, tenant.AEAD()), "plaintext", "ad")
	for i := range text {
		for _, with := range []byte{text[i] ^ 1, text[i] ^ 0x20, '\n', '.', '='} {
			if with == text[i] {
				continue
			}
			changed := []byte(text)
			changed[i] = with
			_, err := a.Decrypt(changed, []byte("ad"))
			require.True(t, DoesNotOpen(err), "byte %d as %q: %v", i, with, err)
		}
	}
	for i := range text {
		_, err := a.Decrypt([]byte(text[:i]), []byte("ad"))
		require.True(t, DoesNotOpen(err), "cut off at %d: %v", i, err)
	}
	parts, others := strings.Split(text, "."), strings.Split(other, ".")
	for name, changed := range map[string]string{
		"another data key":   parts[0] + "." + others[1] + "." + parts[2],
		"longer":             text + "AAAA",
		"a line break":       text + "\n",
		"a blank":            " " + text,
		"a leading zero":     "dek:v01:" + text[len("dek:v1:"):],
		"version 0":          "dek:v0:" + text[len("dek:v1:"):],
		"a great version":    "dek:v99999999999:" + text[len("dek:v1:"):],
		"a version to come":  "dek:v2:" + text[len("dek:v1:"):],
		"another mark":       strings.Replace(text, ":e1.", ":e2.", 1),
		"a file's mark":      strings.Replace(text, ":e1.", ":s1.", 1),
		"no key":             "dek:v1:e1.." + parts[2],
		"nothing sealed":     parts[0] + "." + parts[1] + ".",
		"too little sealed":  parts[0] + "." + parts[1] + "." + base64.StdEncoding.EncodeToString(make([]byte, 39)),
		"bits behind":        "dek:v1:e1.AB==." + parts[2],
		"the key by itself":  "dek:v1:" + parts[1],
		"another kind":       "vault:v1:AAAA",
		"nothing":            "",
		"URL-safe base64":    strings.NewReplacer("+", "-", "/", "_").Replace(parts[0] + "." + parts[1] + ".-_-_"),
		"base64 not at once": parts[0] + "." + parts[1] + "\r\n." + parts[2],
	} {
		_, err := a.Decrypt([]byte(changed), []byte("ad"))
		assert.True(t, DoesNotOpen(err), "%s: %v", name, err)
	}
	_, err := a.Decrypt([]byte(text), []byte("ae"))
	assert.ErrorIs(t, err, ErrDecrypt)
	second, err := tenant.c.Tenant(otherID)
	require.NoError(t, err)
	_, err = closing(t, second.AEAD()).Decrypt([]byte(text), []byte("ad"))
	assert.True(t, DoesNotOpen(err))
}

// The parts of the associated data cannot be shifted into each other: a data key
// that encrypt sealed is none, nor is a file's.
func TestOnlyDataKeysAreDataKeys(t *testing.T) {
	_, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	forged, err := tenant.EncryptBatch(t.Context(), []Plaintext{
		{make([]byte, 32), nil}, {make([]byte, 32), []byte(fileKeyLabel)}, {make([]byte, 16), []byte(dataKeyLabel)},
	})
	require.NoError(t, err)
	sealed := base64.StdEncoding.EncodeToString(make([]byte, 64))
	for _, f := range forged {
		text := strings.Replace(f.Ciphertext, ":", ":", 1)
		text = "dek:v1:e1." + strings.TrimPrefix(text, "dek:v1:") + "." + sealed
		_, err := a.Decrypt([]byte(text), nil)
		assert.Error(t, err)
	}
}

// What the caller does with its buffer afterwards changes nothing that is kept.
func TestBuffersAreTheCallers(t *testing.T) {
	e, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	text := []byte(encrypted(t, closing(t, tenant.AEAD()), "x", ""))
	for range 2 {
		buffer := append([]byte{}, text...)
		_, err := a.Decrypt(buffer, nil)
		require.NoError(t, err)
		clear(buffer)
	}
	assert.Equal(t, 1, e.Requests("decrypt"))
}

func TestManyUseOneAEAD(t *testing.T) {
	e, tenant := inMemory(t)
	a := closing(t, tenant.AEAD(WithMaxMessages(50), WithMaxKeys(3)))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				text, err := a.Encrypt([]byte("x"), nil)
				if !assert.NoError(t, err) {
					return
				}
				_, err = a.Decrypt(text, nil)
				assert.NoError(t, err)
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			a.Forget()
		}
	})
	wg.Wait()
	assert.GreaterOrEqual(t, e.Requests("datakey/plaintext"), 16, "a key seals 50 messages")
}

// A caller whose key was used up by others waits for the next one, however often.
func TestKeysOfOneMessageServeAll(t *testing.T) {
	e, tenant := inMemory(t)
	a := closing(t, tenant.AEAD(WithMaxMessages(1)))
	const callers = 32
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			_, err := a.Encrypt([]byte("x"), nil)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.GreaterOrEqual(t, e.Requests("datakey/plaintext"), callers)
}

// A version has one spelling, and so has what begins with it.
func TestVersionOf(t *testing.T) {
	for text, want := range map[string]int{"dek:v1:x": 1, "dek:v2147483647:x": 2147483647, "dek:v10:s1.x": 10} {
		got, err := VersionOf(text)
		assert.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{
		"", "dek:", "dek:v", "dek:v1", "dek:v1:", "dek:v:x", "dek:v0:x", "dek:v01:x", "dek:v+1:x", "dek:v-1:x", "dek:v1 :x",
		"dek:v2147483648:x", "dek:v99999999999999999999:x", "DEK:v1:x", " dek:v1:x", "dek:v\u0661:x",
	} {
		_, err := VersionOf(text)
		assert.ErrorIs(t, err, ErrMalformed, "%q", text)
	}
}

func FuzzIs64(f *testing.F) {
	for _, seed := range []string{"", "A", "AA==", "AB==", "AAA=", "AAB=", "AAAA", "AA=A", "====", "AAAA\n", "A-_A"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := decode64(text)
		require.Equal(t, err == nil, is64(text))
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "dek:v1:AAAA", "dek:v1:e1.AAAA." + base64.StdEncoding.EncodeToString(make([]byte, 40)), "dek:v1:s1.AAAA\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text)
		if err != nil {
			return
		}
		version, err := VersionOf(text)
		require.NoError(t, err)
		require.Equal(t, p.version, version)
		if p.form == envelopeForm {
			again := strings.Replace(p.key, ":", "\x00", 1)
			again = strings.Replace(again, ":", ":e1.", 1)
			again = strings.Replace(again, "\x00", ":", 1) + "." + base64.StdEncoding.EncodeToString(p.sealed)
			require.Equal(t, text, again, "there is one text for each envelope")
		}
	})
}

// advance lets time pass on the clock of a synctest bubble: nobody waits for it.
func advance(d time.Duration) { <-time.After(d) }

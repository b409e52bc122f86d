// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func requireVersion(t *testing.T, version int, text string) {
	t.Helper()
	got, err := VersionOf(text)
	require.NoError(t, err)
	require.Equal(t, version, got)
}

// Texts of many data keys and of encrypt come to the current version, by one
// request for all keys and one for all of encrypt's.
func TestRewrap(t *testing.T) {
	e, tenant := inMemory(t)
	var texts []Ciphertext
	for range 3 {
		a := closing(t, tenant.AEAD())
		for range 4 {
			texts = append(texts, Ciphertext{encrypted(t, a, "x", "ad"), []byte("ad")})
		}
	}
	sealed, err := tenant.EncryptBatch(t.Context(), []Plaintext{{[]byte("x"), []byte("ad")}, {[]byte("x"), []byte("ad")}})
	require.NoError(t, err)
	for _, s := range sealed {
		texts = append(texts, Ciphertext{s.Ciphertext, []byte("ad")})
	}
	broken := map[int]string{
		len(texts):     "dek:v1:AAAA",
		len(texts) + 1: texts[0].Ciphertext[:len(texts[0].Ciphertext)-4],
		len(texts) + 2: "nonsense",
		len(texts) + 3: "",
	}
	for range broken {
		texts = append(texts, Ciphertext{broken[len(texts)], []byte("ad")})
	}
	e.Rotate(tenantID)
	a := closing(t, tenant.AEAD())
	texts = append(texts, Ciphertext{encrypted(t, a, "x", "ad"), []byte("ad")})

	keys, opened := e.Requests("datakey/plaintext"), e.Requests("decrypt")
	out, err := a.Rewrap(t.Context(), texts)
	require.NoError(t, err)
	assert.Equal(t, keys, e.Requests("datakey/plaintext"), "the key that seals is of the current version")
	assert.Equal(t, opened+1, e.Requests("decrypt"))
	assert.Equal(t, 1, e.Requests("rewrap"))
	for i, r := range out {
		if broken[i] != "" || texts[i].Ciphertext == "" {
			assert.True(t, DoesNotOpen(r.Err), "%d: %v", i, r.Err)
			assert.False(t, r.Changed)
			assert.Empty(t, r.Ciphertext)
			continue
		}
		require.NoError(t, r.Err)
		requireVersion(t, 2, r.Ciphertext)
		assert.Equal(t, i != len(texts)-1, r.Changed)
		got, err := a.Decrypt([]byte(r.Ciphertext), []byte("ad"))
		require.NoError(t, err)
		assert.Equal(t, "x", string(got))
		assert.Equal(t, strings.Contains(texts[i].Ciphertext, ":e1."), strings.Contains(r.Ciphertext, ":e1."), "the form stays")
	}
}

// A key that sealed before the rotation does not bring texts back to its version,
// and after a cancel the newer ones come back.
func TestRewrapKnowsTheCurrentVersion(t *testing.T) {
	for _, older := range []bool{false, true} {
		e, tenant := inMemory(t)
		if older {
			e.BeOlder()
		}
		a := closing(t, tenant.AEAD())
		text := encrypted(t, a, "x", "")
		for _, step := range []struct {
			do      func(string)
			version int
		}{{func(id string) { e.Rotate(id) }, 2}, {e.CancelRotation, 1}} {
			step.do(tenantID)
			out, err := a.Rewrap(t.Context(), []Ciphertext{{Ciphertext: text}})
			require.NoError(t, err)
			require.NoError(t, out[0].Err)
			assert.True(t, out[0].Changed)
			text = out[0].Ciphertext
			requireVersion(t, step.version, text)
		}
	}
}

// A failure of Vault's is none of the texts'.
func TestRewrapTellsFaultsFromRefusals(t *testing.T) {
	e, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	envelope := Ciphertext{Ciphertext: encrypted(t, closing(t, tenant.AEAD()), "x", "")}
	sealed, err := tenant.EncryptBatch(t.Context(), []Plaintext{{Plaintext: []byte("x")}})
	require.NoError(t, err)
	e.Rotate(tenantID)
	for _, path := range []string{"/decrypt", "/rewrap", "/datakey/plaintext", "/dek/current"} {
		for _, status := range []int{400, 424, 429, 500, 503} {
			e.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, path) {
					w.WriteHeader(status)
					_, _ = w.Write([]byte(`{"errors":["no"]}`))
					return true
				}
				return false
			})
			_, err := a.Rewrap(t.Context(), []Ciphertext{envelope, {Ciphertext: sealed[0].Ciphertext}})
			assert.Error(t, err, "%d at %s", status, path)
			a.Forget()
		}
	}
}

func TestRewrapManyKeys(t *testing.T) {
	e, tenant := inMemory(t)
	texts := make([]Ciphertext, 2*maxKeysOpened+1)
	a := closing(t, tenant.AEAD(WithMaxMessages(1)))
	for i := range texts {
		texts[i].Ciphertext = encrypted(t, a, "x", "")
	}
	e.Rotate(tenantID)
	b := closing(t, tenant.AEAD(WithMaxKeys(10)))
	out, err := b.Rewrap(t.Context(), texts)
	require.NoError(t, err)
	for _, r := range out {
		require.NoError(t, r.Err)
		requireVersion(t, 2, r.Ciphertext)
	}
	assert.Equal(t, 3, e.Requests("decrypt"))
	assert.LessOrEqual(t, b.keys.recent.Len(), 10)
}

// A list that takes longer than a data key may be kept asks for the key again.
func TestRewrapOfALongList(t *testing.T) {
	e, tenant := inMemory(t)
	texts := make([]Ciphertext, 400)
	writer := closing(t, tenant.AEAD())
	for i := range texts {
		texts[i].Ciphertext = encrypted(t, writer, "x", "")
	}
	e.Rotate(tenantID)
	a := closing(t, tenant.AEAD())
	h := &hands{time: instant{0, time.Unix(1e9, 0)}}
	a.keys.now = func() instant {
		h.move(time.Second, time.Second)
		return h.now()
	}
	out, err := a.Rewrap(t.Context(), texts)
	require.NoError(t, err)
	for _, r := range out {
		require.NoError(t, r.Err)
	}
	assert.Greater(t, e.Requests("decrypt"), 1)
}

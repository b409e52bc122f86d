// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/encrypt"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// externalKeys lists the external keys on disk.
func externalKeys(m *enginetest.Mount) (keys []string) {
	for _, key := range m.Disk.Keys("keys/") {
		if strings.HasSuffix(key, ".ext") {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestEncryptDecrypts(t *testing.T) {
	m := enginetest.WithTenant(t)
	for name, c := range map[string]struct{ plaintext, ad string }{
		"text":                    {"hello", ""},
		"empty":                   {"", ""},
		"empty, associated data":  {"", "row 7"},
		"associated data":         {"hello", "row 7"},
		"binary":                  {"\x00\xff\n\r", "\x00\x00\x00\x01"},
		"700 KiB":                 {strings.Repeat("x", 700<<10), ""},
		"as much as there may be": {strings.Repeat("x", encrypt.MaxPlaintextBytes), "row 7"},
	} {
		t.Run(name, func(t *testing.T) {
			m.T = t
			answer := m.Must(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": enginetest.Encoded(c.plaintext), "associated_data": enginetest.Encoded(c.ad)})
			require.Equal(t, 1, answer["key_version"])
			ciphertext := answer["ciphertext"].(string)
			require.True(t, strings.HasPrefix(ciphertext, "dek:v1:"))
			require.LessOrEqual(t, len(ciphertext), 1<<20, "Vault would not let it in again")
			require.NotEqual(t, ciphertext, m.Encrypted(enginetest.TenantID, c.plaintext, c.ad), "a nonce was used twice")
			m.OpensTo(c.plaintext, ciphertext, c.ad)
		})
	}
	m.T = t
	m.OpensTo("x", m.Encrypted(enginetest.TenantID, "x"), "")
	m.OpensTo("x", m.Encrypted(enginetest.TenantID, "x", ""))
}

func TestEncryptIsRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	for name, c := range map[string]struct {
		path   string
		data   map[string]any
		status int
		says   string
	}{
		"no plaintext":        {enginetest.TenantPath("/encrypt"), nil, 400, "plaintext is missing"},
		"plaintext null":      {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": nil}, 400, "plaintext is missing"},
		"plaintext a number":  {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": 1}, 400, "plaintext must be a string"},
		"plaintext no base64": {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "hello!"}, 400, "plaintext is not standard base64"},
		"without padding":     {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "aGk"}, 400, "padded"},
		"a blank":             {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "aGVs bG8="}, 400, "standard base64"},
		"a blank around it":   {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": " aGVsbG8="}, 400, "standard base64"},
		"URL alphabet":        {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "-_8="}, 400, "standard base64"},
		"bits behind the end": {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "aGl="}, 400, "standard base64"},
		"associated data":     {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "", "associated_data": "row 7"}, 400, "associated_data is not standard base64"},
		"its type":            {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "", "associated_data": []any{"AA=="}}, 400, "associated_data"},
		"too long": {
			enginetest.TenantPath("/encrypt"),
			map[string]any{"plaintext": enginetest.Encoded(strings.Repeat("x", encrypt.MaxPlaintextBytes+1))},
			413, "785408",
		},
		"batch no list":          {enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": "x"}, 400, "batch_input"},
		"batch an object":        {enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": map[string]any{"plaintext": ""}}, 400, "batch_input"},
		"batch empty":            {enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": []any{}, "plaintext": ""}, 400, "batch_input"},
		"batch of texts":         {enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": []any{map[string]any{"plaintext": ""}, "x"}}, 400, "element 1"},
		"batch too long":         {enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": make([]any, 10_001)}, 400, "10000"},
		"partial code no number": {enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "", "partial_failure_response_code": "x"}, 400, "partial_failure_response_code"},
		"no such tenant":         {"tenants/" + enginetest.OtherTenant + "/encrypt", map[string]any{"plaintext": ""}, 404, "tenant"},
		"no tenant's ID":         {"tenants/x/encrypt", map[string]any{"plaintext": ""}, 400, "tenant_id"},
		"a batch of no tenant's": {"tenants/" + enginetest.OtherTenant + "/encrypt", map[string]any{"batch_input": []any{map[string]any{}}}, 404, "tenant"},
		"decrypt without":        {enginetest.TenantPath("/decrypt"), nil, 400, "ciphertext is missing"},
		"rewrap without":         {enginetest.TenantPath("/rewrap"), nil, 400, "ciphertext is missing"},
		"decrypt of no tenant's": {"tenants/" + enginetest.OtherTenant + "/decrypt", map[string]any{"ciphertext": "dek:v1:AAAA"}, 404, "tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			m.T = t
			m.Refused(c.status, c.says, enginetest.Update, c.path, c.data)
		})
	}
	require.Empty(t, externalKeys(m), "a refused request has made a key")
}

// Whatever is wrong with a ciphertext: 400 with a reason, from decrypt and from
// rewrap, and nothing changes.
func TestDecryptIsRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
	good := m.Encrypted(enginetest.TenantID, "hello", "row 7")
	foreign := m.Encrypted(enginetest.OtherTenant, "hello", "row 7")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(good, "dek:v1:"))
	require.NoError(t, err)
	text := func(change func([]byte) []byte) string {
		return "dek:v1:" + base64.StdEncoding.EncodeToString(change(slices.Clone(raw)))
	}
	const closed = "does not open"
	for name, c := range map[string]struct{ ciphertext, ad, says string }{
		"another tenant's":         {foreign, "row 7", closed},
		"other associated data":    {good, "row 8", closed},
		"no associated data":       {good, "", closed},
		"more associated data":     {good, "row 7 ", closed},
		"truncated":                {text(func(b []byte) []byte { return b[:len(b)-1] }), "row 7", closed},
		"extended":                 {text(func(b []byte) []byte { return append(b, 0) }), "row 7", closed},
		"only a nonce":             {text(func(b []byte) []byte { return b[:24] }), "row 7", closed},
		"nothing sealed":           {"dek:v1:", "row 7", closed},
		"one byte":                 {"dek:v1:AA==", "row 7", closed},
		"a flipped bit":            {text(func(b []byte) []byte { b[30] ^= 1; return b }), "row 7", closed},
		"a flipped bit of nonce":   {text(func(b []byte) []byte { b[0] ^= 1; return b }), "row 7", closed},
		"a version of the future":  {strings.Replace(good, "v1", "v2", 1), "row 7", "does not have"},
		"the largest version":      {strings.Replace(good, "v1", "v2147483647", 1), "row 7", "does not have"},
		"version 0":                {strings.Replace(good, "v1", "v0", 1), "row 7", "leading zeros"},
		"a leading zero":           {strings.Replace(good, "v1", "v01", 1), "row 7", "leading zeros"},
		"a plus sign":              {strings.Replace(good, "v1", "v+1", 1), "row 7", "in digits"},
		"a version beyond int":     {strings.Replace(good, "v1", "v99999999999999999999", 1), "row 7", "version"},
		"another digit for 1":      {strings.Replace(good, "v1", "v\u0661", 1), "row 7", "in digits"},
		"transit's":                {strings.Replace(good, "dek", "vault", 1), "row 7", "dek:v"},
		"a line break in between":  {good[:20] + "\r\n" + good[20:], "row 7", "line breaks"},
		"a line break in front":    {"dek:\n" + good[4:], "row 7", "dek:v"},
		"a space in between":       {good[:20] + " " + good[20:], "row 7", "base64"},
		"a space of another kind":  {"\u00a0" + good, "row 7", "dek:v"},
		"a form feed":              {good + "\f", "row 7", "base64"},
		"an unknown form":          {"dek:v1:e2.AAAA.AAAA", "row 7", "no known form"},
		"rubbish":                  {"dek:v1:!!!", "row 7", "base64"},
		"no padding":               {"dek:v1:AA", "row 7", "padded"},
		"empty":                    {"", "row 7", "malformed"},
		"two of them":              {good + good, "row 7", "base64"},
		"a plaintext":              {enginetest.Encoded("hello"), "row 7", "dek:v"},
		"as long as Vault permits": {"dek:v1:" + strings.Repeat("A", 1<<20-8), "row 7", closed},
	} {
		for _, path := range []string{"/decrypt", "/rewrap"} {
			t.Run(name+path, func(t *testing.T) {
				m.T = t
				m.Refused(400, c.says, enginetest.Update, enginetest.TenantPath(path), map[string]any{"ciphertext": c.ciphertext, "associated_data": enginetest.Encoded(c.ad)})
			})
		}
	}
}

// openssl base64 and base64 write lines.
func TestLineBreaksWithinBase64AreIgnored(t *testing.T) {
	m := enginetest.WithTenant(t)
	lines := enginetest.Encoded("hello")[:4] + "\r\n" + enginetest.Encoded("hello")[4:] + "\n"
	ad := enginetest.Encoded("row 7")[:4] + "\n" + enginetest.Encoded("row 7")[4:] + "\r\n"
	ciphertext := m.Must(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": lines, "associated_data": ad})["ciphertext"].(string)
	m.OpensTo("hello", ciphertext, "row 7")
	opened := m.Must(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": m.Encrypted(enginetest.TenantID, "hello", "row 7"), "associated_data": ad})
	require.Equal(t, enginetest.Encoded("hello"), opened["plaintext"])
	key := m.Must(enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), map[string]any{"associated_data": ad})
	opened = m.Must(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": key["ciphertext"], "associated_data": enginetest.Encoded("row 7")})
	require.Equal(t, key["plaintext"], opened["plaintext"])
}

// A ciphertext that was read from a file ends in a line break. Within it there is
// one spelling.
func TestBlanksAroundACiphertextAreIgnored(t *testing.T) {
	m := enginetest.WithTenant(t)
	good := m.Encrypted(enginetest.TenantID, "hello")
	for _, around := range [][2]string{{"", "\n"}, {" ", " "}, {"\t\r\n", ""}, {"\n \n", "\r\n\r\n"}} {
		text := around[0] + good + around[1]
		m.OpensTo("hello", text)
		answer := m.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": text, "only_if_older": true})
		require.Equal(t, good, answer["ciphertext"])
		_, results, _ := httpAnswer(m, "/decrypt", map[string]any{"batch_input": []any{map[string]any{"ciphertext": text}}})
		require.Equal(t, enginetest.Encoded("hello"), results[0]["plaintext"])
	}
}

// A tenant created again under the same ID opens nothing of its past.
func TestCiphertextsOfATenantsPastDoNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		old := m.Encrypted(enginetest.TenantID, "x")
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "0"})
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": old})
		m.OpensTo("y", m.Encrypted(enginetest.TenantID, "y"))
		m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": old})
	})
}

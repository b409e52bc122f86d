// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var isCiphertext = matches(regexp.MustCompile(`^dek:v[1-9][0-9]*:[A-Za-z0-9+/]+={0,2}$`))

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// encrypt seals a text and returns the ciphertext.
func encrypt(t *testing.T, s *devstack.Stack, tenant string, body map[string]any) string {
	t.Helper()
	data := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/encrypt", body))
	fields{"ciphertext": isCiphertext, "key_version": isNumber}.check(t, data)
	ciphertext, _ := data["ciphertext"].(string)
	return ciphertext
}

func TestContractEncrypt(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	for name, c := range map[string]struct{ plaintext, ad string }{
		"text": {"hello", ""}, "associated data": {"hello", "row 7"}, "empty": {"", ""}, "700 KiB": {text(700 << 10), "row 7"},
	} {
		t.Run(name, func(t *testing.T) {
			body := map[string]any{"plaintext": encoded(c.plaintext)}
			if c.ad != "" {
				body["associated_data"] = encoded(c.ad)
			}
			for _, path := range []string{"", "/rewrap"} {
				ciphertext := encrypt(t, s, tenant, body)
				open := map[string]any{"ciphertext": ciphertext, "associated_data": encoded(c.ad)}
				if path != "" {
					data := succeeded(t, callRoot(t, s, http.MethodPut, tenant+path, open))
					fields{"ciphertext": isCiphertext, "key_version": is(1.0), "changed": is(true)}.check(t, data)
					assert.NotEqual(t, ciphertext, data["ciphertext"])
					open["ciphertext"] = data["ciphertext"]
				}
				data := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/decrypt", open))
				fields{"plaintext": is(encoded(c.plaintext))}.check(t, data)
			}
		})
	}
}

// TestContractEncryptLargest: a ciphertext that is answered can be sent back, and
// what is too long for that is refused.
func TestContractEncryptLargest(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	const largest = 767 << 10
	ciphertext := encrypt(t, s, tenant, map[string]any{"plaintext": encoded(text(largest))})
	data := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/decrypt", map[string]any{"ciphertext": ciphertext}))
	assert.Equal(t, encoded(text(largest)), data["plaintext"])
	a := callRoot(t, s, http.MethodPut, tenant+"/encrypt", map[string]any{"plaintext": encoded(text(largest + 1))})
	refused(t, a, http.StatusRequestEntityTooLarge, "plaintext")
}

func TestContractDecryptRefused(t *testing.T) {
	s := shared(t)
	tenant, other := tenantPath(newTenant(t, s)), tenantPath(newTenant(t, s))
	good := encrypt(t, s, tenant, map[string]any{"plaintext": encoded("hello"), "associated_data": encoded("row 7")})
	foreign := encrypt(t, s, other, map[string]any{"plaintext": encoded("hello"), "associated_data": encoded("row 7")})
	version := func(v string) string { return strings.Replace(good, "v1", "v"+v, 1) }
	for name, c := range map[string]struct {
		ciphertext any
		ad         string
	}{
		"another tenant's": {foreign, "row 7"}, "other associated data": {good, "row 8"}, "no associated data": {good, ""},
		"truncated": {good[:len(good)-4], "row 7"}, "extended": {strings.TrimRight(good, "=") + "AAAAAAAA", "row 7"},
		"version 0": {version("0"), "row 7"}, "of the future": {version("2"), "row 7"}, "leading zero": {version("01"), "row 7"},
		"beyond int": {version("99999999999999999999"), "row 7"}, "plus sign": {version("+1"), "row 7"},
		"another digit": {version("١"), "row 7"}, "no prefix": {strings.TrimPrefix(good, "dek:"), "row 7"},
		"rubbish": {"dek:v1:????", "row 7"}, "line break": {good[:20] + "\n" + good[20:], "row 7"}, "a blank": {good[:20] + " " + good[20:], "row 7"},
		"empty": {"", "row 7"}, "missing": {nil, "row 7"}, "a number": {1, "row 7"}, "a list": {[]any{good}, "row 7"},
		"nothing sealed": {"dek:v1:", "row 7"}, "700 KiB of rubbish": {"dek:v1:" + encoded(text(700<<10)), "row 7"},
	} {
		for _, path := range []string{"/decrypt", "/rewrap"} {
			t.Run(name+path, func(t *testing.T) {
				a := callRoot(t, s, http.MethodPut, tenant+path, map[string]any{"ciphertext": c.ciphertext, "associated_data": encoded(c.ad)})
				refused(t, a, http.StatusBadRequest)
				batch := []any{map[string]any{"ciphertext": c.ciphertext, "associated_data": encoded(c.ad)}}
				a = callRoot(t, s, http.MethodPut, tenant+path, map[string]any{"batch_input": batch})
				require.Equal(t, http.StatusBadRequest, a.Status, "%s", a.Raw)
			})
		}
	}
	for name, body := range map[string]map[string]any{
		"no plaintext": {}, "base64": {"plaintext": "hello!"}, "a blank": {"plaintext": "aGVs bG8="}, "no padding": {"plaintext": "aGk"},
		"associated data": {"plaintext": "", "associated_data": "!"}, "empty batch": {"batch_input": []any{}}, "batch of text": {"batch_input": []any{"x"}},
		"batch a text": {"batch_input": "x"}, "a number": {"plaintext": 1},
	} {
		t.Run("encrypt "+name, func(t *testing.T) {
			refused(t, callRoot(t, s, http.MethodPut, tenant+"/encrypt", body), http.StatusBadRequest)
		})
	}
	refused(t, callRoot(t, s, http.MethodPut, tenantPath(uuid.NewString(), "encrypt"), map[string]any{"plaintext": ""}), http.StatusNotFound)
}

func TestContractDatakey(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	for bits, size := range map[any]int{nil: 32, 128: 16, 256: 32, 512: 64} {
		body := map[string]any{"bits": bits, "associated_data": encoded("ad")}
		plain := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/datakey/plaintext", body))
		fields{"ciphertext": isCiphertext, "key_version": is(1.0), "lease": is(3600.0), "plaintext": isText}.check(t, plain)
		wrapped := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/datakey/wrapped", body))
		fields{"ciphertext": isCiphertext, "key_version": is(1.0), "lease": is(3600.0)}.check(t, wrapped)
		for _, key := range []map[string]any{plain, wrapped} {
			open := map[string]any{"ciphertext": key["ciphertext"], "associated_data": encoded("ad")}
			opened, _ := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/decrypt", open))["plaintext"].(string)
			raw, err := base64.StdEncoding.DecodeString(opened)
			require.NoError(t, err)
			assert.Len(t, raw, size)
			if key["plaintext"] != nil {
				assert.Equal(t, key["plaintext"], opened)
			}
		}
	}
	for _, form := range []string{"plaintext", "wrapped"} {
		refused(t, callRoot(t, s, http.MethodPut, tenant+"/datakey/"+form, map[string]any{"bits": 192}), http.StatusBadRequest, "bits")
	}
	assert.GreaterOrEqual(t, callRoot(t, s, http.MethodPut, tenant+"/datakey/other", nil).Status, 400)

	only := tokenFor(t, s, `path "`+tenant+`/datakey/wrapped" { capabilities = ["update"] }`)
	assert.Equal(t, http.StatusOK, call(t, s, http.MethodPut, tenant+"/datakey/wrapped", only, nil).Status)
	assert.Equal(t, http.StatusForbidden, call(t, s, http.MethodPut, tenant+"/datakey/plaintext", only, nil).Status)
}

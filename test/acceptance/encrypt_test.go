// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/base64"
	"fmt"
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

// destroyAtOnce is a mount whose rotations destroy the old page key as they end,
// and a tenant of it.
func destroyAtOnce(t *testing.T, s *devstack.Stack) (tenant string) {
	t.Helper()
	mount := withMount(t, s)
	require.Less(t, callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{"retired_key_retention": 0}).Status, 300)
	tenant = mount + "/tenants/" + uuid.NewString()
	require.Less(t, callRoot(t, s, http.MethodPut, tenant, nil).Status, 300)
	return tenant
}

// encrypt seals a text and returns the ciphertext.
func encrypt(t *testing.T, s *devstack.Stack, tenant string, body map[string]any) string {
	t.Helper()
	data := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/encrypt", body))
	fields{"ciphertext": isCiphertext, "key_version": isNumber}.check(t, data)
	ciphertext, _ := data["ciphertext"].(string)
	return ciphertext
}

// rotateTo starts a rotation of a tenant of a mount of the test's own and waits
// until it has completed.
func rotateTo(t *testing.T, s *devstack.Stack, tenant string) {
	t.Helper()
	data := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/rotate", nil))
	id, _ := data["rotation_id"].(string)
	require.Eventually(t, func() bool {
		a := callRoot(t, s, http.MethodGet, tenant+"/dek/rotations/"+id, nil)
		return a.data()["status"] == "completed"
	}, rotationLimit, rotationTick)
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
					fields{"ciphertext": isCiphertext, "key_version": is(1.0)}.check(t, data)
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
		"rubbish": {"dek:v1:????", "row 7"}, "line break": {good[:20] + "\n" + good[20:], "row 7"}, "at the end": {good + "\r\n", "row 7"},
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
		"no plaintext": {}, "base64": {"plaintext": "hello!"}, "line break": {"plaintext": "aGVs\nbG8="}, "no padding": {"plaintext": "aGk"},
		"associated data": {"plaintext": "", "associated_data": "!"}, "empty batch": {"batch_input": []any{}}, "batch of text": {"batch_input": []any{"x"}},
		"batch a text": {"batch_input": "x"}, "a number": {"plaintext": 1},
	} {
		t.Run("encrypt "+name, func(t *testing.T) {
			refused(t, callRoot(t, s, http.MethodPut, tenant+"/encrypt", body), http.StatusBadRequest)
		})
	}
	refused(t, callRoot(t, s, http.MethodPut, tenantPath(uuid.NewString(), "encrypt"), map[string]any{"plaintext": ""}), http.StatusNotFound)
}

// batchResults are what a batch answers.
func batchResults(t *testing.T, a answer, status, n int) []map[string]any {
	t.Helper()
	require.Equal(t, status, a.Status, "%.300s", a.Raw)
	list, ok := a.data()["batch_results"].([]any)
	require.True(t, ok, "%.300s", a.Raw)
	require.Len(t, list, n)
	out := make([]map[string]any, n)
	for i := range list {
		out[i], _ = list[i].(map[string]any)
	}
	return out
}

func TestContractBatch(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	in := make([]any, 1000)
	for i := range in {
		in[i] = map[string]any{"plaintext": encoded(fmt.Sprint(i)), "reference": fmt.Sprint("r", i), "associated_data": encoded(fmt.Sprint(i % 7))}
	}
	for _, path := range []string{"/encrypt", "/rewrap", "/decrypt"} {
		a := callRoot(t, s, http.MethodPut, tenant+path, map[string]any{"batch_input": in})
		next := make([]any, len(in))
		for i, r := range batchResults(t, a, http.StatusOK, len(in)) {
			assert.Equal(t, fmt.Sprint("r", i), r["reference"])
			if path == "/decrypt" {
				assert.Equal(t, encoded(fmt.Sprint(i)), r["plaintext"])
			}
			next[i] = map[string]any{"ciphertext": r["ciphertext"], "reference": r["reference"], "associated_data": encoded(fmt.Sprint(i % 7))}
		}
		in = next
	}
}

// TestContractBatchWithOneBad: the body over HTTP is Vault's usual one, with the
// results in data, whatever the status.
func TestContractBatchWithOneBad(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	in := make([]any, 10_000)
	for i := range in {
		in[i] = map[string]any{"plaintext": "AAAA", "reference": fmt.Sprint(i)}
	}
	in[7777] = map[string]any{"plaintext": "AAA", "reference": "bad"}
	check := func(a answer, status int) {
		t.Helper()
		for i, r := range batchResults(t, a, status, len(in)) {
			assert.Equal(t, i == 7777, r["error"] != nil)
			assert.Equal(t, i != 7777, r["ciphertext"] != nil)
		}
		require.Equal(t, "application/json", a.Header.Get("Content-Type"))
		require.NotEmpty(t, a.Body["request_id"])
	}
	check(callRoot(t, s, http.MethodPut, tenant+"/encrypt", map[string]any{"batch_input": in}), http.StatusBadRequest)
	for _, status := range []int{200, 207, 422} {
		a := callRoot(t, s, http.MethodPut, tenant+"/encrypt", map[string]any{"batch_input": in, "partial_failure_response_code": status})
		check(a, status)
	}
	bad := map[string]any{"batch_input": in[7777:7778], "partial_failure_response_code": 207}
	batchResults(t, callRoot(t, s, http.MethodPut, tenant+"/encrypt", bad), http.StatusBadRequest, 1)
	some := map[string]any{"batch_input": in[7777:7779], "partial_failure_response_code": 5}
	a := callRoot(t, s, http.MethodPut, tenant+"/encrypt", some)
	batchResults(t, a, http.StatusBadRequest, 2)
	assert.Len(t, a.Body["warnings"], 1)
}

func TestContractDatakey(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	for bits, size := range map[any]int{nil: 32, 128: 16, 256: 32, 512: 64} {
		body := map[string]any{"bits": bits, "associated_data": encoded("ad")}
		plain := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/datakey/plaintext", body))
		fields{"ciphertext": isCiphertext, "key_version": is(1.0), "plaintext": isText}.check(t, plain)
		wrapped := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/datakey/wrapped", body))
		fields{"ciphertext": isCiphertext, "key_version": is(1.0)}.check(t, wrapped)
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

// TestContractVersions follows ciphertexts over rotations, a least version and
// the destruction of their version.
func TestContractVersions(t *testing.T) {
	s := shared(t)
	tenant := destroyAtOnce(t, s)
	old := encrypt(t, s, tenant, map[string]any{"plaintext": encoded("old")})
	rotateTo(t, s, tenant)
	rotateTo(t, s, tenant)
	current := encrypt(t, s, tenant, map[string]any{"plaintext": encoded("new")})
	dek := func() []any {
		list, _ := succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/dek", nil))["versions"].([]any)
		var states []any
		for _, v := range list {
			version, _ := v.(map[string]any)
			states = append(states, version["state"], version["external_use"])
		}
		return states
	}
	assert.Equal(t, []any{"deactivated", true, "destroyed", false, "active", true}, dek())
	decrypt := func(ciphertext string) answer {
		return callRoot(t, s, http.MethodPut, tenant+"/decrypt", map[string]any{"ciphertext": ciphertext})
	}
	assert.Equal(t, encoded("old"), succeeded(t, decrypt(old))["plaintext"])

	least := func(n int) answer {
		return callRoot(t, s, http.MethodPut, tenant+"/dek/config", map[string]any{"min_decryption_version": n})
	}
	refused(t, least(0), http.StatusBadRequest, "min_decryption_version")
	refused(t, least(4), http.StatusBadRequest, "min_decryption_version")
	assert.Equal(t, 3.0, succeeded(t, least(3))["min_decryption_version"])
	refused(t, decrypt(old), http.StatusBadRequest, "min_decryption_version")
	assert.Equal(t, encoded("new"), succeeded(t, decrypt(current))["plaintext"])
	succeeded(t, least(1))
	succeeded(t, decrypt(old))

	destroy := func(version string, force bool) answer {
		return callRoot(t, s, http.MethodPut, tenant+"/dek/versions/"+version+"/destroy", map[string]any{"force": force})
	}
	refused(t, destroy("3", true), http.StatusConflict, "active")
	refused(t, destroy("4", true), http.StatusNotFound)
	refused(t, destroy("01", true), http.StatusBadRequest, "version")
	refused(t, destroy("1", false), http.StatusConflict, "external_use")
	assert.Equal(t, "destroyed", succeeded(t, destroy("2", false))["state"], "it is already")
	rewrapped := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/rewrap", map[string]any{"ciphertext": old}))
	assert.Equal(t, 3.0, rewrapped["key_version"])
	fields{
		"version": is(1.0), "key_id": isKeyID, "key_type": is("xaes256-gcm"), "state": is("destroyed"), "created_at": isTime, "activated_at": isTime,
		"deactivated_at": isTime, "destroyed_at": isTime, "external_use": is(false), "pages": is(0.0), "rotation_id": is(""),
	}.check(t, succeeded(t, destroy("1", true)))
	refused(t, decrypt(old), http.StatusBadRequest, "destroyed")
	ciphertext, _ := rewrapped["ciphertext"].(string)
	assert.Equal(t, encoded("old"), succeeded(t, decrypt(ciphertext))["plaintext"])
	assert.Equal(t, []any{"destroyed", false, "destroyed", false, "active", true}, dek())
}

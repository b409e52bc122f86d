// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/faulty"
)

const otherTenant = "00000000-0000-4000-8000-000000000001"

// encrypted makes a ciphertext.
func (m *mount) encrypted(tenant, plaintext string, ad ...string) string {
	m.t.Helper()
	data := map[string]any{"plaintext": encoded(plaintext)}
	if len(ad) > 0 {
		data["associated_data"] = encoded(ad[0])
	}
	return m.must(update, "tenants/"+tenant+"/encrypt", data)["ciphertext"].(string)
}

// opensTo requires that a ciphertext opens.
func (m *mount) opensTo(plaintext, ciphertext string, ad ...string) {
	m.t.Helper()
	data := map[string]any{"ciphertext": ciphertext}
	if len(ad) > 0 {
		data["associated_data"] = encoded(ad[0])
	}
	require.Equal(m.t, encoded(plaintext), m.must(update, tenantPath("/decrypt"), data)["plaintext"])
}

// externalKeys lists the external keys on disk.
func (m *mount) externalKeys() (keys []string) {
	for _, key := range m.disk.Keys("keys/") {
		if strings.HasSuffix(key, ".ext") {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestEncryptDecrypts(t *testing.T) {
	m := withTenant(t)
	for name, c := range map[string]struct{ plaintext, ad string }{
		"text":                    {"hello", ""},
		"empty":                   {"", ""},
		"empty, associated data":  {"", "row 7"},
		"associated data":         {"hello", "row 7"},
		"binary":                  {"\x00\xff\n\r", "\x00\x00\x00\x01"},
		"700 KiB":                 {strings.Repeat("x", 700<<10), ""},
		"as much as there may be": {strings.Repeat("x", maxPlaintextBytes), "row 7"},
	} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			answer := m.must(update, tenantPath("/encrypt"), map[string]any{"plaintext": encoded(c.plaintext), "associated_data": encoded(c.ad)})
			require.Equal(t, 1, answer["key_version"])
			ciphertext := answer["ciphertext"].(string)
			require.True(t, strings.HasPrefix(ciphertext, "dek:v1:"))
			require.LessOrEqual(t, len(ciphertext), 1<<20, "Vault would not let it in again")
			require.NotEqual(t, ciphertext, m.encrypted(testTenant, c.plaintext, c.ad), "a nonce was used twice")
			m.opensTo(c.plaintext, ciphertext, c.ad)
		})
	}
	m.t = t
	m.opensTo("x", m.encrypted(testTenant, "x"), "")
	m.opensTo("x", m.encrypted(testTenant, "x", ""))
}

func TestEncryptIsRefused(t *testing.T) {
	m := withTenant(t)
	for name, c := range map[string]struct {
		path   string
		data   map[string]any
		status int
		says   string
	}{
		"no plaintext":           {tenantPath("/encrypt"), nil, 400, "plaintext is missing"},
		"plaintext null":         {tenantPath("/encrypt"), map[string]any{"plaintext": nil}, 400, "plaintext is missing"},
		"plaintext a number":     {tenantPath("/encrypt"), map[string]any{"plaintext": 1}, 400, "plaintext must be a string"},
		"plaintext no base64":    {tenantPath("/encrypt"), map[string]any{"plaintext": "hello!"}, 400, "plaintext is not standard base64"},
		"without padding":        {tenantPath("/encrypt"), map[string]any{"plaintext": "aGk"}, 400, "padded"},
		"with a line break":      {tenantPath("/encrypt"), map[string]any{"plaintext": "aGVs\nbG8="}, 400, "line breaks"},
		"with a carriage return": {tenantPath("/encrypt"), map[string]any{"plaintext": "aGVsbG8=\r\n"}, 400, "line breaks"},
		"URL alphabet":           {tenantPath("/encrypt"), map[string]any{"plaintext": "-_8="}, 400, "standard base64"},
		"bits behind the end":    {tenantPath("/encrypt"), map[string]any{"plaintext": "aGl="}, 400, "standard base64"},
		"associated data":        {tenantPath("/encrypt"), map[string]any{"plaintext": "", "associated_data": "row 7"}, 400, "associated_data is not standard base64"},
		"its line break":         {tenantPath("/encrypt"), map[string]any{"plaintext": "", "associated_data": "AA\n=="}, 400, "associated_data"},
		"its type":               {tenantPath("/encrypt"), map[string]any{"plaintext": "", "associated_data": []any{"AA=="}}, 400, "associated_data"},
		"too long": {
			tenantPath("/encrypt"),
			map[string]any{"plaintext": encoded(strings.Repeat("x", maxPlaintextBytes+1))},
			413, "785408",
		},
		"batch no list":          {tenantPath("/encrypt"), map[string]any{"batch_input": "x"}, 400, "batch_input"},
		"batch an object":        {tenantPath("/encrypt"), map[string]any{"batch_input": map[string]any{"plaintext": ""}}, 400, "batch_input"},
		"batch empty":            {tenantPath("/encrypt"), map[string]any{"batch_input": []any{}, "plaintext": ""}, 400, "batch_input"},
		"batch of texts":         {tenantPath("/encrypt"), map[string]any{"batch_input": []any{map[string]any{"plaintext": ""}, "x"}}, 400, "element 1"},
		"batch too long":         {tenantPath("/encrypt"), map[string]any{"batch_input": make([]any, 10_001)}, 400, "10000"},
		"partial code no number": {tenantPath("/encrypt"), map[string]any{"plaintext": "", "partial_failure_response_code": "x"}, 400, "partial_failure_response_code"},
		"no such tenant":         {"tenants/" + otherTenant + "/encrypt", map[string]any{"plaintext": ""}, 404, "tenant"},
		"no tenant's ID":         {"tenants/x/encrypt", map[string]any{"plaintext": ""}, 400, "tenant_id"},
		"a batch of no tenant's": {"tenants/" + otherTenant + "/encrypt", map[string]any{"batch_input": []any{map[string]any{}}}, 404, "tenant"},
		"decrypt without":        {tenantPath("/decrypt"), nil, 400, "ciphertext is missing"},
		"rewrap without":         {tenantPath("/rewrap"), nil, 400, "ciphertext is missing"},
		"decrypt of no tenant's": {"tenants/" + otherTenant + "/decrypt", map[string]any{"ciphertext": "dek:v1:AAAA"}, 404, "tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			m.refused(c.status, c.says, update, c.path, c.data)
		})
	}
	require.Empty(t, m.externalKeys(), "a refused request has made a key")
}

// Whatever is wrong with a ciphertext: 400 with a reason, from decrypt and from
// rewrap, and nothing changes.
func TestDecryptIsRefused(t *testing.T) {
	m := withTenant(t)
	m.must(update, "tenants/"+otherTenant, nil)
	good := m.encrypted(testTenant, "hello", "row 7")
	foreign := m.encrypted(otherTenant, "hello", "row 7")
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
		"a line break at the end":  {good + "\n", "row 7", "line breaks"},
		"a line break in between":  {good[:20] + "\r\n" + good[20:], "row 7", "line breaks"},
		"rubbish":                  {"dek:v1:!!!", "row 7", "base64"},
		"no padding":               {"dek:v1:AA", "row 7", "padded"},
		"empty":                    {"", "row 7", "malformed"},
		"two of them":              {good + good, "row 7", "base64"},
		"a plaintext":              {encoded("hello"), "row 7", "dek:v"},
		"spaces around":            {" " + good + " ", "row 7", "dek:v"},
		"as long as Vault permits": {"dek:v1:" + strings.Repeat("A", 1<<20-8), "row 7", closed},
	} {
		for _, path := range []string{"/decrypt", "/rewrap"} {
			t.Run(name+path, func(t *testing.T) {
				m.t = t
				m.refused(400, c.says, update, tenantPath(path), map[string]any{"ciphertext": c.ciphertext, "associated_data": encoded(c.ad)})
			})
		}
	}
}

// A tenant created again under the same ID opens nothing of its past.
func TestCiphertextsOfATenantsPastDoNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		old := m.encrypted(testTenant, "x")
		m.must(del, tenantPath(""), map[string]any{"deletion_window": "0"})
		advance(time.Minute)
		m.must(update, tenantPath(""), nil)
		m.refused(400, "does not open", update, tenantPath("/decrypt"), map[string]any{"ciphertext": old})
		m.opensTo("y", m.encrypted(testTenant, "y"))
		m.refused(400, "does not open", update, tenantPath("/decrypt"), map[string]any{"ciphertext": old})
	})
}

// rotated rotates to the end.
func (m *mount) rotated(data map[string]any) {
	m.t.Helper()
	id := m.must(update, tenantPath("/dek/rotate"), data)["rotation_id"].(string)
	advance(time.Minute)
	require.Equal(m.t, "completed", m.status(id)["status"])
}

func TestCiphertextsOutliveRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.destroyAtOnce()
		m.must(update, tenantPath(""), nil)
		ciphertexts := []string{m.encrypted(testTenant, "0", "ad")}
		for i, keyType := range []string{"aes256-gcm", "xaes256-gcm", "aes256-gcm"} {
			m.rotated(map[string]any{"key_type": keyType})
			ciphertexts = append(ciphertexts, m.encrypted(testTenant, fmt.Sprint(i+1), "ad"))
		}
		for i, c := range ciphertexts {
			require.True(t, strings.HasPrefix(c, fmt.Sprintf("dek:v%d:", i+1)))
			m.opensTo(fmt.Sprint(i), c, "ad")
			answer := m.must(update, tenantPath("/rewrap"), map[string]any{"ciphertext": c, "associated_data": encoded("ad")})
			require.Equal(t, 4, answer["key_version"])
			require.NotEqual(t, c, answer["ciphertext"], "a ciphertext that is current is sealed afresh too")
			require.NotContains(t, answer, "plaintext")
			m.opensTo(fmt.Sprint(i), answer["ciphertext"].(string), "ad")
		}
		for _, v := range m.versionList() {
			require.Equal(t, true, v["external_use"])
			require.Equal(t, map[bool]string{true: "active", false: "deactivated"}[v["version"] == 4], v["state"])
		}
	})
}

// versionList is what dek lists.
func (m *mount) versionList() []map[string]any {
	m.t.Helper()
	return m.must(read, tenantPath("/dek"), nil)["versions"].([]map[string]any)
}

// Only the first use makes the key, and reading does not.
func TestExternalKeyIsMadeAtFirstUse(t *testing.T) {
	m := withTenant(t)
	require.Equal(t, false, m.versionList()[0]["external_use"])
	m.refused(400, "does not open", update, tenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
	require.Empty(t, m.externalKeys())
	m.encrypted(testTenant, "x")
	require.Len(t, m.externalKeys(), 1)
	require.Equal(t, true, m.versionList()[0]["external_use"])
	m.encrypted(testTenant, "y")
	require.Len(t, m.externalKeys(), 1)
}

// However many come first at once: one key.
func TestFirstUseByManyAtOnce(t *testing.T) {
	m := withTenant(t)
	const many = 16
	ciphertexts := make([]string, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			resp, err := m.b.HandleRequest(t.Context(), &logical.Request{
				Operation: update, Path: tenantPath("/encrypt"), Storage: m.storage,
				Data: map[string]any{"plaintext": encoded(fmt.Sprint(i))},
			})
			if err == nil {
				ciphertexts[i], _ = resp.Data["ciphertext"].(string)
			}
		})
	}
	wg.Wait()
	require.Len(t, m.externalKeys(), 1)
	for i, c := range ciphertexts {
		m.opensTo(fmt.Sprint(i), c)
	}
}

// The Put of a first key that fails with effect is hidden by Vault's cache. The
// next request makes another key, and what it seals opens whatever the cache
// shows later.
func TestHiddenExternalKeyIsReplaced(t *testing.T) {
	m := withTenant(t)
	m.storage.Hook(func(op, key string) {
		if op == "put" && strings.HasSuffix(key, ".ext") {
			m.storage.FailNext(1, faulty.AfterStale)
		}
	})
	resp, err := m.call(update, tenantPath("/encrypt"), map[string]any{"plaintext": ""})
	require.Equal(t, 500, code(resp, err))
	m.storage.Hook(nil)
	require.Len(t, m.externalKeys(), 1, "it took effect")
	require.Equal(t, true, m.versionList()[0]["external_use"], "a List shows it")

	ciphertext := m.encrypted(testTenant, "acknowledged")
	m.opensTo("acknowledged", ciphertext)
	m.close()
	m.disk.RestartVault()
	again := openMount(t, m.disk, 0, faulty.None)
	defer again.close()
	again.opensTo("acknowledged", ciphertext)
}

// A missing KEK is a fault. It must not pass for a key that is to be made.
func TestMissingKEKMakesNoNewKey(t *testing.T) {
	m := withTenant(t)
	ciphertext := m.encrypted(testTenant, "x")
	m.close()
	for _, key := range m.disk.Keys("kek/keys/") {
		m.disk.Set(key, nil)
	}
	again := openMount(t, m.disk, 0, faulty.None)
	defer again.close()
	before := m.disk.Clone()
	for path, data := range map[string]map[string]any{
		"/encrypt": {"plaintext": ""}, "/decrypt": {"ciphertext": ciphertext}, "/rewrap": {"ciphertext": ciphertext}, "/datakey/wrapped": nil,
	} {
		resp, err := again.call(update, tenantPath(path), data)
		require.Equal(t, 500, code(resp, err), path)
	}
	require.Equal(t, before, m.disk.Clone())
}

// httpAnswer is the answer to a batch: its status, its results, its warnings.
func (m *mount) httpAnswer(path string, data map[string]any) (status int, results []map[string]any, warnings []any) {
	m.t.Helper()
	resp, err := m.call(update, tenantPath(path), data)
	require.NoError(m.t, err)
	require.NoError(m.t, resp.Error())
	status = 200
	body := map[string]any{"data": resp.Data, "warnings": resp.Warnings}
	text, err := json.Marshal(body)
	require.NoError(m.t, err)
	if raw := resp.Data[logical.HTTPRawBody]; raw != nil {
		status = resp.Data[logical.HTTPStatusCode].(int)
		text = []byte(raw.(string))
	}
	var decoded struct {
		Data struct {
			Results []map[string]any `json:"batch_results"`
		} `json:"data"`
		Warnings []any `json:"warnings"`
	}
	require.NoError(m.t, json.Unmarshal(text, &decoded))
	return status, decoded.Data.Results, decoded.Warnings
}

func TestBatchKeepsOrderAndReferences(t *testing.T) {
	m := withTenant(t)
	const n = 300
	var in []any
	for i := range n {
		e := map[string]any{"plaintext": encoded(fmt.Sprint(i)), "reference": fmt.Sprintf("r%d", i)}
		if i%2 == 1 {
			e["associated_data"] = encoded(fmt.Sprint("ad", i))
		}
		in = append(in, e)
	}
	status, sealed, _ := m.httpAnswer("/encrypt", map[string]any{"batch_input": in, "plaintext": "ignored, as it is", "associated_data": 1})
	require.Equal(t, 200, status)
	require.Len(t, sealed, n)
	for _, path := range []string{"/rewrap", "/decrypt"} {
		var next []any
		for i, r := range sealed {
			require.Equal(t, fmt.Sprintf("r%d", i), r["reference"])
			require.Equal(t, 1.0, r["key_version"])
			require.NotContains(t, r, "error")
			require.NotContains(t, r, "plaintext")
			e := map[string]any{"ciphertext": r["ciphertext"], "reference": r["reference"]}
			if i%2 == 1 {
				e["associated_data"] = encoded(fmt.Sprint("ad", i))
			}
			next = append(next, e)
		}
		status, sealed, _ = m.httpAnswer(path, map[string]any{"batch_input": next})
		require.Equal(t, 200, status)
	}
	for i, r := range sealed {
		require.Equal(t, map[string]any{"plaintext": encoded(fmt.Sprint(i)), "reference": fmt.Sprintf("r%d", i)}, r)
	}
}

func TestBatchWithFailures(t *testing.T) {
	m := withTenant(t)
	good := m.encrypted(testTenant, "good")
	bad := []any{
		map[string]any{"ciphertext": "dek:v1:AAAA", "reference": "damaged"},
		map[string]any{"reference": "nothing"},
		map[string]any{"ciphertext": 1, "reference": "a number"},
		map[string]any{"ciphertext": good, "associated_data": "!", "reference": "associated data"},
		map[string]any{"ciphertext": good, "reference": 7},
	}
	mixed := append([]any{map[string]any{"ciphertext": good, "reference": "good"}}, bad...)
	for name, c := range map[string]struct {
		code   any
		input  []any
		status int
		warns  bool
	}{
		"some fail":                   {nil, mixed, 400, false},
		"some fail, 207":              {207, mixed, 207, false},
		"some fail, 200":              {200, mixed, 200, false},
		"some fail, a string":         {"422", mixed, 422, false},
		"all fail, 207":               {207, bad, 400, false},
		"none fails, 207":             {207, mixed[:1], 200, false},
		"a status that Go refuses":    {7, mixed, 400, true},
		"a status that ends nothing":  {100, mixed, 400, true},
		"a status beyond":             {600, mixed, 400, true},
		"a status beyond, none fails": {600, mixed[:1], 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			for path, value := range map[string]string{"/decrypt": "plaintext", "/rewrap": "ciphertext"} {
				status, results, warnings := m.httpAnswer(path, map[string]any{"batch_input": c.input, "partial_failure_response_code": c.code})
				require.Equal(t, c.status, status)
				require.Equal(t, c.warns, len(warnings) > 0)
				require.Len(t, results, len(c.input))
				for i, r := range results {
					reference, _ := c.input[i].(map[string]any)["reference"].(string)
					require.Equal(t, reference, r["reference"])
					require.Equal(t, reference == "good", r[value] != nil)
					require.Equal(t, reference != "good", r["error"] != nil, "either a value or an error")
				}
			}
		})
	}
}

func TestBatchThatFailsMakesNoKey(t *testing.T) {
	m := withTenant(t)
	status, results, _ := m.httpAnswer("/encrypt", map[string]any{"batch_input": []any{
		map[string]any{"plaintext": "!"}, map[string]any{}, map[string]any{"plaintext": encoded(strings.Repeat("x", maxPlaintextBytes+1))},
	}})
	require.Equal(t, 400, status)
	require.Len(t, results, 3)
	require.Contains(t, results[2]["error"], "785408")
	require.Empty(t, m.externalKeys())
	status, _, _ = m.httpAnswer("/encrypt", map[string]any{"batch_input": []any{map[string]any{"plaintext": "!"}, map[string]any{"plaintext": ""}}})
	require.Equal(t, 400, status)
	require.Len(t, m.externalKeys(), 1, "one entry did not fail")
}

func TestBatchOfTenThousandWithOneBad(t *testing.T) {
	m := withTenant(t)
	in := make([]any, 10_000)
	for i := range in {
		in[i] = map[string]any{"plaintext": "AAAA"}
	}
	in[4321] = map[string]any{"plaintext": "AAA"}
	status, results, _ := m.httpAnswer("/encrypt", map[string]any{"batch_input": in})
	require.Equal(t, 400, status)
	require.Len(t, results, len(in))
	for i, r := range results {
		require.Equal(t, i == 4321, r["error"] != nil)
	}
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	weak "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mark makes a text to be looked for.
func (l *leaks) mark(class string) string {
	text := rand.Text()
	l.markers[text] = class
	return text
}

// number makes a number to be looked for.
func (l *leaks) number() json.Number {
	text := strconv.FormatInt(1e15+weak.Int64N(8e15), 10) // 16 digits, below 2^53
	l.markers[text] = "number"
	return json.Number(text)
}

// known are the secrets that the stack itself lives on.
func (l *leaks) known(dir string) {
	raw, err := os.ReadFile(filepath.Join(dir, "init.json"))
	require.NoError(l.t, err)
	var creds struct {
		UnsealKey string `json:"unseal_key"`
		RootToken string `json:"root_token"`
	}
	require.NoError(l.t, json.Unmarshal(raw, &creds))
	unsealKey, err := base64.StdEncoding.DecodeString(creds.UnsealKey)
	require.NoError(l.t, err)
	l.markers[creds.UnsealKey], l.markers[string(unsealKey)], l.markers[creds.RootToken] = "unseal key", "unseal key", "token"
}

// vault makes a request with the root token and returns the answer.
func (l *leaks) vault(method, path string, body any) answer {
	l.t.Helper()
	return l.vaultAs(l.s.RootToken(), method, path, body)
}

func (l *leaks) vaultAs(token, method, path string, body any) answer {
	l.t.Helper()
	a := call(l.t, l.s, method, path, token, body)
	l.note("Vault", a)
	return a
}

func (l *leaks) proxy(method, path string, body any, headers ...string) answer {
	l.t.Helper()
	a := callProxy(l.t, l.s, method, path, body, headers...)
	l.note("the proxy", a)
	return a
}

func (l *leaks) note(from string, a answer) {
	if a.Status >= 400 {
		l.errors = append(l.errors, errorBody{from, a.Raw})
	}
}

// want requires a status.
func (l *leaks) want(status int, a answer) answer {
	l.t.Helper()
	require.Equal(l.t, status, a.Status, a.errors())
	return a
}

func (l *leaks) tenant() string {
	tenant := newTenant(l.t, l.s)
	l.want(200, l.vault("PUT", tenantPath(tenant), map[string]any{"display_name": l.mark("display name")}))
	l.want(200, l.vault("PUT", "dek/config", map[string]any{"org_id": l.mark("org_id"), "retired_key_retention": 0}))
	return tenant
}

// item is the body of a write with everything in it that may be secret.
func (l *leaks) item() map[string]any {
	return map[string]any{
		"data": map[string]any{
			"password": `"` + l.mark("value") + "<\u00e9\n", l.mark("field"): "x", "pin": l.number(), markedBoolean: true,
			"nested": map[string]any{"list": []any{l.mark("value"), l.number(), map[string]any{l.mark("field"): l.mark("value")}}},
		},
		"metadata": map[string]any{"owner": l.mark("metadata"), l.mark("metadata key"): "x"},
	}
}

func (l *leaks) items(tenant string) {
	for _, kind := range []string{"credentials", "apiKeys", "secrets"} {
		path := tenantPath(tenant, kind, l.mark("name"), l.mark("name"))
		l.want(200, l.vault("PUT", path, l.item()))
		l.want(200, l.vault("PUT", path, l.item()))
		l.want(200, l.vault("PATCH", path, l.item()))
		l.want(200, l.vault("GET", path, nil))
		l.want(200, l.vault("LIST", tenantPath(tenant, kind), nil))
		l.vault("LIST", tenantPath(tenant, kind)+"?limit=1&after="+l.mark("after"), nil) // 404 if nothing follows
		gone := tenantPath(tenant, kind, l.mark("name"))
		l.want(200, l.vault("PUT", gone, l.item()))
		l.want(204, l.vault("DELETE", gone, nil))
		l.want(404, l.vault("GET", gone, nil))
	}
	l.kv(tenant)
	var many []any
	for range 100 { // splits pages
		one := l.item()
		one["kind"], one["name"] = "secrets", l.mark("name in bulk")
		one["data"].(map[string]any)["long"] = text(2000)
		many = append(many, one)
	}
	l.want(200, l.vault("PUT", tenantPath(tenant, "items"), map[string]any{"items": many}))
}

// kv uses the face of KV version 2.
func (l *leaks) kv(tenant string) {
	name := tenant + "/secrets/" + l.mark("name") + "/" + l.mark("name")
	own := l.item()
	l.want(200, l.vault("PUT", "dek/data/"+name, map[string]any{"data": own["data"]}))
	l.want(200, l.vault("PATCH", "dek/data/"+name, map[string]any{"data": l.item()["data"], "options": map[string]any{"cas": 1}}))
	l.want(400, l.vault("PUT", "dek/data/"+name, map[string]any{"data": own["data"], "options": map[string]any{"cas": 1}}))
	for _, method := range []string{"PUT", "PATCH"} {
		l.want(204, l.vault(method, "dek/metadata/"+name, map[string]any{"custom_metadata": l.item()["metadata"]}))
	}
	for _, part := range []string{"data", "metadata", "subkeys"} {
		l.want(200, l.vault("GET", "dek/"+part+"/"+name, nil))
	}
	l.want(200, l.vault("LIST", "dek/metadata/"+tenant+"/secrets", nil))
	l.want(204, l.vault("PUT", "dek/destroy/"+name, map[string]any{"versions": []int{2}}))
}

func (l *leaks) encryption(tenant string) {
	encoded := func(class string) string { return base64.StdEncoding.EncodeToString([]byte("~" + l.mark(class))) }
	ad := encoded("associated data")
	sealed := l.want(200, l.vault("PUT", tenantPath(tenant, "encrypt"), map[string]any{"plaintext": encoded("plaintext"), "associated_data": ad})).data()
	sealed["associated_data"] = ad
	l.markers[sealed["ciphertext"].(string)] = "ciphertext"
	l.want(200, l.vault("PUT", tenantPath(tenant, "decrypt"), sealed))
	l.want(200, l.vault("PUT", tenantPath(tenant, "rewrap"), sealed))
	l.want(200, l.vault("PUT", tenantPath(tenant, "encrypt"), map[string]any{"batch_input": []any{
		map[string]any{"plaintext": encoded("plaintext"), "associated_data": encoded("associated data"), "reference": l.mark("reference")},
	}}))
	dataKey, _ := l.want(200, l.vault("PUT", tenantPath(tenant, "datakey/plaintext"), nil)).data()["plaintext"].(string)
	raw, err := base64.StdEncoding.DecodeString(dataKey)
	require.NoError(l.t, err)
	l.markers[dataKey], l.markers[string(raw)] = "data key", "data key"

	sealed["associated_data"] = encoded("associated data")
	l.want(400, l.vault("PUT", tenantPath(tenant, "decrypt"), sealed))
	for _, field := range []string{"plaintext", "ciphertext", "associated_data"} {
		for _, path := range []string{"encrypt", "decrypt", "rewrap"} {
			body := map[string]any{"plaintext": "aGVsbG8=", "ciphertext": sealed["ciphertext"]}
			body[field] = l.mark("malformed base64") + "!"
			a := l.vault("PUT", tenantPath(tenant, path), body)
			l.vault("PUT", tenantPath(tenant, path), map[string]any{"batch_input": []any{body}})
			assert.Less(l.t, a.Status, 500)
		}
	}
}

func (l *leaks) rotations(tenant string) {
	body := map[string]any{"reason": l.mark("reason"), "idempotency_key": l.mark("idempotency key")}
	id := l.want(200, l.vault("PUT", tenantPath(tenant, "dek/rotate"), body)).data()["rotation_id"].(string)
	l.vault("PUT", tenantPath(tenant, "dek/rotate"), map[string]any{"reason": l.mark("reason")}) // 409, if it is fast enough
	waitRotation(l.t, l.s, tenant, id, "completed")
	l.want(200, l.vault("GET", tenantPath(tenant, "dek/rotations", id), nil))
	l.want(200, l.vault("GET", tenantPath(tenant, "dek"), nil))
	l.want(409, l.vault("PUT", tenantPath(tenant, "dek/rotations", id, "cancel"), nil))

	body = map[string]any{"reason": l.mark("reason"), "idempotency_key": l.mark("idempotency key")}
	l.want(200, l.vault("PUT", "dek/kek/rotate", body))
	require.Eventually(l.t, func() bool {
		return l.want(200, l.vault("GET", "dek/kek", nil)).data()["status"] == "completed"
	}, rotationLimit, rotationTick)
}

func (l *leaks) deletion() {
	tenant := l.tenant()
	l.items(tenant)
	l.want(204, l.vault("DELETE", tenantPath(tenant)+"?deletion_window=0", nil))
	require.Eventually(l.t, func() bool { return l.vault("GET", tenantPath(tenant), nil).Status == 404 }, goneLimit, rotationTick)
}

func (l *leaks) snapshot() []byte {
	resp, err := l.s.Client().Logical().ReadRawWithContext(l.t.Context(), "sys/storage/raft/snapshot")
	require.NoError(l.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(l.t, err)
	return raw
}

// trouble kills the plugin, seals Vault and kills it, with requests meanwhile.
func (l *leaks) trouble(tenant string) {
	write := func() answer { return l.vault("PUT", tenantPath(tenant, "secrets", l.mark("name")), l.item()) }
	jwt := mint(l.t, l.s, tenant, "security_admin")
	l.markers[jwt] = "JWT"
	ask := func() {
		l.want(503, l.proxy("POST", rotatePath, `{"tenantId": "`+tenant+`"}`, rotateHeaders(jwt, tenant)...))
		l.want(503, l.proxy("GET", settingsPaths[0], nil, "INFA-SESSION-ID", "hvs."+l.mark("token")))
		l.want(503, l.logIn(l.mark("unknown username"), l.mark("password")))
		l.proxy("GET", "/api/v1/admin/health", nil)
	}
	for range 3 {
		require.NoError(l.t, l.s.KillPlugin())
		write() // 500, if it is fast enough
		require.Eventually(l.t, func() bool { return write().Status == 200 }, goneLimit, rotationTick)
	}
	require.NoError(l.t, l.s.Seal(l.t.Context()))
	l.want(503, write())
	ask()
	require.NoError(l.t, l.s.Unseal(l.t.Context()))
	require.Eventually(l.t, func() bool { return write().Status == 200 }, goneLimit, rotationTick)
	l.s.KillVault()
	ask()
	require.NoError(l.t, l.s.RestartVault(l.t.Context()))
	l.want(200, write())
}

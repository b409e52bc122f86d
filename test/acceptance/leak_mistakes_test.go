// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"strings"
)

// What a field is that gets a value of the wrong type: one that may carry a
// secret, or one that says what to do.
var (
	contentFields = []string{
		"data", "metadata", "items", "batch_input", "plaintext", "ciphertext", "associated_data",
		"display_name", "org_id", "reason", "idempotency_key", "tenants",
	}
	settingFields = []string{
		"cas", "all", "force", "bits", "min_decryption_version", "key_type", "hash_function", "rotation_interval", "rotation_paused",
		"rotation_parallelism", "retired_key_retention", "max_item_bytes", "scheduler_jitter", "max_concurrent_rotations",
		"partial_failure_response_code", "deletion_window", "limit", "after", "only_if_older", "data_key_lease",
		"manual_rotations_per_hour",
	}
)

// mistakes sends what is refused: each field of each path with a value of
// another type, and more.
func (l *leaks) mistakes(tenant string) {
	secret := tenantPath(tenant, "secrets/here")
	l.want(200, l.vault("PUT", secret, l.item()))
	for _, p := range served() {
		path := strings.Replace(examples(p.path, tenant)[0], "credentials/a", "secrets/here", 1)
		method := vaultOperations[p.operation]
		switch p.operation {
		case "update", "patch":
			for _, field := range contentFields {
				l.mistyped(method, path, field, "content of another type")
			}
			for _, field := range settingFields {
				l.mistyped(method, path, field, "setting of another type")
			}
			l.vault(method, path, `{"data": {"`+l.mark("malformed JSON")+`": "`+l.mark("malformed JSON"))
			l.vault(method, path, `{"data": `+l.mark("malformed JSON")+`}`)
		case "list":
			l.vault(method, path+"?limit="+l.mark("setting of another type"), nil)
		}
	}
	l.want(200, l.vault("PUT", secret, map[string]any{"data": map[string]any{}, l.mark("unknown field"): l.mark("value")}))
	l.want(400, l.vault("DELETE", secret+"?cas="+l.mark("setting of another type"), nil))
	l.want(409, l.vault("PUT", secret, map[string]any{"data": map[string]any{"v": l.mark("value")}, "cas": 77}))
	l.want(413, l.vault("PUT", secret, map[string]any{"data": map[string]any{"v": strings.Repeat(l.mark("value"), 20_000)}}))
	l.vault("PUT", secret, map[string]any{"data": map[string]any{"v": strings.Repeat(l.mark("value"), 50_000)}}) // over 1 MiB
	l.want(400, l.vault("PUT", secret, map[string]any{"data": map[string]any{l.mark("field"): json.Number("9007199254740993")}}))
	l.want(400, l.vault("PUT", tenantPath(tenant, "secrets", l.mark("name")+"%20"), l.item()))
	l.vault("PUT", tenantPath(tenant, l.mark("name"), l.mark("name")), l.item())
	l.want(404, l.vault("PUT", "nowhere/"+l.mark("path outside the mount"), l.item()))
	l.vault("PUT", tenantPath(tenant, "items"), map[string]any{"items": []any{
		map[string]any{"kind": l.mark("content of another type"), "name": l.mark("name in bulk"), "data": map[string]any{}},
		map[string]any{"kind": "secrets", "name": l.mark("name in bulk") + "//", "data": map[string]any{"v": l.mark("value")}},
		map[string]any{"kind": "secrets", "name": l.mark("name in bulk"), "data": l.mark("content of another type"), "cas": l.mark("value")},
	}})
}

// mistyped sends a text, a list and an object where something else may belong.
func (l *leaks) mistyped(method, path, field, class string) {
	for _, value := range []any{l.mark(class), []any{l.mark(class)}, map[string]any{"a": l.mark(class)}} {
		l.vault(method, path, map[string]any{"data": map[string]any{}, field: value})
	}
}

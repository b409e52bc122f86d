// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

// imports brings keys along: the key itself is text that is recognized.
func (l *leaks) imports(tenant string) {
	public, path := wrappingKey(l.t, l.s), tenantPath(tenant, "dek/import")
	imported := func(class string) map[string]any {
		text := wrapped(l.t, public, []byte(l.mark(class)+"~~~~~~")) // 32 bytes
		l.markers[text] = "import"
		return map[string]any{"ciphertext": text, "reason": l.mark("reason"), "idempotency_key": l.mark("idempotency key")}
	}
	body := imported("imported key")
	id := l.want(200, l.vault("PUT", path, body)).data()["rotation_id"].(string)
	waitRotation(l.t, l.s, tenant, id, "completed")
	delete(body, "idempotency_key")
	l.want(409, l.vault("PUT", path, body))
	wrong := imported("imported key")
	wrong["hash_function"] = "SHA512"
	l.want(400, l.vault("PUT", path, wrong))
	l.want(400, l.vault("PUT", path, map[string]any{"ciphertext": l.mark("malformed base64")}))
	l.want(400, l.vault("PUT", path, map[string]any{"ciphertext": body["ciphertext"], "hash_function": l.mark("setting of another type")}))
}

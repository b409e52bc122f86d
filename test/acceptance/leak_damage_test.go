// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// damage spoils a page behind the engine's back, and then destroys the key of
// the version that it is on: all faults that a request can be told of.
func (l *leaks) damage() {
	tenant := l.tenant()
	path := tenantPath(tenant, "secrets", l.mark("name"))
	l.want(200, l.vault("PUT", path, l.item()))
	l.spoilPages(tenant)
	touch := func(status int) {
		l.want(status, l.vault("PUT", path, l.item()))
		l.want(status, l.vault("GET", path, nil))
		l.want(status, l.vault("LIST", tenantPath(tenant, "secrets"), nil))
		many := map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": l.mark("name in bulk"), "data": map[string]any{"v": l.mark("value")}}}}
		l.want(200, l.vault("PUT", tenantPath(tenant, "items"), many)) // each result says that it failed
	}
	touch(500)
	id := l.want(200, l.vault("PUT", tenantPath(tenant, "dek/rotate"), nil)).data()["rotation_id"].(string)
	waitRotation(l.t, l.s, tenant, id, "failed")
	failed := l.want(200, l.vault("GET", tenantPath(tenant, "dek/rotations", id), nil)).data()
	assert.Len(l.t, failed["failures"], 1)

	destroy := tenantPath(tenant, "dek/versions/1/destroy")
	l.want(409, l.vault("PUT", destroy, nil))
	l.want(200, l.vault("PUT", destroy, map[string]any{"force": true}))
	l.want(410, l.vault("GET", path, nil))
	touch(200) // what was lost is written anew
}

// spoilPages changes the last byte of each page of a tenant in storage.
func (l *leaks) spoilPages(tenant string) {
	mount := l.want(200, l.vault("GET", "sys/mounts/dek", nil)).data()
	base := fmt.Sprintf("sys/raw/logical/%v/", mount["uuid"])
	sum := sha256.Sum256([]byte(tenant))
	record, _ := l.want(200, l.vault("GET", fmt.Sprintf("%stenants/%x/%s", base, sum[:1], tenant), nil)).data()["value"].(string)
	var found struct{ Incarnation string }
	require.NoError(l.t, json.Unmarshal([]byte(record), &found))
	pages := base + "pages/" + found.Incarnation
	names := keys(l.t, l.vault("LIST", pages, nil))
	require.NotEmpty(l.t, names)
	for _, name := range names {
		text, _ := l.want(200, l.vault("GET", pages+"/"+name+"?encoding=base64", nil)).data()["value"].(string)
		page, err := base64.StdEncoding.DecodeString(text)
		require.NoError(l.t, err)
		page[len(page)-1] ^= 1
		l.want(204, l.vault("PUT", pages+"/"+name, map[string]any{"value": base64.StdEncoding.EncodeToString(page), "encoding": "base64"}))
	}
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keyInfo is what a list says of a key.
func keyInfo(t *testing.T, a answer, key string) map[string]any {
	t.Helper()
	all, _ := succeeded(t, a)["key_info"].(map[string]any)
	info, ok := all[key].(map[string]any)
	require.True(t, ok, "key_info has nothing of %s", key)
	return info
}

func tenantInfo() fields {
	return fields{
		"display_name": isText, "state": is("active"), "current_version": is(1.0), "last_rotated_at": isNull,
		"next_rotation_at": isTime, "overdue": is(false), "rotation_paused": is(false),
		"rotation_id": is(""), "rotation_status": is(""), "key_provider": is(""),
	}
}

func TestContractTenantsInDetail(t *testing.T) {
	s := shared(t)
	id := "00000000" + uuid.NewString()[8:] // among the first
	succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(id), map[string]any{"display_name": "Zoë"}))
	newTenant(t, s) // so that the list has more than one part
	a := callRoot(t, s, "LIST", "dek/tenants?detailed=true&limit=1000", nil)
	require.Contains(t, keys(t, a), id)
	want := tenantInfo()
	want["display_name"] = is("Zoë")
	want.check(t, keyInfo(t, a, id))
	part := callRoot(t, s, http.MethodGet, "dek/tenants?list=true&detailed=true&limit=1&after="+id, nil)
	assert.NotContains(t, keys(t, part), id)
	for _, query := range []string{"detailed=true", "detailed=true&limit=1001", "detailed=true&limit=0", "detailed=x&limit=1"} {
		a := callRoot(t, s, "LIST", "dek/tenants?"+query, nil)
		assert.Equal(t, http.StatusBadRequest, a.Status, query)
	}
}

func TestContractTombstones(t *testing.T) {
	s := shared(t)
	id := uuid.NewString()
	refused(t, callRoot(t, s, http.MethodGet, "dek/tombstones/"+id, nil), http.StatusNotFound, "shredded")
	for n := range 2 {
		succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(id), map[string]any{"display_name": fmt.Sprint("name ", n)}))
		put(t, s, tenantPath(id, "secrets/a"), map[string]any{"data": map[string]any{}})
		a := callRoot(t, s, http.MethodDelete, tenantPath(id)+"?deletion_window=0", nil)
		require.Less(t, a.Status, 300, a.errors())
	}
	require.Contains(t, keys(t, callRoot(t, s, "LIST", "dek/tombstones", nil)), id)
	stones, ok := succeeded(t, callRoot(t, s, http.MethodGet, "dek/tombstones/"+id, nil))["tombstones"].([]any)
	require.True(t, ok)
	require.Len(t, stones, 2)
	fields{
		"incarnation": isText, "display_name": is("name 1"), "created_at": isTime, "deleted_at": isTime, "shredded_at": isTime,
		"deleted_by": is(map[string]any{"id": "root", "name": "", "email": ""}), "items": is(counts(0, 0, 1)), "versions": is(1.0),
	}.check(t, stones[0].(map[string]any))
	refused(t, callRoot(t, s, http.MethodGet, "dek/tombstones/x", nil), http.StatusBadRequest, "tenant_id")
}

func TestContractReadItems(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	path := tenantPath(tenant, "items/read")
	put(t, s, tenantPath(tenant, "secrets/a/b"), map[string]any{
		"data": map[string]any{"v": 1.5, "<&>": []any{nil, true, "é"}}, "metadata": map[string]any{"m": "x"},
	})
	put(t, s, tenantPath(tenant, "apiKeys/a"), map[string]any{"data": map[string]any{}})
	a := callRoot(t, s, http.MethodPut, path, `{"items": [
		{"kind": "secrets", "name": "a/b"}, {"kind": "secrets", "name": "a"}, {"kind": "apiKeys", "name": "a"}, {"kind": "x", "name": "a"}, {"kind": "secrets", "name": "../a"}
	]}`)
	results, ok := succeeded(t, a)["results"].([]any)
	require.True(t, ok)
	require.Len(t, results, 5)
	for i, below := range map[int]string{0: "secrets/a/b", 2: "apiKeys/a"} {
		assert.Equal(t, succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, below), nil)), results[i])
	}
	for i, text := range map[int]string{1: "not found", 3: "kind", 4: "name"} {
		result, _ := results[i].(map[string]any)
		assert.Len(t, result, 1)
		assert.Contains(t, result["error"], text)
	}
	many := make([]map[string]string, 10_000)
	for i := range many {
		many[i] = map[string]string{"kind": "secrets", "name": fmt.Sprint("none/", i)}
	}
	assert.Len(t, succeeded(t, callRoot(t, s, http.MethodPut, path, map[string]any{"items": many}))["results"], 10_000)
	for _, body := range []string{`{}`, `{"items": []}`, `{"items": "a"}`, `{"items": ["a"]}`, `{"items": {"kind": "secrets"}}`} {
		refused(t, callRoot(t, s, http.MethodPut, path, body), http.StatusBadRequest, "items")
	}
	refused(t, callRoot(t, s, http.MethodPut, tenantPath(uuid.NewString(), "items/read"), `{"items": [{}]}`), http.StatusNotFound, "tenant")
}

func TestContractDatesOfKeys(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	version := func() map[string]any {
		versions, _ := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "dek"), nil))["versions"].([]any)
		require.NotEmpty(t, versions)
		return versions[0].(map[string]any)
	}
	for _, field := range []string{"page_key_destroyed_at", "external_key_destroyed_at", "last_external_use"} {
		value, there := version()[field]
		assert.True(t, there, field)
		assert.Nil(t, value, field)
	}
	before := time.Now().UTC().Format(time.DateOnly)
	succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "encrypt"), map[string]any{"plaintext": "aGVsbG8="}))
	assert.Contains(t, []any{before, time.Now().UTC().Format(time.DateOnly)}, version()["last_external_use"])
	history := callRoot(t, s, "LIST", tenantPath(tenant, "dek/rotations"), nil)
	assert.Equal(t, http.StatusNotFound, history.Status)
	id, _ := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), nil))["rotation_id"].(string)
	require.Eventually(t, func() bool {
		return succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "dek/rotations/"+id), nil))["status"] == "completed"
	}, rotationLimit, rotationTick)
	fields{"started_at": isTime, "status": is("completed"), "trigger": is("manual"), "initiated_by": is(map[string]any{"id": "root", "name": "root", "email": ""})}.
		check(t, keyInfo(t, callRoot(t, s, "LIST", tenantPath(tenant, "dek/rotations"), nil), id))
	destroyed := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/versions/1/destroy"), map[string]any{"force": true}))
	for _, field := range []string{"page_key_destroyed_at", "external_key_destroyed_at"} {
		assert.Empty(t, isTime(destroyed[field]), field)
	}
}

func TestContractFleet(t *testing.T) {
	s := shared(t)
	id, name := newTenant(t, s), "Fleet "+uuid.NewString()
	newTenant(t, s) // so that there are more
	succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(id), map[string]any{"display_name": name}))
	fleet := func(query string) (map[string]any, []any) {
		a := succeeded(t, callRoot(t, s, http.MethodGet, "dek/fleet?"+query, nil))
		fields{"tenants": isList, "key_ages": isList, "due_by_week": isList}.check(t, a)
		return a, a["tenants"].([]any)
	}
	want := tenantInfo()
	want["tenant_id"], want["display_name"] = is(id), is(name)
	for _, query := range []string{"search=" + id, "search=" + id[:23], "search=fleet%20" + name[len("Fleet "):]} {
		_, found := fleet(query)
		require.Len(t, found, 1, query)
		want.check(t, found[0].(map[string]any))
	}
	for _, sort := range []string{"", "overdue", "name", "age"} {
		seen := map[any]bool{}
		for after := ""; ; {
			_, part := fleet("sort=" + sort + "&limit=50&after=" + after)
			for _, one := range part {
				after, _ = one.(map[string]any)["tenant_id"].(string)
				assert.False(t, seen[after], "twice")
				seen[after] = true
			}
			if len(part) < 50 {
				break
			}
		}
		assert.True(t, seen[id], sort)
	}
	for _, query := range []string{"limit=1001", "limit=0", "sort=size", "state=active", "after=x", "limit=x"} {
		assert.Equal(t, http.StatusBadRequest, callRoot(t, s, http.MethodGet, "dek/fleet?"+query, nil).Status, query)
	}
}

// TestContractUnsupported reads lists, which is what one tries first.
func TestContractUnsupported(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for _, path := range []string{"dek/tenants", "dek/tombstones", "dek/rotations", tenantPath(tenant, "secrets"), tenantPath(tenant, "dek/rotations")} {
		refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusMethodNotAllowed, "vault list")
	}
	refused(t, callRoot(t, s, http.MethodPut, "dek/status", nil), http.StatusMethodNotAllowed, "only read")
	refused(t, callRoot(t, s, http.MethodDelete, "dek/config", nil), http.StatusMethodNotAllowed, "only read, write")
	out, err := vaultCLI(t, s, "read", "dek/tenants")
	require.Error(t, err)
	assert.Contains(t, out, "vault list")
}

// TestContractOnATerminal shows what does not fit on a line of the command's own table.
func TestContractOnATerminal(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for range 2 {
		waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
	}
	cli := func(args ...string) string {
		out, err := vaultCLI(t, s, args...)
		require.NoError(t, err, out)
		return out
	}
	table := cli("list", "-detailed", tenantPath(tenant, "dek/rotations"))
	assert.Regexp(t, `(?m)^Keys +initiated_by +started_at +status +trigger *$`, table)
	assert.Equal(t, 2, strings.Count(table, "completed"))
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(cli("read", "-format=json", "-field=versions", tenantPath(tenant, "dek"))), &list))
	assert.Len(t, list, 3)
	assert.Contains(t, cli("read", "-format=json", "dek/tenants", "list=true", "detailed=true", "limit=1"), "rotation_status")
}

// TestContractMetrics reads them as Prometheus does.
func TestContractMetrics(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	a := callRoot(t, s, http.MethodGet, "dek/metrics", nil)
	require.Equal(t, http.StatusOK, a.Status)
	assert.Regexp(t, `^text/plain; version=0\.0\.4`, a.Header.Get("Content-Type"))
	text := string(a.Raw)
	for _, line := range []string{
		`(?m)^# TYPE dek_tenants gauge$`, `(?m)^dek_tenants [1-9]`, `(?m)^dek_rotations_ended_total\{status="completed"\} \d`,
		`(?m)^dek_texts_sealed_total\{path="encrypt"\} \d`, `(?m)^dek_cache_lookups_total\{cache="pages",result="hit"\} \d`,
		`(?m)^dek_kek_age_seconds \d`, `(?m)^dek_oldest_key_age_seconds \d`, `(?m)^dek_evidence_entries [1-9]`,
	} {
		assert.Regexp(t, line, text)
	}
	assert.NotContains(t, text, tenant)
	assert.Equal(t, http.StatusOK, call(t, s, http.MethodGet, "dek/metrics", login(t, s, "", auditor), nil).Status)
	assert.Equal(t, http.StatusForbidden, call(t, s, http.MethodGet, "dek/metrics", login(t, s, "", superAdmin), nil).Status)
	assert.Equal(t, http.StatusForbidden, call(t, s, http.MethodGet, "dek/metrics", "", nil).Status)
}

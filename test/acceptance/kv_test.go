// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// kvMounts are a mount of Vault's KV version 2 and one of the engine that is tuned to look
// like one, with a tenant. Paths below the two are the same.
type kvMounts struct {
	s            *devstack.Stack
	theirs, ours string
	tenant       string
}

// withKV mounts both. KV keeps one version of a secret, as the engine does.
func withKV(t *testing.T, s *devstack.Stack) kvMounts {
	t.Helper()
	m := kvMounts{s: s, theirs: "kv-" + uuid.NewString()[:8], ours: withMount(t, s), tenant: uuid.NewString()}
	write(t, s, "sys/mounts/"+m.theirs, map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	t.Cleanup(func() { assert.NoError(t, s.Client().Sys().Unmount(m.theirs)) })
	require.Eventually(t, func() bool { // it says that it is being upgraded, first
		return callRoot(t, s, http.MethodPost, m.theirs+"/config", map[string]any{"max_versions": 1}).Status == http.StatusNoContent
	}, goneLimit, rotationTick)
	write(t, s, "sys/mounts/"+m.ours+"/tune", map[string]any{"options": map[string]any{"version": "2"}})
	require.Eventually(t, func() bool { // Vault takes the mount up anew
		return callRoot(t, s, http.MethodPost, m.ours+"/tenants/"+m.tenant, nil).Status < 300
	}, goneLimit, rotationTick)
	return m
}

// kvRequest is a request below a mount. @ in its path is the tenant and the kind.
type kvRequest struct {
	method, path string
	body         any
	wrap         bool // ask for a wrapped answer, and unwrap it
}

// ask sends a request to one of the mounts.
func (m kvMounts) ask(t *testing.T, mount string, r kvRequest) answer {
	t.Helper()
	header := http.Header{"X-Vault-Token": {m.s.RootToken()}}
	if r.method == http.MethodPatch {
		header.Set("Content-Type", "application/merge-patch+json")
	}
	if r.wrap {
		header.Set("X-Vault-Wrap-TTL", "60s")
	}
	path := "/" + strings.Replace(r.path, "@", m.tenant+"/secrets", 1)
	a := send(t, r.method, m.s.VaultAddr()+"/v1/"+mount+path, header, r.body)
	if mount == m.ours {
		heldAgainstTheDocument(t, m.s, r.method, "dek"+path, a) // which has the same paths
	}
	if !r.wrap {
		return a
	}
	wrapped, _ := a.Body["wrap_info"].(map[string]any)
	require.NotNil(t, wrapped, "%s", a.Raw)
	token, _ := wrapped["token"].(string)
	return call(t, m.s, http.MethodPost, "sys/wrapping/unwrap", token, nil)
}

// kvAnswer is what a client can see of an answer.
type kvAnswer struct {
	Status int
	Header []string
	Empty  bool
	Body   any
}

// seen leaves out of an answer what differs from one request to the next: times and IDs, and
// the state of storage that servers with reads at standbys tell. Whoever wrote a secret is out
// as well: KV says so, the engine does not keep it. So are OpenBao's versions of metadata,
// which docs/kv.md has.
func seen(a answer) kvAnswer {
	v := kvAnswer{Status: a.Status, Empty: len(a.Raw) == 0}
	for name, values := range a.Header {
		if name != "Date" && name != "Content-Length" && name != "X-Vault-Index" {
			v.Header = append(v.Header, name+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(v.Header)
	if a.Body != nil {
		v.Body = withoutTimes(a.Body)
	}
	return v
}

func withoutTimes(value any) any {
	switch v := value.(type) {
	case map[string]any:
		same := map[string]any{}
		for name, member := range v {
			switch name {
			case "request_id", "mount_type", "created_by", "deleted_by", "last_updated_by",
				"current_metadata_version", "metadata_cas_required":
			default:
				same[name] = withoutTimes(member)
			}
		}
		return same
	case []any:
		same := make([]any, len(v))
		for i, element := range v {
			same[i] = withoutTimes(element)
		}
		return same
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return "a time"
		}
	}
	return value
}

// TestKVOfOpenBaoIsCompared has what OpenBao's KV and the engine answer to a read of metadata.
func TestKVOfOpenBaoIsCompared(t *testing.T) {
	common := `"current_version": 1, "oldest_version": 1, "cas_required": false, "custom_metadata": null,
		"created_time": "2026-06-17T08:00:00.123456789Z", "updated_time": "2026-06-17T08:00:00Z"`
	theirs := seen(answer{Status: 200, Body: decoded(t, `{"request_id": "a", "data": {"current_metadata_version": 3, "metadata_cas_required": false, `+common+`}}`)})
	ours := seen(answer{
		Status: 200, Body: decoded(t, `{"request_id": "b", "data": {"last_updated_by": null, `+common+`}}`),
		Header: http.Header{"X-Vault-Index": {"c0ffee:7"}},
	})
	assert.Equal(t, theirs, ours)
	printed := printed("current_metadata_version    3\ncurrent_version             1\nmetadata_cas_required       false\n", "kv")
	assert.Equal(t, "current_version 1\n", printed)
}

// same sends requests to both mounts, one after the other, and requires the same answers.
func (m kvMounts) same(t *testing.T, requests ...kvRequest) {
	t.Helper()
	for _, r := range requests {
		body, err := json.Marshal(r.body)
		require.NoError(t, err)
		want, got := seen(m.ask(t, m.theirs, r)), seen(m.ask(t, m.ours, r))
		assert.Equal(t, want, got, "%s %s %s", r.method, r.path, body)
	}
}

func kvData(value any) map[string]any { return map[string]any{"data": value} }

func kvCAS(cas any) map[string]any {
	return map[string]any{"data": map[string]any{"v": "1"}, "options": map[string]any{"cas": cas}}
}

func kvTexts(value any) map[string]any { return map[string]any{"custom_metadata": value} }

const (
	mGet, mPost, mPut, mPatch, mDelete, mList = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "LIST"
)

// TestKVAnswersAsKVDoes compares the face of KV version 2 with the real one, request by
// request.
func TestKVAnswersAsKVDoes(t *testing.T) {
	m := withKV(t, shared(t))
	for name, requests := range map[string][]kvRequest{
		"data": {
			{method: mGet, path: "data/@/d/x"},
			{method: mPost, path: "data/@/d/x", body: kvData(map[string]any{"user": "u", "n": 1.5, "o": map[string]any{"l": []any{1, "x", nil, true}}})},
			{method: mGet, path: "data/@/d/x"},
			{method: mGet, path: "data/@/d/x", wrap: true},
			{method: mPut, path: "data/@/d/x", body: kvData(map[string]any{"user": "<&>"}), wrap: true},
			{method: mGet, path: "data/@/d/x"},
			{method: mGet, path: "data/@/d/x?version=0"},
			{method: mGet, path: "data/@/d/x?version=1"},
			{method: mGet, path: "data/@/d/x?version=2"},
			{method: mGet, path: "data/@/d/x?version=3"},
			{method: mGet, path: "data/@/d/x?version=-1"},
			{method: mGet, path: "data/@/d/x?version="},
			{method: mPost, path: "data/@/d/x", body: kvData(map[string]any{})},
			{method: mGet, path: "data/@/d/x"},
			{method: mPost, path: "data/@/d/x"},
			{method: mPost, path: "data/@/d/x", body: map[string]any{"user": "u"}},
			{method: mPost, path: "data/@/d/x", body: map[string]any{"data": map[string]any{"a": "b"}, "unknown": 1}},
		},
		"check-and-set": {
			{method: mPost, path: "data/@/c", body: kvCAS(1)},
			{method: mPost, path: "data/@/c", body: kvCAS(0)},
			{method: mPost, path: "data/@/c", body: kvCAS(0)},
			{method: mPost, path: "data/@/c", body: kvCAS(2)},
			{method: mPost, path: "data/@/c", body: kvCAS(-1)},
			{method: mPost, path: "data/@/c", body: kvCAS("x")},
			{method: mPost, path: "data/@/c", body: kvCAS(1.5)},
			{method: mPost, path: "data/@/c", body: kvCAS([]any{})},
			{method: mPost, path: "data/@/c", body: kvCAS(nil)},
			{method: mPost, path: "data/@/c", body: kvCAS("1")},
			{method: mPatch, path: "data/@/c", body: kvCAS(1)},
			{method: mPatch, path: "data/@/c", body: kvCAS(2)},
			{method: mPost, path: "data/@/c", body: map[string]any{"data": map[string]any{"v": "2"}, "options": map[string]any{}}},
			{method: mGet, path: "data/@/c"},
		},
		"patch": {
			{method: mPatch, path: "data/@/p", body: kvData(map[string]any{"a": "1"})},
			{method: mPost, path: "data/@/p", body: kvData(map[string]any{"a": "1", "b": "2", "o": map[string]any{"p": "q", "r": "s"}})},
			{method: mPatch, path: "data/@/p", body: kvData(map[string]any{"a": nil, "c": "3", "o": map[string]any{"p": nil, "t": []any{1}}})},
			{method: mGet, path: "data/@/p"},
			{method: mPatch, path: "data/@/p", body: map[string]any{}},
			{method: mPatch, path: "data/@/p", body: map[string]any{"options": map[string]any{"cas": 2}}},
			{method: mPatch, path: "data/@/p", body: kvData(map[string]any{})},
			{method: mGet, path: "data/@/p"},
		},
		"metadata": {
			{method: mGet, path: "metadata/@/m"},
			{method: mPatch, path: "metadata/@/m", body: kvTexts(map[string]any{"a": "1"})},
			{method: mPost, path: "metadata/@/m", body: map[string]any{}},
			{method: mGet, path: "metadata/@/m"},
			{method: mPost, path: "metadata/@/m", body: kvTexts(map[string]any{"a": "1", "n": 2, "f": 2.5, "yes": true, "no": false})},
			{method: mGet, path: "metadata/@/m"},
			{method: mGet, path: "data/@/m"},
			{method: mGet, path: "subkeys/@/m"},
			{method: mDelete, path: "data/@/m"},
			{method: mPatch, path: "data/@/m", body: kvData(map[string]any{"a": "1"})},
			{method: mPost, path: "delete/@/m", body: map[string]any{"versions": []int{1}}},
			{method: mGet, path: "metadata/@/m"},
			{method: mList, path: "metadata/@"},
			{method: mPost, path: "data/@/m", body: kvCAS(0)},
			{method: mGet, path: "metadata/@/m"},
			{method: mGet, path: "data/@/m"},
			{method: mPatch, path: "metadata/@/m", body: kvTexts(map[string]any{"a": nil, "b": "2", "none": nil})},
			{method: mGet, path: "metadata/@/m"},
			{method: mPost, path: "data/@/m", body: kvCAS(1)},
			{method: mPut, path: "metadata/@/m", body: kvTexts(map[string]any{"z": "z"})},
			{method: mGet, path: "data/@/m"},
			{method: mPatch, path: "metadata/@/m", body: map[string]any{}},
			{method: mPatch, path: "metadata/@/m", body: kvTexts(nil)},
			{method: mGet, path: "metadata/@/m"},
			{method: mPost, path: "metadata/@/m", body: kvTexts(map[string]any{})},
			{method: mPost, path: "metadata/@/m", body: map[string]any{"max_versions": 0, "cas_required": false, "delete_version_after": "0s"}},
			{method: mGet, path: "metadata/@/m"},
			{method: mGet, path: "metadata/@/m", wrap: true},
			{method: mDelete, path: "metadata/@/m"},
			{method: mDelete, path: "metadata/@/m"},
			{method: mGet, path: "metadata/@/m"},
			{method: mPost, path: "metadata/@/m", body: kvTexts(map[string]any{})},
			{method: mGet, path: "metadata/@/m"},
		},
		"lists": {
			{method: mList, path: "metadata/@/l"},
			{method: mPost, path: "data/@/l/b", body: kvData(map[string]any{})},
			{method: mPost, path: "data/@/l/a/x", body: kvData(map[string]any{})},
			{method: mPost, path: "data/@/l/a/y/z", body: kvData(map[string]any{})},
			{method: mPost, path: "data/@/l/a", body: kvData(map[string]any{})},
			{method: mPost, path: "data/@/l/a.b", body: kvData(map[string]any{})},
			{method: mPost, path: "metadata/@/l/only", body: kvTexts(map[string]any{"a": "1"})},
			{method: mList, path: "metadata/@/l"},
			{method: mList, path: "metadata/@/l/"},
			{method: mGet, path: "metadata/@/l?list=true"},
			{method: mList, path: "metadata/@/l/a"},
			{method: mList, path: "metadata/@/l/a/y/"},
			{method: mList, path: "metadata/@/l/b"},
			{method: mGet, path: "metadata/@/l?list=true&exclude_deleted=true"},
		},
		"subkeys": {
			{method: mGet, path: "subkeys/@/s"},
			{method: mPost, path: "data/@/s", body: kvData(map[string]any{"a": "1", "e": map[string]any{}, "l": []any{map[string]any{"k": "v"}}, "o": map[string]any{"p": map[string]any{"q": "r"}}})},
			{method: mGet, path: "subkeys/@/s"},
			{method: mGet, path: "subkeys/@/s?depth=0"},
			{method: mGet, path: "subkeys/@/s?depth=1"},
			{method: mGet, path: "subkeys/@/s?depth=2"},
			{method: mGet, path: "subkeys/@/s?depth=-1"},
			{method: mGet, path: "subkeys/@/s?version=1"},
			{method: mGet, path: "subkeys/@/s?version=&depth="},
			{method: mGet, path: "subkeys/@/s?version=2"},
		},
		"what is not there": {
			{method: mDelete, path: "data/@/n"},
			{method: mDelete, path: "metadata/@/n"},
			{method: mPost, path: "delete/@/n", body: map[string]any{"versions": []int{1}}},
			{method: mPost, path: "undelete/@/n", body: map[string]any{"versions": []int{1}}},
			{method: mPost, path: "destroy/@/n", body: map[string]any{"versions": []int{1}}},
			{method: mPost, path: "delete/@/n"},
			{method: mPost, path: "undelete/@/n", body: map[string]any{"versions": []int{}}},
			{method: mPut, path: "destroy/@/n", body: map[string]any{}},
		},
		"versions that are gone": {
			{method: mPost, path: "data/@/v", body: kvData(map[string]any{"a": "1"})},
			{method: mPost, path: "data/@/v", body: kvData(map[string]any{"a": "2"})},
			{method: mPost, path: "delete/@/v", body: map[string]any{"versions": []int{1}}},
			{method: mPost, path: "undelete/@/v", body: map[string]any{"versions": "1,2"}},
			{method: mPost, path: "destroy/@/v", body: map[string]any{"versions": []int{1, 3}}},
			{method: mPost, path: "destroy/@/v", body: map[string]any{"versions": []any{"1", 3}}},
			{method: mGet, path: "data/@/v"},
		},
	} {
		t.Run(name, func(t *testing.T) { m.same(t, requests...) })
	}
}

// TestKVDiffersWhereDocumented has the differences that docs/kv.md lists: what each of the
// two answers.
func TestKVDiffersWhereDocumented(t *testing.T) {
	m := withKV(t, shared(t))
	both := func(r kvRequest) (theirs, ours answer) {
		t.Helper()
		return m.ask(t, m.theirs, r), m.ask(t, m.ours, r)
	}
	one := kvRequest{method: mPost, path: "data/@/x", body: map[string]any{"data": map[string]any{"a": "1"}}}
	for _, remove := range []kvRequest{
		{method: mDelete, path: "data/@/x"},
		{method: mPost, path: "delete/@/x", body: map[string]any{"versions": []int{1}}},
		{method: mPost, path: "destroy/@/x", body: map[string]any{"versions": []int{1}}},
	} {
		m.same(t, kvRequest{method: mDelete, path: "metadata/@/x"}, one, remove)
		theirs, ours := both(kvRequest{method: mGet, path: "data/@/x"})
		assert.Equal(t, http.StatusNotFound, theirs.Status)
		assert.NotNil(t, theirs.data()["metadata"], "KV remembers what it has deleted")
		assert.Equal(t, http.StatusNotFound, ours.Status)
		assert.Equal(t, map[string]any{"errors": []any{}}, ours.Body)
		theirs, ours = both(kvRequest{method: mGet, path: "metadata/@/x"})
		assert.Equal(t, []int{http.StatusOK, http.StatusNotFound}, []int{theirs.Status, ours.Status})
		theirs, ours = both(one)
		assert.Equal(t, []any{2.0, 1.0}, []any{theirs.data()["version"], ours.data()["version"]}, "the item is a new one")
	}
	for _, c := range []struct {
		r            kvRequest
		theirs, ours int
		says         string
	}{
		{kvRequest{mPost, "data/@/n", map[string]any{"data": nil}, false}, 200, 400, "no data provided"},
		{kvRequest{mPost, "data/@/n", kvData(map[string]any{"n": json.Number("9007199254740993")}), false}, 200, 400, "2^53"},
		{kvRequest{mPost, "data/@/a%20b", kvData(map[string]any{}), false}, 200, 400, "name must be"},
		{kvRequest{mPost, "metadata/@/n", map[string]any{"cas_required": true}, false}, 204, 400, "cas_required"},
		{kvRequest{mPost, "metadata/@/n", map[string]any{"delete_version_after": "1h"}, false}, 204, 400, "delete_version_after"},
		{kvRequest{mPost, "metadata/@/n", kvTexts(map[string]any{"a": ""}), false}, 400, 204, ""},
		{kvRequest{mPost, "metadata/@/n", kvTexts(map[string]any{"a": "\a"}), false}, 400, 204, ""},
		{kvRequest{mPost, "data/@/list", kvData([]any{}), false}, 200, 400, "no data provided"},
		{kvRequest{mPost, "data/@/cas", kvCAS(0), false}, 200, 200, ""},
		{kvRequest{mPatch, "metadata/@/cas", kvTexts(map[string]any{"n": 1}), false}, 500, 204, ""},
		{kvRequest{mPost, "data/@/cas", kvCAS(true), false}, 200, 400, "error parsing check-and-set parameter"},
		{kvRequest{mGet, "data/@/cas?version=0x0", nil, false}, 200, 400, "version must be a whole number"},
		{kvRequest{mList, "metadata/@?limit=0", nil, false}, 200, 400, "limit must be at least 1"},
		{kvRequest{mPatch, "destroy/@/n", map[string]any{"versions": []int{1}}, false}, 405, 405, "this path has no operation patch, only write"},
		{kvRequest{mPost, "data/other/n", kvData(map[string]any{}), false}, 200, 404, "unsupported path"},
	} {
		theirs, ours := both(c.r)
		assert.Equal(t, []int{c.theirs, c.ours}, []int{theirs.Status, ours.Status}, c.r.path)
		assert.Contains(t, ours.errors(), c.says)
	}
	spelled := kvRequest{method: mPost, path: "metadata/@/number", body: kvTexts(map[string]any{"a": json.Number("1.0")})}
	m.same(t, spelled)
	theirs, ours := both(kvRequest{method: mGet, path: "metadata/@/number"})
	assert.Equal(t, []any{map[string]any{"a": "1.0"}, map[string]any{"a": "1"}}, []any{theirs.data()["custom_metadata"], ours.data()["custom_metadata"]})
	m.same(t, kvRequest{method: mPost, path: "data/@/array", body: kvData(map[string]any{})})
	m.same(t, kvRequest{method: mPatch, path: "data/@/array", body: kvData(map[string]any{"l": []any{1, nil, map[string]any{"k": nil}}})})
	theirs, ours = both(kvRequest{method: mGet, path: "data/@/array"})
	assert.Equal(t, []any{1.0, nil, map[string]any{}}, theirs.data()["data"].(map[string]any)["l"])
	assert.Equal(t, []any{1.0, nil, map[string]any{"k": nil}}, ours.data()["data"].(map[string]any)["l"])
	theirs, ours = both(kvRequest{method: mGet, path: "metadata/@/number"})
	assert.Equal(t, []any{"kv", "vault-plugin-dek"}, []any{theirs.Body["mount_type"], ours.Body["mount_type"]})
	theirs, ours = both(kvRequest{method: mPost, path: "metadata/@/w", body: map[string]any{"max_versions": 5, "custom_metadata": map[string]any{}}})
	assert.Equal(t, []int{http.StatusNoContent, http.StatusOK}, []int{theirs.Status, ours.Status})
	assert.Contains(t, ours.Body["warnings"], "max_versions is ignored: there is one version of an item")
}

// TestKVAndItemsAreOne writes through the face and reads at the item's own path.
func TestKVAndItemsAreOne(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	face := func(part string) string { return "dek/" + part + "/" + tenant + "/apiKeys/one" }
	own := tenantPath(tenant, "apiKeys/one")
	succeeded(t, callRoot(t, s, http.MethodPost, face("data"), kvData(map[string]any{"a": "1"})))
	assert.Equal(t, 2.0, put(t, s, own, map[string]any{"data": map[string]any{"a": "2"}, "cas": 1}))
	require.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodPost, face("metadata"), kvTexts(map[string]any{"owner": "billing"})).Status)
	item := succeeded(t, callRoot(t, s, http.MethodGet, own, nil))
	assert.Equal(t, []any{2.0, map[string]any{"owner": "billing"}}, []any{item["revision"], item["metadata"]})
	waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
	read := succeeded(t, callRoot(t, s, http.MethodGet, face("data"), nil))
	assert.Equal(t, map[string]any{"a": "2"}, read["data"])
	require.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodDelete, face("metadata"), nil).Status)
	refused(t, callRoot(t, s, http.MethodGet, own, nil), http.StatusNotFound, "item not found")
}

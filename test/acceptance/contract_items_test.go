// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

var itemKinds = []string{"credentials", "apiKeys", "secrets"}

func itemFields() fields {
	return fields{
		"data": is(map[string]any{}), "metadata": is(map[string]any{}), "revision": is(1.0),
		"key_version": is(1.0), "created_at": isTime, "updated_at": isTime,
	}
}

func TestContractItem(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for i, kind := range itemKinds {
		t.Run(kind, func(t *testing.T) {
			path := tenantPath(tenant, kind, "one")
			refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "item not found")
			answer := succeeded(t, callRoot(t, s, http.MethodPut, path, map[string]any{
				"data": map[string]any{"user": "u", "kind": kind}, "metadata": map[string]string{"owner": "billing"},
			}))
			assert.Equal(t, map[string]any{"revision": 1.0}, answer)
			item := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
			want := itemFields()
			want["data"] = is(map[string]any{"user": "u", "kind": kind})
			want["metadata"] = is(map[string]any{"owner": "billing"})
			want.check(t, item)
			assert.Equal(t, item["created_at"], item["updated_at"])

			assert.Equal(t, 2.0, put(t, s, path, map[string]any{"data": map[string]any{"b": true}}))
			replaced := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
			want["data"], want["metadata"] = is(map[string]any{"b": true}), is(map[string]any{})
			want["revision"], want["created_at"] = is(2.0), is(item["created_at"])
			want.check(t, replaced)
			assert.True(t, parsedTime(t, replaced["updated_at"]).After(parsedTime(t, item["updated_at"])))

			amounts := []float64{0, 0, 0}
			for k := range i + 1 {
				amounts[k] = 1
			}
			got := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))["item_counts"]
			assert.Equal(t, counts(amounts[0], amounts[1], amounts[2]), got)
		})
	}
	t.Run("kinds do not share names", func(t *testing.T) {
		path := tenantPath(tenant, "secrets/one")
		a := callRoot(t, s, http.MethodDelete, path, nil)
		assert.Equal(t, http.StatusNoContent, a.Status, a.errors())
		refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "item not found")
		refused(t, callRoot(t, s, http.MethodDelete, path, nil), http.StatusNotFound, "item not found")
		succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "credentials/one"), nil))
		assert.Equal(t, 1.0, put(t, s, path, map[string]any{"data": map[string]any{}}), "created anew")
	})
	t.Run("tenants do not share items", func(t *testing.T) {
		refused(t, callRoot(t, s, http.MethodGet, tenantPath(newTenant(t, s), "credentials/one"), nil),
			http.StatusNotFound, "item not found")
	})
	t.Run("a write uses the newest key", func(t *testing.T) {
		waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
		item := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "credentials/one"), nil))
		assert.Equal(t, 2.0, item["key_version"])
		assert.Equal(t, 2.0, item["revision"], "a rotation is no change")
	})
}

func TestContractItemCAS(t *testing.T) {
	s := shared(t)
	path := tenantPath(newTenant(t, s), "secrets/cas")
	write := func(cas any, v int) answer {
		return callRoot(t, s, http.MethodPut, path, map[string]any{"data": map[string]any{"v": v}, "cas": cas})
	}
	remove := func(query string) answer { return callRoot(t, s, http.MethodDelete, path+query, nil) }
	holds := func(revision, v float64) {
		t.Helper()
		item := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
		assert.Equal(t, []any{revision, map[string]any{"v": v}}, []any{item["revision"], item["data"]})
	}
	refused(t, write(1, 0), http.StatusConflict, "cas")
	refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "item not found")
	assert.Equal(t, 1.0, succeeded(t, write(0, 1))["revision"])
	refused(t, write(0, 2), http.StatusConflict, "cas")
	refused(t, write(2, 2), http.StatusConflict, "cas")
	holds(1, 1)
	assert.Equal(t, 2.0, succeeded(t, write(1, 2))["revision"])
	assert.Equal(t, 3.0, succeeded(t, write("2", 3))["revision"], "the command line sends text")
	for _, bad := range []any{-1, 1.5, "x", "", []int{3}, true} {
		refused(t, write(bad, 9), http.StatusBadRequest, "cas")
	}
	patch := func(cas int) answer {
		return callRoot(t, s, http.MethodPatch, path, map[string]any{"data": map[string]any{"v": 4}, "cas": cas})
	}
	refused(t, patch(2), http.StatusConflict, "cas")
	refused(t, patch(0), http.StatusConflict, "cas")
	holds(3, 3)
	assert.Equal(t, 4.0, succeeded(t, patch(3))["revision"])
	refused(t, remove("?cas=3"), http.StatusConflict, "cas")
	refused(t, remove("?cas=0"), http.StatusConflict, "cas")
	refused(t, remove("?cas=x"), http.StatusBadRequest, "cas")
	holds(4, 4)
	assert.Equal(t, http.StatusNoContent, remove("?cas=4").Status)
	refused(t, remove("?cas=4"), http.StatusNotFound, "item not found")
	refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "item not found")
}

func TestContractItemPatch(t *testing.T) {
	s := shared(t)
	path := tenantPath(newTenant(t, s), "apiKeys/patched")
	patch := func(body any) answer { return callRoot(t, s, http.MethodPatch, path, body) }
	refused(t, patch(map[string]any{"data": map[string]any{"a": 1}}), http.StatusNotFound, "item not found")
	refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "item not found")

	put(t, s, path, map[string]any{
		"data":     map[string]any{"a": 1, "deep": map[string]any{"b": "c", "d": []any{1, 2}}, "gone": "x"},
		"metadata": map[string]string{"keep": "1", "drop": "2"},
	})
	assert.Equal(t, map[string]any{"revision": 2.0}, succeeded(t, patch(
		`{"data": {"gone": null, "deep": {"d": [3], "new": {"x": null, "y": 1}}}, "metadata": {"drop": null, "add": "é"}}`)))
	item := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
	assert.Equal(t, decoded(t, `{"a": 1, "deep": {"b": "c", "d": [3], "new": {"y": 1}}}`), item["data"])
	assert.Equal(t, decoded(t, `{"keep": "1", "add": "é"}`), item["metadata"])

	for _, body := range []string{
		`{}`, `{"data": null}`, `{"data": []}`, `{"data": "x"}`, `{"metadata": {"a": 1}}`, `{"metadata": {"a": {}}}`,
		`{"metadata": "x"}`, `{"data": {"a": 9007199254740993}}`, `{"data": {"a": 2}, "metadata": {"b": []}}`,
	} {
		refused(t, patch(body), http.StatusBadRequest)
	}
	assert.Equal(t, item, succeeded(t, callRoot(t, s, http.MethodGet, path, nil)))
	succeeded(t, patch(`{"metadata": {"only": "this"}}`))
	assert.Equal(t, item["data"], succeeded(t, callRoot(t, s, http.MethodGet, path, nil))["data"])
}

func TestContractItemRefused(t *testing.T) {
	s := shared(t)
	path := tenantPath(newTenant(t, s), "secrets/refused")
	put(t, s, path, map[string]any{"data": map[string]any{"v": "kept"}, "metadata": map[string]string{"m": "kept"}})
	before := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
	for body, field := range map[string]string{
		`{}`:                                          "data",
		`{"metadata": {"a": "b"}}`:                    "data",
		`{"data": null}`:                              "data",
		`{"data": "text"}`:                            "data",
		`{"data": [1]}`:                               "data",
		`{"data": 1}`:                                 "data",
		`{"data": {}, "metadata": {"a": 1}}`:          "metadata",
		`{"data": {}, "metadata": {"a": null}}`:       "metadata",
		`{"data": {}, "metadata": ["a"]}`:             "metadata",
		`{"data": {}, "metadata": "a"}`:               "metadata",
		`{"data": {"n": 9007199254740992}}`:           "2^53",
		`{"data": {"n": 9007199254740993}}`:           "2^53",
		`{"data": {"n": -9007199254740992}}`:          "2^53",
		`{"data": {"n": [{"deep": [1e300]}]}}`:        "2^53",
		`{"data": {"n": 123456789012345678901234.5}}`: "2^53",
	} {
		t.Run(body, func(t *testing.T) {
			refused(t, callRoot(t, s, http.MethodPut, path, body), http.StatusBadRequest, field)
		})
	}
	assert.Equal(t, before, succeeded(t, callRoot(t, s, http.MethodGet, path, nil)))
}

// TestContractItemRoundTrip: what was written is what is read, to the byte.
func TestContractItemRoundTrip(t *testing.T) {
	s := shared(t)
	path := tenantPath(newTenant(t, s), "secrets/round-trip")
	for name, document := range map[string]string{
		"empty":          `{}`,
		"unicode":        `{"ключ 🔑": "パスワード", "é": "é", "\u0000": "\u0001\u007f\u2028", "": "empty key"}`,
		"json types":     `{"null": null, "true": true, "list": [null, [], {}, ""], "deep": {"a": {"b": {"c": []}}}}`,
		"numbers":        `{"most": 9007199254740991, "least": -9007199254740991, "half": 0.5, "tiny": 1e-300, "zero": 0, "minus": -1}`,
		"html":           `{"v": "<script>&amp;</script>"}`,
		"names of ours":  `{"data": {"data": 1}, "metadata": {}, "cas": 7, "revision": 3, "error": "x", "kind": "secrets"}`,
		"a large number": `{"v": "9007199254740993"}`,
	} {
		t.Run(name, func(t *testing.T) {
			put(t, s, path, map[string]any{"data": decoded(t, document), "metadata": map[string]string{"ключ": "🔑"}})
			item := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
			assert.Equal(t, decoded(t, document), item["data"])
			assert.Equal(t, map[string]any{"ключ": "🔑"}, item["metadata"])
		})
	}
	waitRotation(t, s, strings.Split(path, "/")[2], rotate(t, s, strings.Split(path, "/")[2]), "completed")
	succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// stalledExternal are requests that seal or open, stopped before each of their
// storage operations in turn.
var stalledExternal = []struct {
	name string
	path string
	data func(*enginetest.Oracle) map[string]any
}{
	{"an encrypt", "/encrypt", func(*enginetest.Oracle) map[string]any {
		return map[string]any{"plaintext": enginetest.Encoded("stalled")}
	}},
	{"a rewrap", "/rewrap", func(w *enginetest.Oracle) map[string]any {
		return map[string]any{"ciphertext": w.Encrypted(enginetest.TenantID, "stalled")}
	}},
	{"a destroy", "/dek/versions/1/destroy", func(w *enginetest.Oracle) map[string]any {
		w.Encrypt("before")
		rotateToTheEnd(w)
		return map[string]any{"force": true}
	}},
}

// meanwhileExternal is what happens while one is stopped.
var meanwhileExternal = []struct {
	name string
	act  func(*enginetest.Oracle)
}{
	{"another encrypt", func(w *enginetest.Oracle) { w.Encrypt("one"); w.Encrypt("two") }},
	{"a rotation", func(w *enginetest.Oracle) { rotateToTheEnd(w); w.Encrypt("one") }},
	{"two rotations", func(w *enginetest.Oracle) { rotateToTheEnd(w); w.Encrypt("one"); rotateToTheEnd(w) }},
	{"a cancelled rotation", func(w *enginetest.Oracle) {
		w.Rotate()
		w.Encrypt("one")
		w.Act("cancel", "rolled_back", "completed")
		w.Encrypt("two")
		w.UntilOver()
	}},
	{"a rotation and a destroy", func(w *enginetest.Oracle) {
		w.Encrypt("one")
		rotateToTheEnd(w)
		w.Destroy(1, true)
	}},
}

// Whatever happens beside it: a ciphertext that is answered opens, and the keys
// in storage are those that the record names.
func TestStalledExternal(t *testing.T) {
	total := 0
	for _, a := range stalledExternal {
		for _, b := range meanwhileExternal {
			t.Run(a.name+" beside "+b.name, func(t *testing.T) {
				for k := 1; ; k += stride() {
					w := enginetest.SmallTenant(t)
					data := a.data(w)
					got, stopped := stopAt(w, k, enginetest.Update, enginetest.TenantPath(a.path), data, b.act)
					noteExternal(w, data, got.Resp, got.Err)
					settle(w)
					w.Close()
					if !stopped {
						break
					}
					total++
				}
			})
		}
	}
	t.Logf("%d interleavings", total)
}

// noteExternal notes what a stalled request has answered.
func noteExternal(w *enginetest.Oracle, data map[string]any, resp *logical.Response, err error) {
	w.T.Helper()
	c := enginetest.Code(resp, err)
	if data["force"] != nil {
		require.Contains(w.T, []int{200, 409}, c, "%v", err)
		if c == 200 {
			w.External.Mark(1, true)
			w.External.Gone[1] = true
		}
		return
	}
	if data["ciphertext"] != nil && w.External.Gone[1] && c == 400 {
		return // what was to be rewrapped does not open any more
	}
	require.Equal(w.T, 200, c, "%v", err)
	w.External.Sealed = append(w.External.Sealed, enginetest.Sealed{
		Ciphertext: resp.Data["ciphertext"].(string), Plaintext: enginetest.Encoded("stalled"), Version: resp.Data["key_version"].(int),
	})
}

// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// stalledOutside are requests that seal or open, stopped before each of their
// storage operations in turn.
var stalledOutside = []struct {
	name string
	path string
	data func(*witness) map[string]any
}{
	{"an encrypt", "/encrypt", func(*witness) map[string]any { return map[string]any{"plaintext": encoded("stalled")} }},
	{"a rewrap", "/rewrap", func(w *witness) map[string]any {
		return map[string]any{"ciphertext": w.encrypted(testTenant, "stalled")}
	}},
	{"a destroy", "/dek/versions/1/destroy", func(w *witness) map[string]any {
		w.encrypt("before")
		w.rotateToTheEnd()
		return map[string]any{"force": true}
	}},
}

// meanwhileOutside is what happens while one is stopped.
var meanwhileOutside = []struct {
	name string
	act  func(*witness)
}{
	{"another encrypt", func(w *witness) { w.encrypt("one"); w.encrypt("two") }},
	{"a rotation", func(w *witness) { w.rotateToTheEnd(); w.encrypt("one") }},
	{"two rotations", func(w *witness) { w.rotateToTheEnd(); w.encrypt("one"); w.rotateToTheEnd() }},
	{"a cancelled rotation", func(w *witness) {
		w.rotate()
		w.encrypt("one")
		w.act("cancel", "rolled_back", "completed")
		w.encrypt("two")
		w.untilOver()
	}},
	{"a rotation and a destroy", func(w *witness) {
		w.encrypt("one")
		w.rotateToTheEnd()
		w.destroy(1, true)
	}},
}

// Whatever happens beside it: a ciphertext that is answered opens, and the keys
// in storage are those that the record names.
func TestStalledOutside(t *testing.T) {
	total := 0
	for _, a := range stalledOutside {
		for _, b := range meanwhileOutside {
			t.Run(a.name+" beside "+b.name, func(t *testing.T) {
				for k := 1; ; k++ {
					w := smallTenant(t)
					data := a.data(w)
					got, stopped := w.stopAt(k, update, tenantPath(a.path), data, b.act)
					w.noteOutside(data, got.resp, got.err)
					w.settle()
					w.close()
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

// noteOutside notes what a stalled request has answered.
func (w *witness) noteOutside(data map[string]any, resp *logical.Response, err error) {
	w.t.Helper()
	c := code(resp, err)
	if data["force"] != nil {
		require.Contains(w.t, []int{200, 409}, c, "%v", err)
		if c == 200 {
			w.outside.mark(1, true)
			w.outside.gone[1] = true
		}
		return
	}
	if data["ciphertext"] != nil && w.outside.gone[1] && c == 400 {
		return // what was to be rewrapped does not open any more
	}
	require.Equal(w.t, 200, c, "%v", err)
	w.outside.sealed = append(w.outside.sealed,
		sealed{resp.Data["ciphertext"].(string), encoded("stalled"), "", resp.Data["key_version"].(int)})
}

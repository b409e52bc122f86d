// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// outside is what a witness keeps of what has left the engine.
type outside struct {
	sealed []sealed
	// forced are the versions whose destruction by force was asked for, touched
	// those whose destruction was asked for in any way, gone those destroyed.
	forced, touched, gone map[int]bool
}

// sealed is an acknowledged ciphertext, with what it is to open to.
type sealed struct {
	ciphertext, plaintext, ad string
	version                   int
}

func (o outside) clone() outside {
	return outside{slices.Clone(o.sealed), maps.Clone(o.forced), maps.Clone(o.touched), maps.Clone(o.gone)}
}

// mark notes that the destruction of a version is asked for.
func (o *outside) mark(version int, force bool) {
	if o.touched == nil {
		o.forced, o.touched, o.gone = map[int]bool{}, map[int]bool{}, map[int]bool{}
	}
	o.touched[version] = true
	o.forced[version] = o.forced[version] || force
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// encrypt seals a text with itself as associated data.
func (w *witness) encrypt(text string) {
	w.seal("/encrypt", map[string]any{"plaintext": encoded(text), "associated_data": encoded(text)}, encoded(text))
}

func (w *witness) datakey(form string) {
	w.seal("/datakey/"+form, map[string]any{"associated_data": ""}, "")
}

// rewrap brings the first ciphertext to the active version.
func (w *witness) rewrap() {
	if len(w.outside.sealed) > 0 {
		s := w.outside.sealed[0]
		w.seal("/rewrap", map[string]any{"ciphertext": s.ciphertext, "associated_data": s.ad}, s.plaintext)
	}
}

// seal notes the ciphertext that is answered. An empty plaintext stands for the
// answer's own, or, if it has none, for any.
func (w *witness) seal(path string, data map[string]any, plaintext string) {
	w.do(update, tenantPath(path), data, func(w *witness, resp *logical.Response) {
		if p, ok := resp.Data["plaintext"].(string); ok {
			plaintext = p
		}
		w.outside.sealed = append(w.outside.sealed, sealed{
			resp.Data["ciphertext"].(string), plaintext, data["associated_data"].(string), resp.Data["key_version"].(int),
		})
	})
}

// destroy destroys a version, or is refused.
func (w *witness) destroy(version int, force bool) {
	w.outside.mark(version, force)
	w.do(update, tenantPath(fmt.Sprintf("/dek/versions/%d/destroy", version)), map[string]any{"force": force},
		func(w *witness, _ *logical.Response) { w.outside.gone[version] = true })
}

// opens checks that every ciphertext that was acknowledged opens to its
// plaintext, unless its version was destroyed.
func (w *witness) opens() {
	w.t.Helper()
	for i, s := range w.outside.sealed {
		resp, err := w.call(update, tenantPath("/decrypt"), map[string]any{"ciphertext": s.ciphertext, "associated_data": s.ad})
		c := code(resp, err)
		if w.outside.gone[s.version] {
			require.Equal(w.t, 400, c, "ciphertext %d of version %d, which was destroyed", i, s.version)
			continue
		}
		if w.outside.forced[s.version] && c != 200 {
			continue // its key may be gone, or show behind a stale cache, wrapped by a KEK that is
		}
		require.Equal(w.t, 200, c, "ciphertext %d of version %d: %v", i, s.version, err)
		if s.plaintext != "" {
			require.Equal(w.t, s.plaintext, resp.Data["plaintext"], "ciphertext %d of version %d", i, s.version)
		}
	}
}

// keysOf is what has to be in storage of a version that is not destroyed.
func (w *witness) keysOf(rec *tenant.Record, v keyring.Version) (keys []string) {
	w.t.Helper()
	page := "keys/" + rec.Incarnation + "/" + v.KeyID
	external := page + ".ext"
	torn := w.outside.touched[v.Number] // some of its keys may be gone before the record says so
	if !v.PageKeyDestroyed && (!torn || w.disk.Value(page) != nil) {
		keys = append(keys, page)
	}
	if w.disk.Value(external) != nil {
		return append(keys, external)
	}
	require.True(w.t, torn || !v.PageKeyDestroyed, "version %d has no key left, and is not destroyed", v.Number)
	return keys
}

// sealsAndOpens checks, after a rotation has ended, what is left of the versions
// before, and that the tenant can go on to encrypt.
func (w *witness) sealsAndOpens() {
	w.t.Helper()
	if w.outside.sealed == nil && w.outside.touched == nil {
		return // it would make keys that the scenario is not about
	}
	w.outside.touched = nil
	w.encrypt("after")
	w.opens()
	w.versions(w.record())
}

// externalScenarios are those of what leaves the engine.
var externalScenarios = []scenario{
	{
		name:   "encrypt for the first time",
		before: (*witness).create,
		act: func(w *witness) {
			w.encrypt("one")
			w.encrypt("two")
			w.rewrap()
		},
	},
	{
		name: "encrypt for the first time while rotating",
		before: func(w *witness) {
			w.create()
			w.bulk(20, 3000)
		},
		act: func(w *witness) {
			w.midSweep(func() {
				w.encrypt("one")
				w.put("bulk/1", "beside it")
				w.encrypt("two")
			})
			advance(time.Second)
			w.encrypt("three")
		},
	},
	{
		name: "encrypt, rotate, and encrypt again",
		before: func(w *witness) {
			w.create()
			w.bulk(10, 3000)
		},
		act: func(w *witness) {
			w.encrypt("old")
			w.rotate()
			advance(time.Second)
			w.encrypt("new")
			w.rewrap()
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "cancel after the new version has sealed",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
		},
		act: func(w *witness) {
			w.encrypt("under the old version")
			w.midSweep(func() {
				w.encrypt("under the new version")
				w.act("cancel", "rolled_back")
				w.encrypt("under the old version again")
			})
			advance(time.Second)
			w.rotate()
			advance(time.Second)
			w.encrypt("under the third version")
		},
	},
	{
		name: "destroy a version by force",
		before: func(w *witness) {
			w.create()
			w.bulk(10, 3000)
			w.encrypt("old")
			w.rotate()
			advance(time.Second)
			w.encrypt("new")
		},
		act: func(w *witness) {
			w.destroy(1, false)
			w.destroy(1, true)
			w.destroy(2, true)
			w.rewrap()
			w.destroy(1, true)
		},
	},
	{
		name: "destroy a retired key before its time",
		before: func(w *witness) {
			w.create()
			w.bulk(10, 3000)
			w.must(update, "config", map[string]any{"retired_key_retention": "24h"})
			w.rotate()
			advance(time.Second)
			w.encrypt("new")
			w.must(update, "config", map[string]any{"retired_key_retention": "0"})
		},
		act: func(w *witness) {
			w.destroy(1, false)
			w.put("bulk/1", "afterwards")
		},
	},
	{
		name:   "data keys",
		before: (*witness).create,
		act: func(w *witness) {
			w.datakey("wrapped")
			w.datakey("plaintext")
			w.rotate()
			advance(time.Second)
			w.datakey("plaintext")
		},
	},
}

func TestEveryCrashPointOutside(t *testing.T) { atEveryPoint(t, externalScenarios) }

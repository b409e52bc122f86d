// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// External is what an oracle keeps of what has left the engine.
type External struct {
	Sealed []Sealed
	// forced are the versions whose destruction by force was asked for, touched
	// those whose destruction was asked for in any way, gone those destroyed.
	Forced, Touched, Gone map[int]bool
}

// Sealed is an acknowledged ciphertext, with what it is to open to.
type Sealed struct {
	Ciphertext, Plaintext, AD string
	Version                   int
}

func (o External) clone() External {
	return External{slices.Clone(o.Sealed), maps.Clone(o.Forced), maps.Clone(o.Touched), maps.Clone(o.Gone)}
}

// Mark notes that the destruction of a version is asked for.
func (o *External) Mark(version int, force bool) {
	if o.Touched == nil {
		o.Forced, o.Touched, o.Gone = map[int]bool{}, map[int]bool{}, map[int]bool{}
	}
	o.Touched[version] = true
	o.Forced[version] = o.Forced[version] || force
}

// Encoded returns a text in standard base64.
func Encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// Encrypt seals a text with itself as associated data.
func (w *Oracle) Encrypt(text string) {
	w.seal("/encrypt", map[string]any{"plaintext": Encoded(text), "associated_data": Encoded(text)}, Encoded(text))
}

// Datakey makes a data key; form is plaintext or wrapped.
func (w *Oracle) Datakey(form string) {
	w.seal("/datakey/"+form, map[string]any{"associated_data": ""}, "")
}

// Rewrap brings the first ciphertext to the active version.
func (w *Oracle) Rewrap() {
	if len(w.External.Sealed) > 0 {
		s := w.External.Sealed[0]
		w.seal("/rewrap", map[string]any{"ciphertext": s.Ciphertext, "associated_data": s.AD}, s.Plaintext)
	}
}

// seal notes the ciphertext that is answered. An empty plaintext stands for the
// answer's own, or, if it has none, for any.
func (w *Oracle) seal(path string, data map[string]any, plaintext string) {
	w.Do(Update, TenantPath(path), data, func(w *Oracle, resp *logical.Response) {
		if p, ok := resp.Data["plaintext"].(string); ok {
			plaintext = p
		}
		w.External.Sealed = append(w.External.Sealed, Sealed{
			resp.Data["ciphertext"].(string), plaintext, data["associated_data"].(string), resp.Data["key_version"].(int),
		})
	})
}

// Destroy destroys a version, or is refused.
func (w *Oracle) Destroy(version int, force bool) {
	w.External.Mark(version, force)
	w.Do(Update, TenantPath(fmt.Sprintf("/dek/versions/%d/destroy", version)), map[string]any{"force": force},
		func(w *Oracle, _ *logical.Response) { w.External.Gone[version] = true })
}

// Opens checks that every ciphertext that was acknowledged opens to its
// plaintext, unless its version was destroyed.
func (w *Oracle) Opens() {
	w.T.Helper()
	for i, s := range w.External.Sealed {
		resp, err := w.Call(Update, TenantPath("/decrypt"), map[string]any{"ciphertext": s.Ciphertext, "associated_data": s.AD})
		c := Code(resp, err)
		if w.External.Gone[s.Version] {
			require.Equal(w.T, 400, c, "ciphertext %d of version %d, which was destroyed", i, s.Version)
			continue
		}
		if w.External.Forced[s.Version] && c != 200 {
			continue // its key may be gone, or show behind a stale cache, wrapped by a KEK that is
		}
		require.Equal(w.T, 200, c, "ciphertext %d of version %d: %v", i, s.Version, err)
		if s.Plaintext != "" {
			require.Equal(w.T, s.Plaintext, resp.Data["plaintext"], "ciphertext %d of version %d", i, s.Version)
		}
	}
}

// keysOf is what has to be in storage of a version that is not destroyed.
func (w *Oracle) keysOf(rec *tenant.Record, v keyring.Version) (keys []string) {
	w.T.Helper()
	page := "keys/" + rec.Incarnation + "/" + v.KeyID
	external := page + ".ext"
	torn := w.External.Touched[v.Number] // some of its keys may be gone before the record says so
	if !v.PageKeyDestroyed && (!torn || w.Disk.Value(page) != nil) {
		keys = append(keys, page)
	}
	if w.Disk.Value(external) != nil {
		return append(keys, external)
	}
	require.True(w.T, torn || !v.PageKeyDestroyed, "version %d has no key left, and is not destroyed", v.Number)
	return keys
}

// sealsAndOpens checks, after a rotation has ended, what is left of the versions
// before, and that the tenant can go on to encrypt.
func (w *Oracle) sealsAndOpens() {
	w.T.Helper()
	if w.External.Sealed == nil && w.External.Touched == nil {
		return // it would make keys that the scenario is not about
	}
	w.External.Touched = nil
	w.Encrypt("after")
	w.Opens()
	w.versions(w.Record())
}

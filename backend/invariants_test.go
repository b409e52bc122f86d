// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// rest lets time pass and Vault's rollback manager do its rounds.
func (w *witness) rest() {
	for range 2 {
		advance(15 * time.Minute)
		for _, data := range []map[string]any{nil, {"immediate": true}} {
			// It reports entries that it keeps; atRest tells whether any stay.
			_, _ = w.call(logical.RollbackOperation, "", data)
		}
	}
	advance(time.Minute)
}

// readsBack checks that every item has an acknowledged value.
func (w *witness) readsBack() {
	w.t.Helper()
	w.wrapped()
	if w.created {
		w.restore() // not of one whose deletion at once was acknowledged
	}
	var present []string
	for item, allowed := range w.allowed {
		resp, err := w.call(logical.ReadOperation, itemPath(item), nil)
		value := absent
		if err == nil {
			value = resp.Data["data"].(map[string]any)["value"].(string)
			present = append(present, item)
		} else {
			require.Equal(w.t, 404, code(resp, err), "reading %s: %v", item, err)
		}
		// What is read does not narrow what is allowed: behind Vault's cache a
		// write whose error said that it failed may still come to light.
		if !slices.Contains(allowed, value) {
			require.Fail(w.t, "lost", "item %s reads %.30q of %d bytes", item, value, len(value))
		}
	}
	if !w.exists() {
		require.Empty(w.t, present)
		return
	}
	w.opens()
	slices.Sort(present)
	keys, _ := w.must(logical.ListOperation, tenantPath("/secrets/"), nil)["keys"].([]string)
	require.Equal(w.t, present, append([]string(nil), keys...), "the list of items")
	counts := w.must(logical.ReadOperation, tenantPath(""), nil)["item_counts"].(map[string]int)
	require.Equal(w.t, len(present), counts["secrets"], "item_counts")
}

func (w *witness) exists() bool {
	resp, err := w.call(logical.ReadOperation, tenantPath(""), nil)
	if w.created {
		require.NoError(w.t, err, "an acknowledged tenant is gone")
	}
	return err == nil && resp.Data["state"] == "active"
}

// atRest checks what has to hold once everything has come to an end.
func (w *witness) atRest() {
	w.t.Helper()
	w.kekAtRest()
	w.noOrphans()
	for _, stone := range w.disk.Keys("tombstones/") {
		_, inc, own := strings.Cut(stone, testTenant+".")
		if !own {
			continue
		}
		for _, prefix := range []string{"keys/", "pages/", "history/", "progress/", "seals/", "uses/"} {
			require.Empty(w.t, w.disk.Keys(prefix+inc), "of a tenant that was shredded")
		}
	}
	if !w.exists() {
		require.Empty(w.t, w.disk.Keys(framework.WALPrefix), "the write-ahead log")
		return
	}
	w.resumePaused()
	require.Empty(w.t, w.disk.Keys(framework.WALPrefix), "the write-ahead log")
	rec := w.record()
	require.Nil(w.t, rec.Rotation, "unfinished rotation")
	if key := w.imported[rec.Keys.Active().RotationID]; key != nil {
		w.onKey(key)
	}
	w.versions(rec)
	w.counted()
	failed := rec.Last != nil && rec.Last.Phase == tenant.Failed
	for _, key := range w.disk.Keys("pages/") {
		if failed {
			break // a page that did not open stays where it was
		}
		page := w.disk.Value(key)
		version := int(page[1])<<24 | int(page[2])<<16 | int(page[3])<<8 | int(page[4])
		require.Equal(w.t, rec.Keys.Active().Number, version, "%s is on another version", key)
	}
	for _, id := range w.rotations {
		st := w.status(id)
		require.Contains(w.t, w.ends[id], st["status"], "rotation %s", id)
		if st["status"] == "completed" {
			require.Equal(w.t, st["items_to_rotate"], st["items_rotated"], "accounts")
		}
	}
}

// noOrphans checks that every key in storage is of an incarnation that a record
// names.
func (w *witness) noOrphans() {
	w.t.Helper()
	known := map[string]bool{}
	for _, key := range w.disk.Keys("tenants/") {
		rec := new(tenant.Record)
		require.NoError(w.t, json.Unmarshal(w.disk.Value(key), rec))
		known[rec.Incarnation] = true
	}
	for _, key := range w.disk.Keys("keys/") {
		require.True(w.t, known[strings.Split(key, "/")[1]], "%s is of no tenant", key)
	}
}

// resumePaused resumes a rotation that a fault left paused, and rests.
func (w *witness) resumePaused() {
	if rec := w.record(); rec.Rotation != nil && rec.Rotation.Paused {
		w.act("resume", "completed", "rolled_back")
		w.rest()
	}
}

// versions checks the ring, and that the keys in storage are those it names.
func (w *witness) versions(rec *tenant.Record) {
	w.t.Helper()
	active, last := 0, 0
	keys := []string{"keys/" + rec.Incarnation + "/" + rec.PlacementKeyID}
	for _, v := range rec.Keys.Versions {
		require.Greater(w.t, v.Number, last, "version numbers")
		last = v.Number
		if v.State == keyring.Active {
			active++
		}
		if v.State != keyring.Destroyed {
			keys = append(keys, w.keysOf(rec, v)...)
		}
	}
	require.Equal(w.t, 1, active, "active versions")
	slices.Sort(keys)
	require.Equal(w.t, keys, w.disk.Keys("keys/"+rec.Incarnation+"/"), "keys in storage")
}

// record reads the tenant's record from disk.
func (w *witness) record() *tenant.Record {
	w.t.Helper()
	for _, key := range w.disk.Keys("tenants/") {
		if strings.HasSuffix(key, testTenant) {
			rec := new(tenant.Record)
			require.NoError(w.t, json.Unmarshal(w.disk.Value(key), rec))
			return rec
		}
	}
	require.Fail(w.t, "no tenant record")
	return nil
}

// works checks that the tenant can go on: be written, and be rotated.
func (w *witness) works() {
	w.t.Helper()
	w.must(logical.UpdateOperation, tenantPath(""), nil)
	w.must(logical.UpdateOperation, itemPath("after"), secret("after"))
	w.allowed["after"] = []string{"after"}
	id := w.must(logical.UpdateOperation, tenantPath("/dek/rotate"), nil)["rotation_id"].(string)
	advance(time.Minute)
	assert.Equal(w.t, "completed", w.status(id)["status"])
	w.readsBack()
	w.atRest()
	w.sealsAndOpens()
	w.kekRotates()
}

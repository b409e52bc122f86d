// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/json"
	"path"
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

// Rest lets time pass and Vault's rollback manager do its rounds.
func (w *Oracle) Rest() {
	for range 2 {
		Advance(15 * time.Minute)
		for _, data := range []map[string]any{nil, {"immediate": true}} {
			// It reports entries that it keeps; AtRest tells whether any stay.
			_, _ = w.Call(logical.RollbackOperation, "", data)
		}
	}
	Advance(time.Minute)
}

// ReadsBack checks that every item has an acknowledged value.
func (w *Oracle) ReadsBack() {
	w.T.Helper()
	w.Wrapped()
	if w.Created {
		w.Restore() // not of one whose deletion at once was acknowledged
	}
	var present []string
	for item, allowed := range w.Allowed {
		resp, err := w.Call(logical.ReadOperation, ItemPath(item), nil)
		value := Absent
		if err == nil {
			value = resp.Data["data"].(map[string]any)["value"].(string)
			present = append(present, item)
		} else {
			require.Equal(w.T, 404, Code(resp, err), "reading %s: %v", item, err)
		}
		// What is read does not narrow what is allowed: behind Vault's cache a
		// write whose error said that it failed may still come to light.
		if !slices.Contains(allowed, value) {
			require.Fail(w.T, "lost", "item %s reads %.30q of %d bytes", item, value, len(value))
		}
	}
	if !w.Exists() {
		require.Empty(w.T, present)
		return
	}
	w.Opens()
	slices.Sort(present)
	keys, _ := w.Must(logical.ListOperation, TenantPath("/secrets/"), nil)["keys"].([]string)
	require.Equal(w.T, present, append([]string(nil), keys...), "the list of items")
	counts := w.Must(logical.ReadOperation, TenantPath(""), nil)["item_counts"].(map[string]int)
	require.Equal(w.T, len(present), counts["secrets"], "item_counts")
}

// Exists reports whether the tenant is there and active; one whose creation was acknowledged has to be.
func (w *Oracle) Exists() bool {
	resp, err := w.Call(logical.ReadOperation, TenantPath(""), nil)
	if w.Created {
		require.NoError(w.T, err, "an acknowledged tenant is gone")
	}
	return err == nil && resp.Data["state"] == "active"
}

// AtRest checks what has to hold once everything has come to an end.
func (w *Oracle) AtRest() {
	w.T.Helper()
	w.KekAtRest()
	w.noOrphans()
	w.attested()
	for _, stone := range w.Disk.Keys("tombstones/") {
		_, inc, own := strings.Cut(stone, TenantID+".")
		if !own {
			continue
		}
		for _, prefix := range []string{"keys/", "pages/", "history/", "progress/", "seals/", "uses/"} {
			require.Empty(w.T, w.Disk.Keys(prefix+inc), "of a tenant that was shredded")
		}
	}
	if !w.Exists() {
		require.Empty(w.T, w.Disk.Keys(framework.WALPrefix), "the write-ahead log")
		return
	}
	w.resumePaused()
	require.Empty(w.T, w.Disk.Keys(framework.WALPrefix), "the write-ahead log")
	rec := w.Record()
	require.Nil(w.T, rec.Rotation, "unfinished rotation")
	if key := w.Imported[rec.Keys.Active().RotationID]; key != nil {
		w.OnKey(key)
	}
	w.versions(rec)
	w.Counted()
	failed := rec.Last != nil && rec.Last.Phase == tenant.Failed
	for _, key := range w.Disk.Keys("pages/" + rec.Incarnation + "/") {
		if failed {
			break // a page that did not open stays where it was
		}
		page := w.Disk.Value(key)
		version := int(page[1])<<24 | int(page[2])<<16 | int(page[3])<<8 | int(page[4])
		require.Equal(w.T, rec.Keys.Active().Number, version, "%s is on another version", key)
	}
	for _, id := range w.Rotations {
		st := w.Status(id)
		require.Contains(w.T, w.Ends[id], st["status"], "rotation %s", id)
		if st["status"] == "completed" {
			require.Equal(w.T, st["items_to_rotate"], st["items_rotated"], "accounts")
		}
	}
}

// noOrphans checks that every key in storage is of an incarnation that a record
// names.
func (w *Oracle) noOrphans() {
	w.T.Helper()
	known := map[string]bool{}
	for _, key := range w.Disk.Keys("tenants/") {
		rec := new(tenant.Record)
		require.NoError(w.T, json.Unmarshal(w.Disk.Value(key), rec))
		known[rec.Incarnation] = true
		require.False(w.T, rec.ID != TenantID && rec.Rotation != nil, "%s has an unfinished rotation", key)
	}
	for _, key := range w.Disk.Keys("keys/") {
		require.True(w.T, known[strings.Split(key, "/")[1]], "%s is of no tenant", key)
	}
	for _, key := range w.Disk.Keys("tenantkeks/") {
		require.True(w.T, known[strings.Split(path.Base(key), ".")[0]], "%s is of no tenant", key)
	}
}

// resumePaused resumes a rotation that a fault left paused, and rests.
func (w *Oracle) resumePaused() {
	if rec := w.Record(); rec.Rotation != nil && rec.Rotation.Paused {
		w.Act("resume", "completed", "rolled_back")
		w.Rest()
	}
}

// versions checks the ring, and that the keys in storage are those it names.
func (w *Oracle) versions(rec *tenant.Record) {
	w.T.Helper()
	active, last := 0, 0
	keys := []string{"keys/" + rec.Incarnation + "/" + rec.PlacementKeyID}
	for _, v := range rec.Keys.Versions {
		require.Greater(w.T, v.Number, last, "version numbers")
		last = v.Number
		if v.State == keyring.Active {
			active++
		}
		if v.State != keyring.Destroyed {
			keys = append(keys, w.keysOf(rec, v)...)
		}
	}
	require.Equal(w.T, 1, active, "active versions")
	slices.Sort(keys)
	require.Equal(w.T, keys, w.Disk.Keys("keys/"+rec.Incarnation+"/"), "keys in storage")
}

// Record reads the tenant's record from disk.
func (w *Oracle) Record() *tenant.Record {
	w.T.Helper()
	for _, key := range w.Disk.Keys("tenants/") {
		if strings.HasSuffix(key, TenantID) {
			rec := new(tenant.Record)
			require.NoError(w.T, json.Unmarshal(w.Disk.Value(key), rec))
			return rec
		}
	}
	require.Fail(w.T, "no tenant record")
	return nil
}

// Works checks that the tenant can go on: be written, and be rotated.
func (w *Oracle) Works() {
	w.T.Helper()
	w.Must(logical.UpdateOperation, TenantPath(""), nil)
	w.Must(logical.UpdateOperation, ItemPath("after"), Secret("after"))
	w.Allowed["after"] = []string{"after"}
	id := w.Must(logical.UpdateOperation, TenantPath("/dek/rotate"), nil)["rotation_id"].(string)
	Advance(time.Minute)
	assert.Equal(w.T, "completed", w.Status(id)["status"])
	w.ReadsBack()
	w.AtRest()
	w.sealsAndOpens()
	w.kekRotates()
}

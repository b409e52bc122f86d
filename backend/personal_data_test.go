// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// member calls a mount as a person whom Vault knows by an alias, a name and an email.
type member struct {
	*enginetest.Mount
}

func (p member) does(op logical.Operation, path string, data map[string]any) map[string]any {
	p.T.Helper()
	resp, err := p.Engine.HandleRequest(p.T.Context(), &logical.Request{
		ID: p.RequestID(), Operation: op, Path: path, Data: data, Storage: p.Storage, EntityID: "entity", DisplayName: "jwt-sub-1",
	})
	require.NoError(p.T, err, "%s %s", op, path)
	if resp == nil {
		return nil
	}
	require.NoError(p.T, resp.Error(), "%s %s", op, path)
	return resp.Data
}

var (
	known  = map[string]any{"id": "sub-1", "name": "Jo Doe", "email": "jo@example.com"}
	erased = map[string]any{"id": "sub-1", "name": "", "email": ""}
)

// openFor opens a mount whose callers Vault knows.
func openFor(t *testing.T, disk *storagetest.Disk) member {
	t.Helper()
	m := enginetest.Conditions{System: people{}}.Open(t, disk, 0, storagetest.None)
	m.Start()
	return member{m}
}

// named returns the entries that have the person's name or email.
func named(disk *storagetest.Disk) (keys []string) {
	for _, key := range disk.Keys("") {
		for _, text := range []string{"Jo Doe", "jo@example.com"} {
			if strings.Contains(key, text) || bytes.Contains(disk.Value(key), []byte(text)) {
				keys = append(keys, key)
			}
		}
	}
	return slices.Compact(keys)
}

// doesEverything has the person do all of which the engine says later who did it.
func (p member) doesEverything() {
	p.T.Helper()
	settle := func() { enginetest.Advance(2 * time.Minute); p.Tick(); enginetest.Advance(time.Minute) }
	p.does(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0, "manual_rotations_per_hour": 0})
	p.does(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	for n := range 3 {
		p.does(enginetest.Update, "tenants/"+enginetest.TenantN(n), map[string]any{"display_name": "tenant"})
		p.does(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/secrets/a", enginetest.Secret("v"))
	}
	first := "tenants/" + enginetest.TenantN(0)
	p.does(enginetest.Update, first+"/encrypt", map[string]any{"plaintext": "c2VjcmV0"})
	p.does(enginetest.Update, first+"/dek/rotate", map[string]any{"reason": "by hand"})
	settle()
	p.does(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantN(0), enginetest.TenantN(1)}, "reason": "some"})
	settle()
	p.does(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "everyone"})
	settle()
	p.does(enginetest.Update, "kek/rotate", map[string]any{"reason": "yearly"})
	settle()
	p.does(enginetest.Update, "providers/"+enginetest.ProviderName, enginetest.ProviderBody(nil))
	p.does(enginetest.Update, first+"/kek/rotate", map[string]any{"provider": enginetest.ProviderName})
	settle()
	p.does(enginetest.Update, first+"/holders/orders", map[string]any{"description": "a table"})
	p.does(enginetest.Update, first+"/holders/orders/report", map[string]any{"oldest_version": 1})
	p.does(enginetest.Update, first+"/dek/import", p.Imports(enginetest.OwnersKey(1)))
	settle()
	p.does(enginetest.Update, "wrapping_key/rotate", nil)
	p.does(enginetest.Update, "evidence/key/rotate", nil)
	p.does(enginetest.Delete, "tenants/"+enginetest.TenantN(1), map[string]any{"deletion_window": 0})
	p.does(enginetest.Delete, "tenants/"+enginetest.TenantN(2), nil)
	settle()
}

// says checks who is named wherever answers name the person.
func (p member) says(who map[string]any) {
	p.T.Helper()
	first := "tenants/" + enginetest.TenantN(0)
	rotations := p.RotationsOf(enginetest.TenantN(0))
	require.Greater(p.T, len(rotations), 3)
	for _, r := range rotations {
		require.Equal(p.T, who, r["initiated_by"], "%s %s", r["trigger"], r["reason"])
	}
	info := p.Must(enginetest.List, first+"/dek/rotations", nil)["key_info"].(map[string]any)
	for id := range info {
		require.Equal(p.T, who, info[id].(map[string]any)["initiated_by"])
	}
	require.Equal(p.T, who, p.Must(enginetest.Read, "kek", nil)["initiated_by"])
	require.Equal(p.T, who, p.Must(enginetest.Read, first+"/kek", nil)["initiated_by"])
	require.Equal(p.T, who, p.Must(enginetest.Read, first+"/holders/orders", nil)["reported_by"])
	require.Equal(p.T, erased, tombstones(p.Mount, enginetest.TenantN(1))[0]["deleted_by"], "of a tenant that is gone the ID alone")
}

// actorOf returns the random ID by which the log names the person.
func (p member) actorOf() string {
	p.T.Helper()
	for _, e := range p.MountEvents() {
		if strings.HasPrefix(e.Actor, "person-") {
			return e.Actor
		}
	}
	require.Fail(p.T, "nobody did anything")
	return ""
}

// The name and the email of a person lie in one entry, whatever the person did, and show
// wherever answers say who did it. Erasing that erases them everywhere: the ID stays, the
// log verifies, and the person is known again after acting again.
func TestPersonalDataIsErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		disk.Set("config", []byte(`{"min_deletion_window":0}`))
		p := openFor(t, disk)
		defer func() { p.Close() }()
		p.doesEverything()
		p.says(known)
		actor := p.actorOf()
		require.Equal(t, []string{"evidence/people/" + actor}, named(disk))
		require.Equal(t, known, p.Must(enginetest.Read, "evidence/people/"+actor, nil))

		p.Must(enginetest.Delete, "evidence/people/"+actor, nil)
		require.Empty(t, named(disk))
		p.says(erased)
		p.Refused(404, "nobody", enginetest.Read, "evidence/people/"+actor, nil)
		p.Refused(404, "nobody", enginetest.Delete, "evidence/people/"+actor, nil)
		p.Refused(404, "nobody", enginetest.Read, "evidence/people/sub-1", nil)

		// What goes on by itself on the person's behalf brings nothing back.
		p.Must(enginetest.Update, "tenants/"+enginetest.TenantN(2)+"/restore", nil)
		for range 3 {
			enginetest.Advance(25 * time.Hour)
			p.Tick()
			enginetest.Advance(time.Minute)
		}
		require.Empty(t, named(disk))
		p.Close()
		p = openFor(t, disk)
		enginetest.Advance(25 * time.Hour)
		p.Tick()
		enginetest.Advance(time.Minute)
		require.Empty(t, named(disk))
		p.says(erased)
		p.KeysMayStay = true // days passed between two ticks
		p.Verified()

		p.does(enginetest.Update, "tenants/"+enginetest.TenantN(0)+"/dek/rotate", nil)
		p.says(known)
		require.Len(t, named(disk), 1)
		require.NotEqual(t, "evidence/people/"+actor, named(disk)[0], "under another random ID")
		p.Must(enginetest.Delete, "evidence/people/sub-1", nil) // by the ID that initiated_by has
		require.Empty(t, named(disk))
		p.says(erased)
	})
}

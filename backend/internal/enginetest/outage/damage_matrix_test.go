// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"slices"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// The tenants of the matrix: TenantID has damaged entries, the others are whole.
const (
	wholeTenant = "11111111-1111-4111-8111-111111111111"
	goneTenant  = "22222222-2222-4222-8222-222222222222" // is deleted
)

// damageScenario is what happens beside damaged entries.
type damageScenario struct {
	name    string
	act     func(*enginetest.Oracle)
	deletes bool
}

// asks makes a request that may fail, but not with a secret in its error.
func asks(w *enginetest.Oracle, op logical.Operation, path string, data map[string]any) int {
	w.T.Helper()
	resp, err := w.Call(op, path, data)
	if err != nil {
		require.NotContains(w.T, err.Error(), "xxxx", "%s %s", op, path)
	}
	return enginetest.Code(resp, err)
}

var damageScenarios = []damageScenario{
	{name: "write", act: func(w *enginetest.Oracle) {
		for i := range 6 {
			w.Put("bulk/"+string(rune('0'+i)), "written beside damage")
		}
		w.Remove("bulk/7")
		w.Bulk(10, 3000)
	}},
	{name: "list", act: func(w *enginetest.Oracle) {
		asks(w, enginetest.List, enginetest.TenantPath("/secrets/"), nil)
		asks(w, enginetest.List, enginetest.TenantPath("/secrets/"), map[string]any{"partial": true})
		asks(w, enginetest.List, enginetest.TenantPath("/dek/rotations"), nil)
		asks(w, enginetest.List, "tenants", nil)
	}},
	{name: "rotate", act: (*enginetest.Oracle).Rotate},
	{name: "cancel", act: func(w *enginetest.Oracle) {
		w.Rotate()
		w.Act("cancel", "rolled_back")
	}},
	{name: "retry", act: func(w *enginetest.Oracle) {
		w.Rotate()
		w.Rests(5)
		w.Act("retry", "completed")
	}},
	{name: "rotate the KEK", act: func(w *enginetest.Oracle) { asks(w, enginetest.Update, "kek/rotate", nil) }},
	{name: "delete", deletes: true, act: func(w *enginetest.Oracle) {
		if asks(w, enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0}) == 204 {
			w.Created = false
		}
	}},
	{name: "delete and restore", act: func(w *enginetest.Oracle) {
		asks(w, enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "720h"})
		asks(w, enginetest.Update, enginetest.TenantPath("/restore"), nil)
	}},
	{name: "all are asked for", act: func(w *enginetest.Oracle) { asks(w, enginetest.Update, "rotations", map[string]any{"all": true}) }},
	{name: "move its keys", act: func(w *enginetest.Oracle) {
		for _, under := range []string{enginetest.ProviderName, ""} {
			asks(w, enginetest.Update, enginetest.TenantPath("/kek/rotate"), map[string]any{"provider": under})
			w.Rests(3)
		}
	}},
	{name: "import", act: func(w *enginetest.Oracle) { w.ImportKey(1) }},
	{name: "encrypt", act: func(w *enginetest.Oracle) {
		for range 4 {
			asks(w, enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "eHh4eA=="})
			asks(w, enginetest.Update, enginetest.TenantPath("/datakey/wrapped"), nil)
		}
	}},
	{name: "time passes", act: func(w *enginetest.Oracle) { w.Rests(5) }},
}

// damageMoments are when damage strikes. The last is one of tenants with a KEK of their own.
var damageMoments = []string{"from the start", "while a rotation is unfinished", "in the middle", "while its keys move"}

// sampled is the part of the cases that is tried under the race detector, which takes ten
// times as long: one in so many. make test tries all of them without it.
const sampled = 30

// TestDamageMatrix damages one entry of each family, at each moment of each scenario. It
// is TenantID's alone, or the mount's; whatever it is, every other tenant is served,
// what was begun ends, and it heals.
func TestDamageMatrix(t *testing.T) {
	enginetest.InOrder(t)
	cryptotest.SetGlobalRandom(t, enginetest.SeedOf(t))
	of := map[bool]prepared{false: prepareDamage(t, false), true: prepareDamage(t, true)}
	tried, cases := 0, 0
	for _, f := range enginetest.DamageFamilies {
		t.Run(f.Name, func(t *testing.T) {
			casesBefore := cases
			for _, s := range damageScenarios {
				for _, moment := range damageMoments {
					before := of[f.Own].at(moment)
					if before == nil {
						continue
					}
					if tried++; enginetest.UnderRace && tried%sampled != 0 {
						continue
					}
					ran := false
					ok := t.Run(s.name+", "+moment, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { ran = damageAt(t, before(), f, s, moment) })
					})
					if !ok {
						t.FailNow() // one is enough to look into
					}
					if ran {
						cases++
					}
				}
			}
			require.True(t, cases > casesBefore || enginetest.UnderRace, "there is no such entry")
		})
	}
	if !t.Failed() {
		t.Logf("%d families, %d scenarios, %d moments: %d cases, no violation", len(enginetest.DamageFamilies), len(damageScenarios), len(damageMoments), cases)
	}
}

// damageAt runs one case. It reports whether there was an entry to damage.
func damageAt(t *testing.T, before *enginetest.Oracle, f enginetest.DamageFamily, s damageScenario, moment string) (ran bool) {
	before.T = t
	rec := before.Record()
	if moment != damageMoments[2] && !f.Damage(before.Disk, rec) {
		return false
	}
	m := enginetest.OpenMount(t, before.Disk, 0, storagetest.None)
	defer m.Close()
	w := before.On(m)
	if moment == damageMoments[2] {
		synctest.Wait()
		ran = true
		m.Storage.StrikeAt(9, func(d *storagetest.Disk) { f.Damage(d, rec) })
	}
	s.act(w)
	w.Rests(8)
	everyoneElseIsServed(w, f)
	everythingEnds(w)
	heals(w, s, rec.Incarnation)
	return true
}

// everyoneElseIsServed writes to, rotates and deletes tenants that are whole.
func everyoneElseIsServed(w *enginetest.Oracle, f enginetest.DamageFamily) {
	w.T.Helper()
	whole := "tenants/" + wholeTenant
	w.Must(enginetest.Update, whole+"/secrets/b", enginetest.Secret("new"))
	w.Must(enginetest.Read, whole+"/secrets/a", nil)
	w.Must(enginetest.List, whole+"/secrets/", nil)
	w.Must(enginetest.Update, whole+"/decrypt", map[string]any{"ciphertext": w.Encrypted(wholeTenant, "x")})
	before := len(w.RotationsOf(wholeTenant))
	id := w.Must(enginetest.Update, whole+"/dek/rotate", nil)["rotation_id"].(string)
	enginetest.Advance(time.Second)
	require.Equal(w.T, "completed", w.Must(enginetest.Read, whole+"/dek/rotations/"+id, nil)["status"])
	w.Must(enginetest.Update, "rotations", map[string]any{"tenants": []any{wholeTenant}})
	w.Rests(2)
	require.Len(w.T, w.RotationsOf(wholeTenant), before+2, "one by hand, one asked for")
	window := any(0)
	if f.Mount {
		window = "720h" // its configuration cannot be read
	}
	w.Must(enginetest.Delete, "tenants/"+goneTenant, map[string]any{"deletion_window": window})
}

// everythingEnds looks for what goes on for ever, and for what status does not name.
func everythingEnds(w *enginetest.Oracle) {
	w.T.Helper()
	_, _ = w.Call(enginetest.Read, enginetest.TenantPath("/dek"), nil) // somebody finds the damage
	w.Rests(7)
	require.True(w.T, w.Engine.Schedule.Budget().Empty(), "places in the budget")
	resp, err := w.Call(enginetest.Read, "kek", nil)
	if err == nil {
		require.NotEqual(w.T, "in_progress", resp.Data["status"], "rotation of the KEK")
	} else {
		require.ErrorContains(w.T, err, "listing kek/keys/") // it says which older ones are left
	}
	_, err = w.Call(enginetest.List, "rotations", nil)
	require.NoError(w.T, err)

	status := w.Must(enginetest.Read, "status", nil)
	resp, err = w.Call(enginetest.Read, enginetest.TenantPath("/dek"), nil)
	if enginetest.Code(resp, err) >= 500 {
		require.True(w.T, namedIn(w, status) || status["damaged_entries"] != nil, "not named: %v in %v", err, status)
	}
	movesEnd(w, status)
	for _, id := range w.Rotations {
		resp, err := w.Call(enginetest.Read, enginetest.TenantPath("/dek/rotations/"+id), nil)
		if err != nil {
			continue // its description cannot be read
		}
		if resp.Data["waiting_for"] == enginetest.ProviderName {
			continue // it goes on once the provider answers
		}
		if st := resp.Data["status"]; st == "in_progress" || st == "rolling_back" {
			require.True(w.T, namedIn(w, status), "%s is %s, and status names nothing: %v", id, st, status)
		}
	}
}

// namedIn reports whether status says that something is wrong with TenantID.
func namedIn(w *enginetest.Oracle, status map[string]any) bool {
	return status["blocked_tenants"].(map[string]string)[enginetest.TenantID] != "" ||
		slices.Contains(status["failed_tenants"].([]string), enginetest.TenantID)
}

// heals lets everything be readable again. Then everything works, whatever was tried
// before.
func heals(w *enginetest.Oracle, s damageScenario, incarnation string) {
	w.T.Helper()
	w.Disk.Heal()
	w.Rests(3)
	keysLeft := w.Disk.Keys("keys/" + incarnation + "/")
	if _, err := w.Call(enginetest.Read, enginetest.TenantPath(""), nil); err != nil {
		require.ErrorContains(w.T, err, "not found")
		require.True(w.T, s.deletes)
		require.Empty(w.T, keysLeft)
		require.Empty(w.T, w.Disk.Keys("tenantkeks/"+incarnation[:2]+"/"+incarnation))
		return
	}
	asks(w, enginetest.Update, enginetest.TenantPath("/restore"), nil)
	resp, err := w.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
	if enginetest.Code(resp, err) != 409 {
		require.NoError(w.T, err)
	}
	w.Rests(2)
	latest := w.RotationsOf(enginetest.TenantID)[0]
	require.Equal(w.T, "completed", latest["status"], "%v", latest["failures"])
	require.Empty(w.T, w.Disk.Keys("wal/"))
	keysAreOnTheirKEK(w)
	for item, allowed := range w.Allowed {
		resp, err := w.Call(enginetest.Read, enginetest.ItemPath(item), nil)
		value := enginetest.Absent
		if err == nil {
			value = resp.Data["data"].(map[string]any)["value"].(string)
		} else {
			require.Equal(w.T, 404, enginetest.Code(resp, err), "reading %s: %v", item, err)
		}
		require.Contains(w.T, allowed, value, "item %s", item)
	}
	status := w.Must(enginetest.Read, "status", nil)
	require.False(w.T, namedIn(w, status), "%v", status)
	require.Empty(w.T, status["damaged_entries"])
}

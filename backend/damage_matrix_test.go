// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// The tenants of the matrix: testTenant has damaged entries, the others are whole.
const (
	wholeTenant = "11111111-1111-4111-8111-111111111111"
	goneTenant  = "22222222-2222-4222-8222-222222222222" // is deleted
)

// family is a kind of entries, with what damages one of it.
type family struct {
	name string
	// damage damages an entry of testTenant's, or of the mount's, whose record is t. It
	// reports whether there is one.
	damage func(d *storagetest.Disk, t *tenant.Record) bool
	mount  bool // an entry that all tenants share
	// hidesShard says that no tenant of a part can be found by its record.
	hidesShard bool
}

// unreadable is the family of the entries that match.
func unreadable(name string, err error, match func(t *tenant.Record, key string) bool) family {
	return family{name: name, damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		return d.Damage(err, func(key string) bool { return match(t, key) }) > 0
	}}
}

func ofMount(f family) family {
	f.mount = true
	return f
}

// startsWith matches the keys that begin with a prefix and the tenant's incarnation.
func startsWith(prefix, rest string) func(*tenant.Record, string) bool {
	return func(t *tenant.Record, key string) bool {
		return strings.HasPrefix(key, prefix+t.Incarnation+rest)
	}
}

// keyOf matches the key of a version, counted from the end.
func keyOf(fromEnd int, suffix string) func(*tenant.Record, string) bool {
	return func(t *tenant.Record, key string) bool {
		i := len(t.Keys.Versions) - 1 - fromEnd
		return i >= 0 && key == "keys/"+t.Incarnation+"/"+t.Keys.Versions[i].KeyID+suffix
	}
}

func exactly(want string) func(*tenant.Record, string) bool {
	return func(_ *tenant.Record, key string) bool { return key == want }
}

func unlistable(name string, prefix func(t *tenant.Record) string) family {
	return family{name: name, damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		d.DamageList(storagetest.ErrUnread, prefix(t))
		return true
	}}
}

func ofRecord(t *tenant.Record, key string) bool {
	return strings.HasPrefix(key, "tenants/") && strings.HasSuffix(key, t.ID)
}

// onePage damages the page, or delta, whose key comes first.
func onePage(name, kind string, err error) family {
	return family{name: name, damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		keys := d.Keys("pages/" + t.Incarnation + "/" + kind)
		return len(keys) > 0 && d.Damage(err, func(key string) bool { return key == keys[0] }) > 0
	}}
}

var families = []family{
	onePage("page", "p", storagetest.ErrAltered),
	onePage("page, of another key of Vault's", "p", storagetest.ErrTerm),
	onePage("page, with an error that says nothing", "p", storagetest.ErrUnread),
	onePage("delta", "d", storagetest.ErrAltered),
	unreadable("all pages", storagetest.ErrAltered, startsWith("pages/", "/p")),
	unlistable("list of pages", func(t *tenant.Record) string { return "pages/" + t.Incarnation + "/" }),
	unreadable("write-ahead log", storagetest.ErrAltered, func(_ *tenant.Record, key string) bool { return strings.HasPrefix(key, "wal/") }),
	unreadable("write-ahead log, with an error that says nothing", storagetest.ErrUnread,
		func(_ *tenant.Record, key string) bool { return strings.HasPrefix(key, "wal/") }),
	{name: "write-ahead log that shows nothing", damage: func(d *storagetest.Disk, _ *tenant.Record) bool {
		return d.Hide(storagetest.Below("wal/")) > 0
	}},
	unlistable("list of the write-ahead log", func(*tenant.Record) string { return "wal/" }),
	unreadable("record", storagetest.ErrAltered, ofRecord),
	unreadable("record, with an error that says nothing", storagetest.ErrUnread, ofRecord),
	unreadable("page key in use", storagetest.ErrAltered, keyOf(0, "")),
	unreadable("page key before it", storagetest.ErrAltered, keyOf(1, "")),
	unreadable("external key", storagetest.ErrAltered, keyOf(1, ".ext")),
	unreadable("placement key", storagetest.ErrAltered, func(t *tenant.Record, key string) bool { return strings.HasSuffix(key, t.PlacementKeyID) }),
	unlistable("list of keys", func(t *tenant.Record) string { return "keys/" + t.Incarnation + "/" }),
	unreadable("counts of seals", storagetest.ErrAltered, startsWith("seals/", "/")),
	unreadable("history", storagetest.ErrAltered, startsWith("history/", "/")),
	unlistable("list of the history", func(t *tenant.Record) string { return "history/" + t.Incarnation + "/" }),
	{name: "history that shows nothing", damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		return d.Hide(storagetest.Below("history/"+t.Incarnation)) > 0
	}},
	unreadable("progress", storagetest.ErrAltered, startsWith("progress/", "")),
	{name: "list of a part of the tenants", hidesShard: true, damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		d.DamageList(storagetest.ErrUnread, "tenants/"+shardName(t.ID)+"/")
		return true
	}},
	unlistable("list of all parts of the tenants", func(*tenant.Record) string { return "tenants/" }),
	ofMount(unreadable("configuration", storagetest.ErrAltered, exactly("config"))),
	unreadable("rotation settings", storagetest.ErrAltered, exactly("settings")),
	unreadable("wrapping key", storagetest.ErrAltered, exactly("import/wrapping_key")),
	unreadable("progress of the KEK", storagetest.ErrAltered, exactly("kek/progress")),
}

// shardName is the part of the keys of records in which a tenant lies.
func shardName(tenantID string) string {
	const digits = "0123456789abcdef"
	n := tenant.ShardOf(tenantID)
	return string([]byte{digits[n>>4], digits[n&15]})
}

// damageScenario is what happens beside damaged entries.
type damageScenario struct {
	name    string
	act     func(*witness)
	deletes bool
}

// asks makes a request that may fail, but not with a secret in its error.
func (w *witness) asks(op logical.Operation, path string, data map[string]any) int {
	w.t.Helper()
	resp, err := w.call(op, path, data)
	if err != nil {
		require.NotContains(w.t, err.Error(), "xxxx", "%s %s", op, path)
	}
	return code(resp, err)
}

var damageScenarios = []damageScenario{
	{name: "write", act: func(w *witness) {
		for i := range 6 {
			w.put("bulk/"+string(rune('0'+i)), "written beside damage")
		}
		w.remove("bulk/7")
		w.bulk(10, 3000)
	}},
	{name: "list", act: func(w *witness) {
		w.asks(list, tenantPath("/secrets/"), nil)
		w.asks(list, tenantPath("/secrets/"), map[string]any{"partial": true})
		w.asks(list, tenantPath("/dek/rotations"), nil)
		w.asks(list, "tenants", nil)
	}},
	{name: "rotate", act: (*witness).rotate},
	{name: "cancel", act: func(w *witness) {
		w.rotate()
		w.act("cancel", "rolled_back")
	}},
	{name: "retry", act: func(w *witness) {
		w.rotate()
		w.rests(5)
		w.act("retry", "completed")
	}},
	{name: "rotate the KEK", act: func(w *witness) { w.asks(update, "kek/rotate", nil) }},
	{name: "delete", deletes: true, act: func(w *witness) {
		if w.asks(del, tenantPath(""), map[string]any{"deletion_window": 0}) == 204 {
			w.created = false
		}
	}},
	{name: "delete and restore", act: func(w *witness) {
		w.asks(del, tenantPath(""), map[string]any{"deletion_window": "720h"})
		w.asks(update, tenantPath("/restore"), nil)
	}},
	{name: "all are asked for", act: func(w *witness) { w.asks(update, "rotations", map[string]any{"all": true}) }},
	{name: "import", act: func(w *witness) { w.importKey(1) }},
	{name: "encrypt", act: func(w *witness) {
		for range 4 {
			w.asks(update, tenantPath("/encrypt"), map[string]any{"plaintext": "eHh4eA=="})
			w.asks(update, tenantPath("/datakey/wrapped"), nil)
		}
	}},
	{name: "time passes", act: func(w *witness) { w.rests(5) }},
}

// damageMoments are when damage strikes.
var damageMoments = []string{"from the start", "while a rotation is unfinished", "in the middle"}

// prepareDamage returns a disk at rest, and one with an unfinished rotation.
func prepareDamage(t *testing.T) (rest, unfinished func() *witness) {
	t.Helper()
	var atRest, inTheMiddle *storagetest.Disk
	var knownAtRest, knownInTheMiddle *witness
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.must(update, "config", map[string]any{"rotation_parallelism": 1, "scheduler_jitter": 0, "min_deletion_window": 0})
		m.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "365_DAYS"})
		m.publicKey()
		w := newWitness(m)
		w.createAES()
		w.bulk(25, 3000)
		w.encrypt("outside")
		w.rotate()
		advance(time.Second)
		w.deltas()
		for _, id := range []string{wholeTenant, goneTenant} {
			m.must(update, "tenants/"+id, nil)
			m.must(update, "tenants/"+id+"/secrets/a", secret("v"))
		}
		atRest, knownAtRest = m.disk.Clone(), w.on(&mount{})
		held := w.holdAfter("pages/")
		w.rotate()
		synctest.Wait()
		require.True(t, held.Load())
		m.disk.Set("progress/"+w.record().Incarnation, []byte(`{"rotation_id":"`+w.rotations[1]+`"}`))
		inTheMiddle, knownInTheMiddle = m.disk.Clone(), w.on(&mount{})
		m.crash()
	})
	return func() *witness { return knownAtRest.on(&mount{disk: atRest.Clone()}) },
		func() *witness { return knownInTheMiddle.on(&mount{disk: inTheMiddle.Clone()}) }
}

// rests lets minutes pass.
func (w *witness) rests(minutes int) {
	for range minutes {
		w.tick()
	}
}

// TestDamageMatrix damages one entry of each family, at each moment of each scenario. It
// is testTenant's alone, or the mount's; whatever it is, every other tenant is served,
// what was begun ends, and it heals.
func TestDamageMatrix(t *testing.T) {
	inOrder(t)
	cryptotest.SetGlobalRandom(t, seedOf(t))
	rest, unfinished := prepareDamage(t)
	cases := 0
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for _, s := range damageScenarios {
				for _, moment := range damageMoments {
					prepared := rest
					if moment == damageMoments[1] {
						prepared = unfinished
					}
					ran := false
					ok := t.Run(s.name+", "+moment, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { ran = damageAt(t, prepared(), f, s, moment) })
					})
					if !ok {
						t.FailNow() // one is enough to look into
					}
					if ran {
						cases++
					}
				}
			}
		})
	}
	if !t.Failed() {
		t.Logf("%d families, %d scenarios, %d moments: %d cases, no violation", len(families), len(damageScenarios), len(damageMoments), cases)
	}
}

// damageAt runs one case. It reports whether there was an entry to damage.
func damageAt(t *testing.T, before *witness, f family, s damageScenario, moment string) (ran bool) {
	before.t = t
	rec := before.record()
	if moment != damageMoments[2] && !f.damage(before.disk, rec) {
		return false
	}
	m := openMount(t, before.disk, 0, storagetest.None)
	defer m.close()
	w := before.on(m)
	if moment == damageMoments[2] {
		synctest.Wait()
		ran = true
		m.storage.StrikeAt(9, func(d *storagetest.Disk) { f.damage(d, rec) })
	}
	s.act(w)
	w.rests(8)
	w.everyoneElseIsServed(f)
	w.everythingEnds()
	w.heals(s, rec.Incarnation)
	return true
}

// everyoneElseIsServed writes to, rotates and deletes tenants that are whole.
func (w *witness) everyoneElseIsServed(f family) {
	w.t.Helper()
	whole := "tenants/" + wholeTenant
	w.must(update, whole+"/secrets/b", secret("new"))
	w.must(read, whole+"/secrets/a", nil)
	w.must(list, whole+"/secrets/", nil)
	w.must(update, whole+"/decrypt", map[string]any{"ciphertext": w.encrypted(wholeTenant, "x")})
	before := len(w.rotationsOf(wholeTenant))
	id := w.must(update, whole+"/dek/rotate", nil)["rotation_id"].(string)
	advance(time.Second)
	require.Equal(w.t, "completed", w.must(read, whole+"/dek/rotations/"+id, nil)["status"])
	w.must(update, "rotations", map[string]any{"tenants": []any{wholeTenant}})
	w.rests(2)
	require.Len(w.t, w.rotationsOf(wholeTenant), before+2, "one by hand, one asked for")
	window := any(0)
	if f.mount {
		window = "720h" // its configuration cannot be read
	}
	w.must(del, "tenants/"+goneTenant, map[string]any{"deletion_window": window})
}

// everythingEnds looks for what goes on for ever, and for what status does not name.
func (w *witness) everythingEnds() {
	w.t.Helper()
	_, _ = w.call(read, tenantPath("/dek"), nil) // somebody finds the damage
	w.rests(7)
	require.True(w.t, w.b.Schedule.Budget().Empty(), "places in the budget")
	require.NotEqual(w.t, "in_progress", w.must(read, "kek", nil)["status"], "rotation of the KEK")
	_, err := w.call(list, "rotations", nil)
	require.NoError(w.t, err)

	status := w.must(read, "status", nil)
	resp, err := w.call(read, tenantPath("/dek"), nil)
	if code(resp, err) >= 500 {
		require.True(w.t, w.namedIn(status) || len(status["damaged_entries"].(map[string]int)) > 0, "not named: %v in %v", err, status)
	}
	for _, id := range w.rotations {
		resp, err := w.call(read, tenantPath("/dek/rotations/"+id), nil)
		if err != nil {
			continue // its description cannot be read
		}
		if st := resp.Data["status"]; st == "in_progress" || st == "rolling_back" {
			require.True(w.t, w.namedIn(status), "%s is %s, and status names nothing: %v", id, st, status)
		}
	}
}

// namedIn reports whether status says that something is wrong with testTenant.
func (w *witness) namedIn(status map[string]any) bool {
	return status["blocked_tenants"].(map[string]string)[testTenant] != "" ||
		slices.Contains(status["failed_tenants"].([]string), testTenant)
}

// heals lets everything be readable again. Then everything works, whatever was tried
// before.
func (w *witness) heals(s damageScenario, incarnation string) {
	w.t.Helper()
	w.disk.Heal()
	w.rests(3)
	keysLeft := w.disk.Keys("keys/" + incarnation + "/")
	if _, err := w.call(read, tenantPath(""), nil); err != nil {
		require.ErrorContains(w.t, err, "not found")
		require.True(w.t, s.deletes)
		require.Empty(w.t, keysLeft)
		return
	}
	w.asks(update, tenantPath("/restore"), nil)
	resp, err := w.call(update, tenantPath("/dek/rotate"), nil)
	if code(resp, err) != 409 {
		require.NoError(w.t, err)
	}
	w.rests(2)
	latest := w.rotationsOf(testTenant)[0]
	require.Equal(w.t, "completed", latest["status"], "%v", latest["failures"])
	require.Empty(w.t, w.disk.Keys("wal/"))
	for item, allowed := range w.allowed {
		resp, err := w.call(read, itemPath(item), nil)
		value := absent
		if err == nil {
			value = resp.Data["data"].(map[string]any)["value"].(string)
		} else {
			require.Equal(w.t, 404, code(resp, err), "reading %s: %v", item, err)
		}
		require.Contains(w.t, allowed, value, "item %s", item)
	}
	status := w.must(read, "status", nil)
	require.False(w.t, w.namedIn(status), "%v", status)
	require.Empty(w.t, status["damaged_entries"])
}
